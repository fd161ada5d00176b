"""How far the nodes of one model are together: the document of .status.progress, and what is left of it at the end.

Decides which figures speak for many nodes; how they are put into English is wording's, when they are written pacing's.
Pure, the time is a parameter.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ome.fetch.v1.fetch_pb2 import FileProgress, Progress
from ome.model.v1.model_pb2 import NODE_PHASE_READY, NODE_PHASE_UPDATING, REASON_DOWNLOADING, Artifact
from services.status.conditions import NodeStanding

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NOTHING = Progress()
# Nodes that are told apart, the slowest first: a fleet would make the object grow without end.
_NODES_TOLD, _FILES_TOLD = 10, 2
_MOST_BYTES_PER_SECOND, _LONGEST_SECONDS = 10**12, 10**9


def progress_document(
    desired: Sequence[NodeStanding],
    artifact: Artifact | None,
    transfers: Mapping[str, Progress],
    previous: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """The figures of a model that nodes are fetching; empty while none of them does.

    `transfers` has the newest figures by node, `previous` the .status that was last written. The whole counts each
    node: a model of 60 MB for two nodes is 120 MB. The slowest node, by the bytes that it has, tells the time left.
    """
    fetching = [
        each
        for each in desired
        if (each.phase == NODE_PHASE_UPDATING or each.revising) and each.reason == REASON_DOWNLOADING and each.reachable
    ]
    if not fetching or artifact is None or not artifact.bytes:
        return {}
    # A node may say anything, and must neither spoil the sums nor keep the API server from taking the status.
    said = {each.node: transfers.get(each.node, _NOTHING) for each in fetching}
    done = {each.node: _bounded(max(each.bytes_done, said[each.node].bytes_done), artifact.bytes) for each in fetching}
    held = sum(artifact.bytes for each in desired if each.phase == NODE_PHASE_READY and not each.revising)
    bytes_done, total = held + sum(done.values()), artifact.bytes * len(desired)
    slowest_first = sorted(done, key=lambda node: (done[node], node))
    slowest = slowest_first[0]
    same = _last_digest(previous) == artifact.digest
    began = (previous.get("progress") or {}).get("startedAt") if same else None
    document: dict[str, Any] = {
        # Never 100 % while something is left to do.
        "percent": f"{min(99, 100 * bytes_done // total)}%",
        "bytes": bytes_done,
        "totalBytes": total,
        "bytesPerSecond": sum(_bounded(each.bytes_per_second, _MOST_BYTES_PER_SECOND) for each in said.values()),
        "slowestNode": slowest,
        "startedAt": began or now.strftime(_TIME),
        "nodes": [_of_node(node, done[node], said[node]) for node in slowest_first[:_NODES_TOLD]],
    }
    if eta_seconds := _bounded(said[slowest].eta_seconds, _LONGEST_SECONDS):
        document["etaSeconds"] = eta_seconds
    return document


def download_document(
    complete: bool, artifact: Artifact | None, nodes: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What the last download took, from the first figures to the last node; empty where nothing is known of any.

    It stays for as long as the artifact is the same.
    """
    if artifact is None or _last_digest(previous) != artifact.digest:
        return {}
    began = (previous.get("progress") or {}).get("startedAt")
    if complete and began:
        seconds = int((now - datetime.strptime(began, _TIME).replace(tzinfo=UTC)).total_seconds())
        return {"bytes": artifact.bytes * nodes, "seconds": max(0, seconds), "finishedAt": now.strftime(_TIME)}
    return dict(previous.get("download") or {})


def _last_digest(previous: Mapping[str, Any]) -> str:
    """What the nodes were to hold when the status was last written."""
    return str((previous.get("update") or previous.get("artifact") or {}).get("digest", ""))


def _of_node(node: str, bytes_done: int, said: Progress) -> dict[str, Any]:
    document: dict[str, Any] = {
        "node": node,
        "bytes": bytes_done,
        "bytesPerSecond": _bounded(said.bytes_per_second, _MOST_BYTES_PER_SECOND),
    }
    if eta_seconds := _bounded(said.eta_seconds, _LONGEST_SECONDS):
        document["etaSeconds"] = eta_seconds
    if files := [_of_file(file) for file in said.files[:_FILES_TOLD]]:
        document["files"] = files
    return document


def _of_file(said: FileProgress) -> dict[str, Any]:
    """Figures that were bounded when they came."""
    document: dict[str, Any] = {
        "path": said.path,
        "bytes": said.bytes_done,
        "totalBytes": said.bytes_total,
        "bytesPerSecond": said.bytes_per_second,
    }
    return {**document, "etaSeconds": said.eta_seconds} if said.eta_seconds else document


def _bounded(number: int, most: int) -> int:
    return max(0, min(number, most))
