"""When a change is written: at once where somebody waits for it, with others where more are about to follow.

Decides delays only, from what changes. The clock is an argument. Must not do I/O.
"""

import zlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from libs.artifact.reasons import Reason
from services.status import wording

K = TypeVar("K", bound=Hashable)

# Most transfers that are short end within this time, and nobody reads an intermediate state so soon.
WAITING_SECONDS = 1.0
# Nodes that hold a small model become Ready within a few hundredths of a second of each other.
_GATHER_SECONDS = 0.05
# Per desired node: a status that lists thousands of nodes is large, and is written seldom enough for it.
_GATHER_SECONDS_PER_NODE = 0.001
# A fold takes a hundredth of a millisecond per node, and every node reports more than once while a model comes.
_FOLD_SECONDS_PER_NODE = 0.0002


# How much room a node has is written once in so many seconds at the most.
_STORAGE_SECONDS = 300.0
# A model's progress alone is written at most twice a minute, and for the first time when there is a rate to tell.
_PROGRESS_SECONDS = 30.0
_FIRST_PROGRESS_SECONDS = 4.0


def differs_in_progress_alone(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether nothing has happened to a model but that more bytes have arrived."""
    return "progress" in before and "progress" in after and _without_progress(before) == _without_progress(after)


def status_patience_seconds(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """How long a new .status may wait for further changes to join it in one write."""
    counts = after["nodes"]
    settled = bool(counts["desired"]) and not counts["updating"] and "update" not in after
    conditions = {condition["type"]: condition for condition in after["conditions"]}
    idle = conditions["Stalled"]["status"] == "True" or conditions["Complete"]["reason"] in (
        Reason.NO_STORAGE,
        Reason.DISABLED,
    )
    if settled or idle:
        return 0.0
    outcome = ("state", "nodesReady", "nodesFailed")
    if any(after[key] != before.get(key, [] if key != "state" else "Creating") for key in outcome):
        return _GATHER_SECONDS + _GATHER_SECONDS_PER_NODE * float(counts["desired"])
    return WAITING_SECONDS


def fold_patience_seconds(nodes: int) -> float:
    """How long the folding of a model on so many nodes may wait for more of them to report."""
    return _FOLD_SECONDS_PER_NODE * nodes


@dataclass(frozen=True)
class Spread:
    """The time between two writes of one node: the API server takes so many a second, of however many nodes."""

    busy_seconds_per_node: float
    settled_seconds_per_node: float
    longest_seconds: float

    def interval_seconds(self, nodes: int, busy: bool) -> float:
        """The interval in a cluster of so many nodes; busy while more of the node's models are to come."""
        each = self.busy_seconds_per_node if busy else self.settled_seconds_per_node
        return min(self.longest_seconds, each * nodes)


class ProgressPacer(Generic[K]):
    """Remembers when the progress of each key was written alone. Decides by the clock only, however it is asked."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}

    def remaining_seconds(self, key: K, now: float) -> float:
        """How long a write of nothing but progress has to wait still; zero or less when it is due."""
        return self._due.setdefault(key, now + _FIRST_PROGRESS_SECONDS) - now

    def written(self, key: K, now: float) -> None:
        """Nothing but progress was written."""
        self._due[key] = now + _PROGRESS_SECONDS

    def ended(self, key: K) -> None:
        """Nothing is fetched any more."""
        self._due.pop(key, None)


class StoragePacer:
    """Remembers when the room of each node may be written again: controllers place models by it, and it never rests.

    A process that has just begun does not know when that was written last, so it lets the nodes wait in turn.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def remaining_seconds(self, node: str, written_before: bool, now: float) -> float:
        """How long a write of a node's room has to wait still; zero or less when it is due."""
        turn = zlib.crc32(node.encode()) / 2**32 if written_before else 0.0
        return self._due.setdefault(node, now + turn * _STORAGE_SECONDS) - now

    def written(self, node: str, now: float) -> None:
        """The room of a node was written."""
        self._due[node] = now + _STORAGE_SECONDS

    def forget(self, node: str) -> None:
        """The node is gone."""
        self._due.pop(node, None)


class Pacer(Generic[K]):
    """Remembers since when each key has a change to write, and when it was last written."""

    def __init__(self, interval_seconds: float = 0.0) -> None:
        self._interval_seconds = interval_seconds
        self._pending_since: dict[K, float] = {}
        self._written_until: dict[K, float] = {}

    def remaining_seconds(self, key: K, patience_seconds: float, now: float) -> float:
        """How long to wait still; zero or less when the change is due."""
        since = self._pending_since.setdefault(key, now)
        return max(since + patience_seconds, self._written_until.get(key, now)) - now

    def written(self, key: K, started: float, now: float) -> None:
        """A write that began at started is done: the next waits in proportion, so that a slow server gets fewer."""
        self._pending_since.pop(key, None)
        if self._interval_seconds:
            self._written_until[key] = now + max(self._interval_seconds, 2 * (now - started))

    def settled(self, key: K) -> None:
        """There is nothing to write any more."""
        self._pending_since.pop(key, None)

    def forget(self, key: K) -> None:
        """The key is gone."""
        self._pending_since.pop(key, None)
        self._written_until.pop(key, None)


def _without_progress(status: Mapping[str, Any]) -> dict[str, Any]:
    said = wording.fetched(status["progress"])
    conditions = [{**each, "message": each["message"].removesuffix(said)} for each in status["conditions"]]
    return {**{key: value for key, value in status.items() if key != "progress"}, "conditions": conditions}
