"""The revisions that the nodes of a model were to hold, as .status.history shows them: the newest first. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ome.fetch.v1.fetch_pb2 import ModelPlan, NodeModelState, Revision
from ome.model.v1.model_pb2 import NODE_PHASE_READY

# Nodes that are named of those that have a revision.
NAMED_NODES = 10


def history_document(
    plan: ModelPlan | None, states: Mapping[str, NodeModelState], previous: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What the plan tells, and which nodes have each revision; what was written before while there is no plan, as the
    controller reads it from there.
    """
    if plan is None:
        return list(previous.get("history") or ())
    having: defaultdict[str, list[str]] = defaultdict(list)
    for node, state in states.items():
        for digest in _digests_of(state):
            having[digest].append(node)
    return [_entry(revision, sorted(having.get(revision.artifact.digest, ()))) for revision in plan.history]


def _digests_of(state: NodeModelState) -> set[str]:
    """What a node has whole: what readers see there, what it keeps for going back, and what Pods still use."""
    present = {state.artifact.digest} if state.phase == NODE_PHASE_READY and state.artifact.digest else set()
    return present | {*state.kept_revisions} | {each.artifact.digest for each in state.held}


def _entry(revision: Revision, nodes: list[str]) -> dict[str, Any]:
    artifact = revision.artifact
    entry: dict[str, Any] = {
        "digest": artifact.digest,
        "sourceRevision": artifact.source_revision,
        "bytes": artifact.bytes,
        "files": artifact.files,
        "source": revision.source_key,
        "nodes": len(nodes),
    }
    if nodes:
        entry["onNodes"] = nodes[:NAMED_NODES]
    if revision.HasField("since"):
        entry["since"] = revision.since.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    return entry
