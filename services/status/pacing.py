"""When a change is written: at once where somebody waits for it, with others where more are about to follow.

Decides delays only, from what changes. The clock is an argument. Must not do I/O.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from libs.artifact.reasons import Reason

K = TypeVar("K", bound=Hashable)

# Most transfers that are short end within this time, and nobody reads an intermediate state so soon.
WAITING_SECONDS = 1.0
# Nodes that hold a small model become Ready within a few hundredths of a second of each other.
_GATHER_SECONDS = 0.05
# Per desired node: a status that lists thousands of nodes is large, and is written seldom enough for it.
_GATHER_SECONDS_PER_NODE = 0.001
# A fold takes a hundredth of a millisecond per node, and every node reports more than once while a model comes.
_FOLD_SECONDS_PER_NODE = 0.0002


def status_patience_seconds(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """How long a new .status may wait for further changes to join it in one write."""
    counts = after["nodes"]
    settled = bool(counts["desired"]) and not counts["updating"]
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
