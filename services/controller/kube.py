"""What the controller asks of the Kubernetes API beyond watching: finalizers, Secrets and Jobs."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from libs.artifact.reasons import Reason
from libs.artifact.specification import FINALIZER
from libs.chassis.errors import Conflict, Invalid, Missing
from libs.chassis.kube import JSON, JSON_PATCH, METADATA_ONLY, KubeClient, Object
from libs.model.kinds import GROUP_VERSION, KINDS, kind_named
from services.controller.gates import Word, lifting

GROUP = f"/apis/{GROUP_VERSION}"
MODEL_COLLECTIONS = tuple(f"{GROUP}/{kind.plural}" for kind in KINDS)
SERVICES = f"{GROUP}/inferenceservices"
NODES = "/api/v1/nodes"
CLAIMS = "/api/v1/persistentvolumeclaims"
JOBS = "/apis/batch/v1/jobs"
PODS = "/api/v1/pods"
# Who speaks in an Event; guard.yaml permits this name only.
REPORTING_CONTROLLER = "ome.io/controller"
# Limit of Event.note in k8s.io/api/events/v1.
_NOTE_BYTES = 1024
_EVENT_NAME_LENGTH = 200

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


async def add_finalizer(client: KubeClient, item: Object) -> None:
    """Put our finalizer on an object. Raises Conflict when its finalizers have changed meanwhile."""
    finalizers = item["metadata"].get("finalizers")
    if finalizers is None:
        await _patch(client, item, [{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}])
        return
    await _patch(
        client,
        item,
        [
            {"op": "test", "path": "/metadata/finalizers", "value": finalizers},
            {"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER},
        ],
    )


async def remove_finalizer(client: KubeClient, item: Object) -> None:
    """Take our finalizer off an object; one that is already gone is fine. Raises Conflict as add_finalizer does."""
    finalizers = item["metadata"].get("finalizers") or []
    try:
        await _patch(
            client,
            item,
            [
                {"op": "test", "path": "/metadata/finalizers", "value": finalizers},
                {"op": "replace", "path": "/metadata/finalizers", "value": [n for n in finalizers if n != FINALIZER]},
            ],
        )
    except Missing as error:
        if error.reason is not Reason.NOT_FOUND:
            raise


@dataclass(frozen=True)
class StoredSecret:
    """A Secret as it is now. state changes whenever the Secret does and tells nothing of its values."""

    state: str
    data: Mapping[str, bytes] = field(repr=False)
    type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


async def read_secret(client: KubeClient, namespace: str, name: str) -> StoredSecret | None:
    """Keys and values of a Secret; None when it does not exist or may not be read."""
    found = await _get_secret(client, namespace, name)
    if found is None:
        return None
    return StoredSecret(
        _state(found),
        {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()},
        found.get("type") or "",
        found["metadata"].get("annotations") or {},
    )


async def read_secret_state(client: KubeClient, namespace: str, name: str) -> str:
    """The state of a Secret, without its values leaving the API server; empty when it does not exist."""
    found = await _get_secret(client, namespace, name, METADATA_ONLY.format("PartialObjectMetadata"))
    return "" if found is None else _state(found)


async def _get_secret(client: KubeClient, namespace: str, name: str, accept: str = JSON) -> Object | None:
    if not _NAME.fullmatch(name):
        # A model from before the rules of the CRD may hold anything, and this becomes a part of a path.
        return None
    try:
        return await client.get(f"/api/v1/namespaces/{namespace}/secrets/{name}", accept=accept)
    except Missing:
        return None


def _state(item: Object) -> str:
    # One that is made anew under its name may by chance be in the same revision.
    return f"{item['metadata']['uid']}/{item['metadata']['resourceVersion']}"


async def create_job(client: KubeClient, manifest: Object) -> Object:
    """Create a Job, or return the one that has the name already. Raises Missing or Invalid when it is refused."""
    metadata = manifest["metadata"]
    jobs = _jobs_in(metadata["namespace"])
    try:
        return await client.request("POST", jobs, manifest)
    except Conflict:
        return await client.get(f"{jobs}/{metadata['name']}")


async def delete_job(client: KubeClient, namespace: str, name: str, uid: str) -> None:
    """Delete a Job and its Pods; one that is already gone is fine. Raises Conflict when another has its name."""
    options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
    try:
        await client.request("DELETE", f"{_jobs_in(namespace)}/{name}", options)
    except Missing as error:
        if error.reason is not Reason.NOT_FOUND:
            raise


async def lift_gate(client: KubeClient, pod: Object) -> None:
    """Take our scheduling gate off a Pod; one that is gone is fine. Raises Conflict when it has changed meanwhile."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    try:
        await client.request("PATCH", path, lifting(pod), content_type=JSON_PATCH)
    except Missing as error:
        if error.reason is not Reason.NOT_FOUND:
            raise
    except Invalid as error:
        # As below: a test that does not hold answers 422.
        raise Conflict(Reason.CONFLICT, error.message) from error


async def record_event(client: KubeClient, pod: Object, word: Word, instance: str) -> None:
    """Tell a Pod something by an Event; raises as KubeClient.request does."""
    metadata, now = pod["metadata"], datetime.now(UTC)
    regarding = {"apiVersion": "v1", "kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        # As elsewhere: generateName takes no prefix that ends in a dot.
        "metadata": {"name": f"{metadata['name'][:_EVENT_NAME_LENGTH].rstrip('-.')}.{int(now.timestamp() * 1e6):x}"},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance,
        "action": "AwaitModel",
        "type": word.type,
        "reason": word.reason,
        "note": word.note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "regarding": regarding,
    }
    await client.request("POST", f"/apis/events.k8s.io/v1/namespaces/{metadata['namespace']}/events", event)


def _jobs_in(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


async def _patch(client: KubeClient, item: Object, operations: list[dict[str, Any]]) -> None:
    metadata = item["metadata"]
    scope = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
    path = f"{GROUP}{scope}/{kind_named(item['kind']).plural}/{metadata['name']}"
    operations = [{"op": "test", "path": "/metadata/uid", "value": metadata["uid"]}, *operations]
    try:
        await client.request("PATCH", path, operations, content_type=JSON_PATCH)
    except Invalid as error:
        # A test that does not hold answers 422: the object is not the one that we have seen.
        raise Conflict(Reason.CONFLICT, error.message) from error
