"""Pods that wait for a model: which one, until when, what they are told, and what changes in one that may be scheduled.

A Pod waits if it has our scheduling gate. The label beside it only helps to find such Pods among all others. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.wording import one_line
from services.controller.use import MODEL_ANNOTATION, named_model

# What deploy/helm/controller/templates/pods.yaml makes of what a Pod says. A test holds both together.
GATE = "models.ome.io/ready"
WAITING_LABEL = "models.ome.io/awaits-model"
SELECTOR = {"labelSelector": f"{WAITING_LABEL}=true"}

NORMAL, WARNING = "Normal", "Warning"
# How the labels of nodes begin that name a model; libs/artifact/labels.py makes them.
_MODEL_LABELS = "models.ome.io/"

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
    selects = any(
        key.startswith(_MODEL_LABELS) and value == "Ready" for key, value in (spec.get("nodeSelector") or {}).items()
    )
    return {
        "metadata": {**kept, "annotations": annotations},
        "spec": {"schedulingGates": spec.get("schedulingGates") or []},
        # Whether it can only go to nodes that hold a model.
        "selects": selects,
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


def may_be_released(pod: Mapping[str, Any], model: Mapping[str, Any] | None) -> bool:
    """Whether a waiting Pod may be scheduled. A model in a claim is on no node, so it is enough that it is Ready; but a
    Pod that selects nodes which hold it would only wait elsewhere.
    """
    if model is not None and _is_in_claim(model):
        return (model.get("status") or {}).get("state") == "Ready" and not pod["selects"]
    return may_start(model)


@dataclass(frozen=True)
class Word:
    """What a Pod is told by an Event. Two words of one reason and state are the same news."""

    type: str
    reason: str
    state: str
    note: str

    @property
    def news(self) -> tuple[str, str]:
        """What makes it worth another Event."""
        return self.reason, self.state


def word_of_waiting(pod: Mapping[str, Any], model: Mapping[str, Any] | None) -> Word:
    """Why a Pod waits, for whoever looks at it.

    It says of a model what everybody may know who may name it: whether it is there, how it stands, on how many nodes.
    """
    place = place_of_model(pod)
    if place is None:
        why = (
            f"the annotation {MODEL_ANNOTATION} names no model that the Pod may wait for, so it waits for ever: make "
            "it anew with NAME of a ClusterBaseModel, or NAMESPACE/NAME of a BaseModel of its own namespace"
        )
        return Word(WARNING, "ModelNotNamed", "", why)
    named, resource = _shown(place)
    if model is None:
        return Word(WARNING, "ModelNotFound", "", f"waits for {named}, which does not exist")
    status = model.get("status") or {}
    state = str(status.get("state") or "Creating")
    if _is_in_claim(model) and pod["selects"]:
        why = (
            f"{named} lies in a volume claim and is on no node, but the Pod may go only to nodes that hold it, "
            "so it waits for ever: make it anew without models.ome.io/placement, and mount the claim"
        )
        return Word(WARNING, "ModelOnNoNode", "", why)
    command = f"kubectl describe {resource} tells more"
    desired = (status.get("nodes") or {}).get("desired") or 0
    nodes = "" if _is_in_claim(model) else f" on any of {desired} nodes" if desired else " and meant for no node"
    if state == "Failed":
        return Word(WARNING, "WaitingForModel", state, f"waits for {named}, which has failed; {command}")
    return Word(NORMAL, "WaitingForModel", state, f"waits for {named}, which is not Ready{nodes}; {command}")


def word_of_release(pod: Mapping[str, Any], model: Mapping[str, Any]) -> Word:
    """That a Pod may be scheduled."""
    named, _ = _shown(place_of_model(pod) or ("", ""))
    count = len((model.get("status") or {}).get("nodesReady") or ())
    where = "in its claim" if not count else "on 1 node" if count == 1 else f"on {count} nodes"
    return Word(NORMAL, "ModelReady", "", f"{named} is Ready {where}: the Pod may be scheduled")


def _is_in_claim(model: Mapping[str, Any]) -> bool:
    storage = (model.get("spec") or {}).get("storage") or {}
    return str(storage.get("storageUri") or "").startswith("pvc://")


def _shown(place: Place) -> tuple[str, str]:
    """A model for people, and for kubectl. What a Pod names may be anything."""
    namespace, name = map(one_line, place)
    if namespace:
        return f"BaseModel {namespace}/{name}", f"basemodel {name} -n {namespace}"
    return f"ClusterBaseModel {name}", f"clusterbasemodel {name}"


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
