"""What the nodes' readers see, told from what the nodes are to hold: .status.artifact, .status.update, .status.inUse.

A node may say that it holds anything. It only has a say in which of the artifacts counts that the controller has
decided on, now or before: what is written here is what the controller goes by after NATS has lost its data. Pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import HeldCopy, ModelPlan, NodeModelState, PodUse
from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_READY, Artifact
from services.status.conditions import NodeStanding

# Copies without a name, and Pods, that a status tells of.
HELD_LIMIT, USERS_LIMIT = 16, 8
_PATH_CHARACTERS = 1024
Document = dict[str, Any]


def artifact_document(artifact: Artifact) -> Document:
    """An artifact, as .status has it."""
    return {
        "digest": artifact.digest,
        "sourceRevision": artifact.source_revision,
        "bytes": artifact.bytes,
        "files": artifact.files,
    }


def served_document(
    planned: Artifact | None,
    plan: ModelPlan | None,
    desired: Sequence[NodeStanding],
    states: Mapping[str, NodeModelState],
    previous: Mapping[str, Any],
) -> Document | None:
    """What stands at the path on most nodes; what they are to hold, as long as none holds anything; None if unknown."""
    known = {each["digest"]: each for each in _recorded(previous)}
    known |= {each.artifact.digest: artifact_document(each.artifact) for each in (plan.history if plan else ())}
    if planned and planned.digest:
        known[planned.digest] = artifact_document(planned)
    counts = Counter(digest for digest in _served_digests(desired, states) if digest in known)
    if counts:
        before = (previous.get("artifact") or {}).get("digest")
        return known[max(sorted(counts), key=lambda digest: (counts[digest], digest == before))]
    if planned and planned.digest:
        return artifact_document(planned)
    # NATS may have lost what was decided; the controller goes by this until the source is listed again.
    return dict(previous["artifact"]) if plan is None and previous.get("artifact") else None


def update_document(
    planned: Artifact | None,
    plan: ModelPlan | None,
    served: Document | None,
    desired: Sequence[NodeStanding],
    states: Mapping[str, NodeModelState],
    previous: Mapping[str, Any],
) -> Document | None:
    """What comes in place of what readers see, and on how many nodes it has come; None when nothing does."""
    if served is None:
        return None
    if planned and planned.digest:
        if not any(digest != planned.digest for digest in _served_digests(desired, states)):
            return None
        done = sum(states[each.node].artifact.digest == planned.digest for each in desired if each.node in states)
        return artifact_document(planned) | {"nodesDone": done, "nodes": len(desired)}
    # What readers see must not be taken for what the object asks for now while that is not known.
    if previous.get("update"):
        return dict(previous["update"])
    observed = int(previous.get("observedGeneration") or 0)
    if plan is None or plan.generation <= observed:
        return None
    return {"reason": word_of(plan.problem.reason) or str(Reason.RESOLVING), "nodesDone": 0, "nodes": len(desired)}


def use_document(plan: ModelPlan | None, states: Mapping[str, NodeModelState]) -> Document | None:
    """Which Pods use the model, and which copies without a name nodes keep for them; None when there is neither."""
    document: Document = {}
    if plan and plan.use.pods:
        document["nodes"], document["pods"] = plan.use.nodes, plan.use.pods
        document["users"] = [
            {"node": each.node, "pod": _pod(each.pod), "since": shown_time(each.pod.since)}
            for each in plan.use.users[:USERS_LIMIT]
        ]
    # Hardly ever any of a thousand.
    holding = {node: state for node, state in states.items() if state.held}
    held = [
        _held_document(node, copy)
        for node, state in sorted(holding.items())
        if state.phase != NODE_PHASE_DELETED
        for copy in state.held
    ]
    if held:
        document["held"] = held[:HELD_LIMIT]
    return document or None


def _held_document(node: str, copy: HeldCopy) -> Document:
    document = {
        "node": node,
        "digest": copy.artifact.digest,
        "sourceRevision": one_line(copy.artifact.source_revision),
        "path": one_line(copy.path, _PATH_CHARACTERS),
        "until": shown_time(copy.until),
        "pods": max(0, min(copy.use.pods, 2**31 - 1)),
        "users": [_pod(each) for each in copy.use.users[:USERS_LIMIT]],
    }
    return {key: value for key, value in document.items() if value not in ("", [])}


def _served_digests(desired: Sequence[NodeStanding], states: Mapping[str, NodeModelState]) -> list[str]:
    """What readers see on each node that counts as ready."""
    ready = [each.node for each in desired if each.phase == NODE_PHASE_READY]
    return [states[node].artifact.digest for node in ready if node in states and states[node].artifact.digest]


def _recorded(previous: Mapping[str, Any]) -> list[Document]:
    """The artifacts that the status last written tells of."""
    found = []
    for name in ("update", "artifact"):
        document = previous.get(name) or {}
        if document.get("digest"):
            found.append(
                {key: document[key] for key in ("digest", "sourceRevision", "bytes", "files") if key in document}
            )
    return found


def _pod(use: PodUse) -> str:
    """A Pod by namespace and name, as far as those who see the model may know it."""
    return one_line(f"{use.namespace}/{use.name}") if use.name else "a Pod of another namespace"


def shown_time(time: Timestamp) -> str:
    """A time that a node has told, as .status has it."""
    # Whatever a node says, the API server takes the years of four digits alone.
    seconds = max(0, min(time.seconds, 253402300799))
    return Timestamp(seconds=seconds).ToJsonString()
