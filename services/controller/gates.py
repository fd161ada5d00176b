"""Pods that wait for a model: which one, until when, and what changes in a Pod that may be scheduled.

A Pod waits if it has our scheduling gate. The label beside it only helps to find such Pods among all others. Pure.
"""

from collections.abc import Mapping
from typing import Any

from services.controller.use import MODEL_ANNOTATION, named_model

# What deploy/helm/controller/templates/pods.yaml makes of what a Pod says. A test holds both together.
GATE = "models.ome.io/ready"
WAITING_LABEL = "models.ome.io/awaits-model"
SELECTOR = {"labelSelector": f"{WAITING_LABEL}=true"}

# Namespace and name of a BaseModel or, without namespace, of a ClusterBaseModel.
Place = tuple[str, str]


def kept_of_pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a Pod here."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    if WAITING_LABEL in (metadata.get("labels") or {}):
        kept["labels"] = {WAITING_LABEL: metadata["labels"][WAITING_LABEL]}
    named = named_model(metadata)
    annotations = {MODEL_ANNOTATION: named} if named else {}
    return {
        "metadata": {**kept, "annotations": annotations},
        "spec": {"schedulingGates": spec.get("schedulingGates") or []},
    }


def place_of_model(pod: Mapping[str, Any]) -> Place | None:
    """The model that a Pod names; None without one, and for a BaseModel of another namespace, which is not for it."""
    metadata = pod["metadata"]
    named = (metadata.get("annotations") or {}).get(MODEL_ANNOTATION) or ""
    namespace, slash, name = named.rpartition("/")
    if not name or (slash and namespace != metadata.get("namespace")):
        return None
    return namespace, name


def is_waiting(pod: Mapping[str, Any]) -> bool:
    """Whether our gate keeps a Pod from being scheduled."""
    return any(gate.get("name") == GATE for gate in pod["spec"]["schedulingGates"])


def may_start(model: Mapping[str, Any] | None) -> bool:
    """Whether Pods that wait for a model may be scheduled: as soon as one node holds it."""
    return bool(((model or {}).get("status") or {}).get("nodesReady"))


def lifting(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The JSON patch that takes our gate and label off a Pod, if it is still the one that was looked at."""
    gates = pod["spec"]["schedulingGates"]
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
        {"op": "test", "path": "/spec/schedulingGates", "value": gates},
        {"op": "replace", "path": "/spec/schedulingGates", "value": [each for each in gates if each["name"] != GATE]},
    ]
    if WAITING_LABEL in (pod["metadata"].get("labels") or {}):
        operations.append({"op": "remove", "path": f"/metadata/labels/{WAITING_LABEL.replace('/', '~1')}"})
    return operations
