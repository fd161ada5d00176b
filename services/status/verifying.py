"""What nodes have found when they were asked to read their copies of a model: .status.verification. Pure.

A node may say that it found anything; what is written is bounded, and nothing is decided by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.artifact.requests import read_requests
from libs.artifact.wording import one_line
from ome.fetch.v1.fetch_pb2 import NodeModelState, Verification
from ome.model.v1.model_pb2 import NODE_PHASE_READY
from services.status.conditions import NodeStanding
from services.status.serving import shown_time

# Nodes that a status tells of one by one, those with damage first.
RESULTS_LIMIT = 50
_MOST = 2**31 - 1
_FILES_LIMIT = 3
# So that the results of a fleet of liars leave room for the rest of a status.
_TEXT_CHARACTERS = 256


def verification_document(
    annotations: Mapping[str, str], desired: Sequence[NodeStanding], states: Mapping[str, NodeModelState]
) -> dict[str, Any] | None:
    """How far the nodes are with the request that the annotations make, and what each has found last.

    None when nothing was asked for and nothing was found.
    """
    requests = read_requests(annotations)
    found = {
        each.node: states[each.node].verification
        for each in desired
        if each.node in states and states[each.node].HasField("verification")
    }
    if not requests.verify and not found:
        return None
    document: dict[str, Any] = {}
    if requests.verify:
        answered = {node for node, each in found.items() if each.request == requests.verify}
        holding = {each.node for each in desired if each.phase == NODE_PHASE_READY}
        asked = {node for node in holding | answered if requests.verify_on(node)}
        document |= {"request": one_line(requests.verify), "nodes": len(asked), "nodesDone": len(answered & asked)}
    if found:
        # Nodes are as they stand in the order of their names, also if two have the same to say.
        ordered = sorted(found, key=lambda node: (not _is_bad(found[node]), node))
        document["nodesDamaged"] = sum(_is_bad(each) for each in found.values())
        document["lastFinishedAt"] = max(shown_time(each.finished_at) for each in found.values())
        document["results"] = [_result(node, found[node]) for node in ordered[:RESULTS_LIMIT]]
    return document


def _is_bad(found: Verification) -> bool:
    return found.damaged > 0 or bool(found.problem)


def _result(node: str, found: Verification) -> dict[str, Any]:
    result = {
        "node": node,
        "request": one_line(found.request),
        "finishedAt": shown_time(found.finished_at),
        "digest": found.digest,
        "bytes": max(0, found.bytes),
        "damaged": max(0, min(found.damaged, _MOST)),
        "files": [one_line(file, _TEXT_CHARACTERS) for file in found.files[:_FILES_LIMIT]],
        "problem": one_line(found.problem, _TEXT_CHARACTERS),
    }
    return {key: value for key, value in result.items() if value not in ("", [])}
