"""Runs one Pod from its binding to a node until its deletion: address, volumes, containers, status in the API.

Which Pods there are, and when one has to go, is decided by `kubelet`.
"""

import asyncio
import datetime
import logging
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.errors import Conflict, Missing, ServiceError
from libs.chassis.kube import MERGE_PATCH, KubeClient
from tools.localcluster.addresses import AddressPlan, to_loopback
from tools.localcluster.kube import until_reachable
from tools.localcluster.kubelet.conditions import ContainerState, pod_conditions, pod_phase
from tools.localcluster.kubelet.containers import BackOff, Container, Launch
from tools.localcluster.kubelet.environment import (
    MissingReference,
    Object,
    Placement,
    Sources,
    container_variables,
    expand,
    path_mapping,
    rewrite_names,
    rewrite_paths,
)
from tools.localcluster.kubelet.images import Images
from tools.localcluster.kubelet.volumes import Volumes

_log = logging.getLogger(__name__)
_VOLUME_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Surroundings:
    """What all Pods of a cluster share."""

    kube: KubeClient
    plan: AddressPlan
    images: Images
    sources: Sources
    links: Callable[[str, bool], dict[str, str]]
    logs: Path
    back_off: BackOff


class Pod:
    """One Pod on one node. `run` ends when the Pod is gone from the API or its node lost power."""

    def __init__(self, pod: Object, *, node_folder: Path, node_address: str, surroundings: Surroundings) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.node = spec["nodeName"]
        self.labels: dict[str, str] = metadata.get("labels", {})
        self._pod = pod
        self._around = surroundings
        self._folder = node_folder / "pods" / self.uid
        self._node_root = node_folder / "root"
        self._node_address = node_address
        self._address = node_address if spec.get("hostNetwork") else surroundings.plan.claim_pod_address()
        self._placement = Placement(self.node, to_loopback(self._address), to_loopback(node_address))
        self._volumes = Volumes(
            pod,
            self._placement,
            kube=surroundings.kube,
            sources=surroundings.sources,
            pod_folder=self._folder,
            node_root=self._node_root,
        )
        self._logs = surroundings.logs / f"{self.namespace}_{self.name}_{self.uid}"
        self._policy = spec.get("restartPolicy", "Always")
        self._dirty = asyncio.Event()
        self._references_changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._grace_seconds: float = spec.get("terminationGracePeriodSeconds", 30)
        self._conditions: Sequence[Object] = pod.get("status", {}).get("conditions", [])
        self._start_time = pod.get("status", {}).get("startTime") or _now()
        # An initializer that is done is done for good, unlike a container.
        initializer_policy = "OnFailure" if self._policy == "Always" else self._policy
        self._initializers = [self._container(entry, initializer_policy) for entry in spec.get("initContainers", [])]
        self._containers = [self._container(entry, self._policy) for entry in spec["containers"]]

    @property
    def containers(self) -> list[Container]:
        return [*self._initializers, *self._containers]

    @property
    def address(self) -> str:
        """Where its processes listen."""
        return self._placement.pod_address

    def end(self, grace_seconds: float) -> None:
        """Ask for an orderly end; a later request without grace makes it immediate."""
        if self._ending.is_set() and grace_seconds == 0:
            for container in self.containers:
                container.signal(signal.SIGKILL)
        self._grace_seconds = grace_seconds
        self._ending.set()

    def reconsider_references(self) -> None:
        """A ConfigMap or Secret has changed somewhere."""
        self._references_changed.set()

    async def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._publish_changes())
                living = group.create_task(self._live())
                await self._ending.wait()
                living.cancel()
                await asyncio.wait([living])
                await asyncio.gather(*(container.stop(self._grace_seconds) for container in self.containers))
                publishing.cancel()
            await self._publish()
            await self._delete()
        finally:
            for container in self.containers:
                container.signal(signal.SIGKILL)
            if not self._pod["spec"].get("hostNetwork"):
                self._around.plan.release_pod_address(self._address)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _container(self, spec: Object, policy: str) -> Container:
        async def prepare() -> Launch:
            return self._launch(spec)

        return Container(
            spec,
            restart_policy=policy,
            grace_seconds=self._grace_seconds,
            address=self._placement.pod_address,
            log=self._logs / f"{spec['name']}.log",
            back_off=self._around.back_off,
            prepare=prepare,
            changed=self._dirty.set,
        )

    def _launch(self, spec: Object) -> Launch:
        images, plan = self._around.images, self._around.plan
        home = self._folder / "containers" / spec["name"]
        home.mkdir(parents=True, exist_ok=True)
        termination_log = home / "termination-log"
        termination_log.unlink(missing_ok=True)
        links = self._around.links(self.namespace, self._pod["spec"].get("enableServiceLinks", True))
        variables = container_variables(self._pod, spec, self._placement, self._around.sources, links)
        mapping = path_mapping(spec.get("volumeMounts", []), self._volumes.mounted, self._node_root)
        mapping[spec.get("terminationMessagePath", "/dev/termination-log")] = str(termination_log)

        def localized(text: str) -> str:
            return rewrite_names(rewrite_paths(text, mapping), plan.name_address)

        def word(text: str) -> str:
            return localized(expand(text, variables))

        command = images.command(
            spec["image"],
            [word(text) for text in spec.get("command", [])],
            [word(text) for text in spec.get("args", [])],
        )
        own = {name: localized(value) for name, value in variables.items()}
        # A container's host name is its Pod's name; a local process can only be told so.
        image_variables = images.variables(home) | {"HOSTNAME": self.name}
        if "/tmp" in mapping:
            image_variables["TMPDIR"] = mapping["/tmp"]
        return Launch(command, image_variables | own, home, termination_log)

    async def _live(self) -> None:
        await self._publish()
        await self._mount_volumes()
        async with asyncio.TaskGroup() as group:
            refreshing = group.create_task(self._refresh_volumes())
            await self._run_containers()
            refreshing.cancel()

    async def _run_containers(self) -> None:
        for initializer in self._initializers:
            if await initializer.run() != 0:
                return
        async with asyncio.TaskGroup() as group:
            for container in self._containers:
                group.create_task(container.run())

    async def _mount_volumes(self) -> None:
        while True:
            self._references_changed.clear()
            try:
                await self._volumes.mount()
                return
            except MissingReference as error:
                self._explain_waiting("ContainerCreating", f"MountVolume.SetUp failed: {error}")
            except ServiceError as error:
                self._explain_waiting("ContainerCreating", f"MountVolume.SetUp failed: {error}")
                await asyncio.sleep(_VOLUME_RETRY_SECONDS)
                continue
            await self._wait_for_references(timeout=5.0)

    def _explain_waiting(self, reason: str, message: str) -> None:
        for container in self.containers:
            container.state.state = {"waiting": {"reason": reason, "message": message}}
        self._dirty.set()

    async def _refresh_volumes(self) -> None:
        """Rewrite files when a source has changed or a token gets old, as long as containers run."""
        while True:
            await self._wait_for_references(timeout=self._volumes.seconds_to_renewal())
            self._references_changed.clear()
            try:
                await self._volumes.mount()
            except (MissingReference, ServiceError) as error:
                # What is mounted stays as it is; a real kubelet does not take a running container's files away either.
                _log.debug("volumes of %s/%s not refreshed: %s", self.namespace, self.name, error)
                await asyncio.sleep(_VOLUME_RETRY_SECONDS)

    async def _wait_for_references(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._references_changed.wait()
        except TimeoutError:
            return

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            await self._publish()

    async def _publish(self) -> None:
        self._dirty.clear()
        patch = {"metadata": {"uid": self.uid}, "status": self._status()}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"
        try:
            await until_reachable(lambda: self._around.kube.request("PATCH", path, patch, content_type=MERGE_PATCH))
        except ServiceError as error:
            # Gone, or another Pod has taken the name: whoever watches Pods will end this one.
            _log.debug("status of %s/%s not written: %s", self.namespace, self.name, error)

    def _status(self) -> Object:
        initializers = [container.state for container in self._initializers]
        containers = [container.state for container in self._containers]
        phase = pod_phase(initializers, containers, self._policy)
        self._conditions = pod_conditions(self._conditions, initializers, containers, phase, _now())
        status: Object = {
            "phase": phase,
            "conditions": self._conditions,
            "hostIP": self._node_address,
            "hostIPs": [{"ip": self._node_address}],
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": self._start_time,
            "observedGeneration": self._pod["metadata"].get("generation"),
            "containerStatuses": _statuses(containers),
        }
        if initializers:
            status["initContainerStatuses"] = _statuses(initializers)
        return status

    async def _delete(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        try:
            await until_reachable(lambda: self._around.kube.request("DELETE", path, body))
        except Conflict:
            # Another Pod has taken the name.
            return
        except Missing as error:
            if error.reason != "NotFound":
                raise


def _statuses(states: Sequence[ContainerState]) -> list[Object]:
    return [state.as_status() for state in states]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
