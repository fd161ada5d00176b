"""How a model stands on a node, in one byte: the matrix of a fleet is as many bytes as it has cells. Pure.

Decides what the matrix tells apart. The codes go to the browser with the matrix, which knows none by itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ome.fetch.v1.fetch_pb2 import Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_NODE_UNREACHABLE,
)
from ome.status.v1.status_pb2 import Model, NodeStatus
from services.status.page.figures import percent

NOTHING = 0
# A download is its percentage above this.
MOVING = 1
WAITING, READY, FAILED, UNREACHABLE, LEFTOVER, EVICTED = 110, 111, 112, 113, 114, 115
CODES = {
    "moving": MOVING,
    "waiting": WAITING,
    "ready": READY,
    "failed": FAILED,
    "unreachable": UNREACHABLE,
    "leftover": LEFTOVER,
    "evicted": EVICTED,
}
# A node may say anything, and must not spoil the sums.
_MOST_BYTES_PER_SECOND = 10**12


@dataclass(frozen=True)
class Row:
    """One model on all nodes: a byte per column, and the sums that a line of text has room for."""

    cells: bytes
    ready: int
    desired: int
    failed: int
    moving: int
    bytes_per_second: int
    bytes_left: int
    eta_seconds: int


def cell(status: NodeStatus, desired: bool, progress: Progress | None) -> int:
    """The byte of one node."""
    if status.reason == REASON_NODE_UNREACHABLE:
        return UNREACHABLE
    if status.phase == NODE_PHASE_FAILED:
        return FAILED
    if not desired:
        return LEFTOVER
    if status.phase == NODE_PHASE_READY:
        return READY
    if status.phase == NODE_PHASE_EVICTED:
        return EVICTED
    if status.phase == NODE_PHASE_UPDATING and status.reason == REASON_DOWNLOADING:
        done = max(status.bytes_done, progress.bytes_done if progress else 0)
        return MOVING + percent(done, status.bytes_total)
    return WAITING


def row(
    model: Model,
    desired: frozenset[str],
    columns: Mapping[str, int],
    progress_of: Callable[[str, str], Progress | None],
) -> Row:
    """One model, where `columns` has the place of each node. A node that has no place there is left out."""
    cells = bytearray(len(columns))
    ready = failed = moving = rate = left = eta = 0
    for status in model.nodes:
        place = columns.get(status.node)
        is_desired = status.node in desired
        progress = progress_of(status.node, model.ref.uid) if status.phase == NODE_PHASE_UPDATING else None
        code = cell(status, is_desired, progress)
        if place is not None:
            cells[place] = code
        ready += is_desired and status.phase == NODE_PHASE_READY
        failed += code == FAILED
        if MOVING <= code < WAITING:
            moving += 1
            done = max(status.bytes_done, progress.bytes_done if progress else 0)
            left += max(0, status.bytes_total - done)
            if progress:
                rate += max(0, min(progress.bytes_per_second, _MOST_BYTES_PER_SECOND))
                eta = max(eta, progress.eta_seconds)
    return Row(bytes(cells), ready, len(desired), failed, moving, rate, left, eta)


def changed_places(before: bytes, after: bytes) -> list[int]:
    """Where two rows of one length differ."""
    if before == after:
        return []
    return [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]


def in_order(nodes: frozenset[str]) -> list[str]:
    """Names as people sort them: node-2 before node-10."""
    return sorted(nodes, key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]
