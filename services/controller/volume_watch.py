"""What the controller sees of PersistentVolumeClaims and of its own Jobs, by model; creates and deletes the Jobs.

Owns their reflectors. What a claim or a Job means is said in inspection_jobs, what to do about it in volumes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable

import structlog

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Conflict, Invalid, Missing
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.reflector import Reflector
from ome.model.v1 import model_pb2
from ome.parser.v1 import parser_pb2
from services.controller import inspection_jobs, volumes
from services.controller.kube import CLAIMS, JOBS, PODS, create_job, delete_job
from services.controller.specification import ModelSpec

_log = structlog.get_logger()


class VolumeWatch:
    """Copies of claims, Jobs and Pods; changed is called with the uid of each model that a change concerns."""

    def __init__(self, image: str, changed: Callable[[str], None], health: Health) -> None:
        self._image = image
        self._changed = changed
        self._claims = Reflector(CLAIMS, "persistentvolumeclaims", health, project=inspection_jobs.kept_of_claim)
        selector = inspection_jobs.SELECTOR
        self._jobs = Reflector(JOBS, "jobs", health, selector, project=inspection_jobs.kept_of_job)
        self._pods = Reflector(PODS, "pods", health, selector, project=inspection_jobs.kept_of_pod)
        self._places: dict[str, volumes.ClaimDirectory] = {}
        self._readers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._jobs_of: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self._pods_of: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        # By the monotonic clock: the API server's may differ, and that of the day may be set.
        self._known_since: dict[str, float] = {}
        self._refusals: dict[str, volumes.Refusal] = {}

    def model_changed(self, uid: str, model: ModelSpec | None) -> None:
        """A model is as given now; None for one that went."""
        try:
            place = volumes.place_of(model) if model else None
        except InvalidValue:
            place = None
        if before := self._places.pop(uid, None):
            key = (before.namespace, before.claim)
            self._readers[key].discard(uid)
            if not self._readers[key]:
                del self._readers[key]
        if place:
            self._places[uid] = place
            self._readers[place.namespace, place.claim].add(uid)
        else:
            self._refusals.pop(uid, None)

    def knows(self, uid: str) -> bool:
        """Whether there are Jobs of a model."""
        return uid in self._jobs_of

    def uids(self) -> set[str]:
        """Models of which there are Jobs."""
        return set(self._jobs_of)

    def seen(self, uid: str) -> volumes.Seen:
        """What there is of a model's claim and Jobs."""
        place = self._places.get(uid)
        claim = self._claims.objects.get((place.namespace, place.claim)) if place else None
        pods = self._pods_of.get(uid, {}).values()
        jobs = [
            inspection_jobs.view_job(job, pods, self._known_since[job_uid])
            for job_uid, job in self._jobs_of.get(uid, {}).items()
        ]
        return volumes.Seen(
            claim=inspection_jobs.view_claim(claim) if claim else None,
            jobs=[job for job in jobs if job],
            refusal=self._refusals.get(uid),
        )

    async def create(self, kube: KubeClient, create: volumes.CreateJob) -> None:
        """Create a Job. One that Kubernetes refuses becomes an answer of its own; raises Unavailable."""
        uid = create.model.uid
        try:
            job = await create_job(kube, inspection_jobs.job_manifest(create, self._image))
        except (Missing, Invalid) as error:
            self._refuse(create, f"no Job may be created for it: {error.message}")
            return
        if inspection_jobs.model_of(job) != uid:
            # Somebody else's, or ours without its label: it would never be heard of. The next has another name.
            self._refuse(create, f"Job {job['metadata']['namespace']}/{job['metadata']['name']} stands in the way")
            return
        self._refusals.pop(uid, None)
        self._jobs.absorb(job, self._job_changed)

    async def delete(self, kube: KubeClient, delete: volumes.DeleteJob) -> None:
        """Delete a Job. One that was replaced meanwhile is left alone."""
        try:
            await delete_job(kube, delete.namespace, delete.name, delete.uid)
        except Conflict as error:
            _log.info("job_replaced", job=f"{delete.namespace}/{delete.name}", message=error.message)

    def _refuse(self, create: volumes.CreateJob, why: str) -> None:
        finding = parser_pb2.Finding(reason=model_pb2.REASON_UNAVAILABLE, message=why)
        report = parser_pb2.InspectionReport(problem=finding)
        self._refusals[create.model.uid] = volumes.Refusal(create.subject, create.number, report)
        self._changed(create.model.uid)

    async def synced(self) -> None:
        """Wait until everything has been listed once."""
        for reflector in (self._claims, self._jobs, self._pods):
            await reflector.synced()

    async def run(self, kube: KubeClient) -> None:
        """Keep the copies current until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claims.run(kube, self._claim_changed))
            group.create_task(self._jobs.run(kube, self._job_changed))
            group.create_task(self._pods.run(kube, self._pod_changed))

    def _claim_changed(self, before: Object | None, after: Object | None) -> None:
        if before and after and inspection_jobs.view_claim(before) == inspection_jobs.view_claim(after):
            return
        metadata = (after or before or {})["metadata"]
        for uid in self._readers.get((metadata["namespace"], metadata["name"]), ()):
            self._changed(uid)

    def _job_changed(self, before: Object | None, after: Object | None) -> None:
        if after:
            self._known_since.setdefault(after["metadata"]["uid"], time.monotonic())
        if before and (after is None or after["metadata"]["uid"] != before["metadata"]["uid"]):
            self._known_since.pop(before["metadata"]["uid"], None)
        self._index(self._jobs_of, before, after)

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        self._index(self._pods_of, before, after)

    def _index(self, index: defaultdict[str, dict[str, Object]], before: Object | None, after: Object | None) -> None:
        if before:
            uid = inspection_jobs.model_of(before)
            index[uid].pop(before["metadata"]["uid"], None)
            if not index[uid]:
                del index[uid]
            self._changed(uid)
        if after:
            uid = inspection_jobs.model_of(after)
            index[uid][after["metadata"]["uid"]] = after
            self._changed(uid)
