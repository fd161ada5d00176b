"""What a person may have done with a model: the merge patch of its object that asks for it, or why it is not to be.

Shared by the kubectl plugin and the page, which send a patch as the user who asks: the API server decides who may.
Pure; what is to be asked for anew is named by a word that is a parameter, such as the time.
"""

from collections.abc import Mapping
from typing import Any

from libs.artifact.requests import (
    EVICTED_NODES_ANNOTATION,
    PULLED_NODES_ANNOTATION,
    VERIFY_ANNOTATION,
    VERIFY_NODE_ANNOTATION,
    read_requests,
)
from libs.artifact.specification import (
    EVICTABLE,
    EVICTED,
    REHYDRATION_ANNOTATION,
    RESIDENCY_ANNOTATION,
    REVISION_ANNOTATION,
)

Model = Mapping[str, Any]
Patch = dict[str, Any]
_USERS_NAMED = 3


def verify_patch(word: str, node: str) -> Patch:
    """Have a node, or without one all of them, read their copies and compare them with their checksums."""
    return _annotate({VERIFY_ANNOTATION: word, VERIFY_NODE_ANNOTATION: node or None})


def why_not_verified(model: Model, node: str) -> str:
    """Why there is nothing to verify; empty when there is."""
    status = model.get("status") or {}
    if not (status.get("artifact") or {}).get("digest"):
        return "OME has fetched no files for it, so there are no checksums to compare with"
    holding = status.get("nodesReady") or ()
    if node:
        return "" if node in holding else f"node {node} holds no copy of it that is ready"
    return "" if holding else "no node holds a copy of it that is ready"


def evict_patch(model: Model, node: str) -> Patch:
    """Have a node, or without one all of them, give their copies up. For a node: only if the object is unchanged."""
    if not node:
        return _annotate({RESIDENCY_ANNOTATION: EVICTED})
    evicted = read_requests(_annotations(model)).evicted | {node}
    return _unchanged(model, {EVICTED_NODES_ANNOTATION: ",".join(sorted(evicted))})


def why_not_evicted(model: Model, node: str) -> str:
    """Why the model is not to be given up, by its own rules; empty when it may be."""
    storage, status = (model.get("spec") or {}).get("storage") or {}, model.get("status") or {}
    if storage.get("residency") != EVICTABLE:
        return (
            "its storage.residency is Always, so nodes keep it as long as they are meant for it: "
            "set storage.residency to Evictable, and nodes may give it up"
        )
    if node and node not in (status.get("nodesReady") or ()):
        return f"node {node} holds no copy of it that is ready"
    in_use = status.get("inUse") or {}
    pods, users = int(in_use.get("pods") or 0), list(in_use.get("users") or ())
    on_node = [each for each in users if node in ("", each["node"])]
    if on_node:
        named = ", ".join(f"{each['pod']} on {each['node']}" for each in on_node[:_USERS_NAMED])
        more = f" and {pods - _USERS_NAMED} more" if not node and pods > _USERS_NAMED else ""
        return f"Pods use it: {named}{more}; it may go when they have ended"
    if pods > len(users):
        return f"{pods} Pods use it, and not all of them are told, so one of them may be on {node or 'any node'}"
    return ""


def pull_patch(model: Model, word: str, node: str) -> Patch:
    """Have a node, or without one all of them, fetch what they have given up. For a node: only if it is unchanged."""
    if not node:
        return _annotate(
            {
                RESIDENCY_ANNOTATION: None,
                REHYDRATION_ANNOTATION: word,
                EVICTED_NODES_ANNOTATION: None,
                PULLED_NODES_ANNOTATION: None,
            }
        )
    requests = read_requests(_annotations(model))
    pulled = {**requests.pulled, node: word}
    return _unchanged(
        model,
        {
            EVICTED_NODES_ANNOTATION: ",".join(sorted(requests.evicted - {node})) or None,
            PULLED_NODES_ANNOTATION: ",".join(f"{name}={since}" for name, since in sorted(pulled.items())),
        },
    )


def why_not_pulled(model: Model, node: str) -> str:
    """Why there is nothing to bring back; empty when there is."""
    status = model.get("status") or {}
    if node and _annotations(model).get(RESIDENCY_ANNOTATION) == EVICTED:
        return f"it is evicted from all nodes, by the annotation {RESIDENCY_ANNOTATION}: pull it without a node"
    if node and node in (status.get("nodesReady") or ()):
        return f"node {node} holds it already"
    if node and node not in (status.get("nodesEvicted") or ()):
        return f"node {node} has not given it up: why MODEL --node {node} says what it waits for"
    if not node and not status.get("nodesEvicted") and RESIDENCY_ANNOTATION not in _annotations(model):
        return "no node has given it up"
    return ""


def return_patch(digest: str) -> Patch:
    """Go back to a revision of status.history; without a digest, to what the source has."""
    return _annotate({REVISION_ANNOTATION: digest or None})


def why_not_returned(model: Model, digest: str) -> str:
    """Why there is no going back to a revision; empty when there is."""
    if not digest:
        return "" if REVISION_ANNOTATION in _annotations(model) else "it has what its source has"
    known = {each["digest"] for each in (model.get("status") or {}).get("history") or ()}
    return "" if digest in known else "nodes were not to hold this revision, or it is too long ago"


def _annotate(annotations: Mapping[str, str | None]) -> Patch:
    return {"metadata": {"annotations": dict(annotations)}}


def _unchanged(model: Model, annotations: Mapping[str, str | None]) -> Patch:
    """What others add to a list in the same moment must not be lost."""
    return {"metadata": {"resourceVersion": model["metadata"]["resourceVersion"], "annotations": dict(annotations)}}


def _annotations(model: Model) -> Mapping[str, str]:
    found: Mapping[str, str] = model["metadata"].get("annotations") or {}
    return found
