"""Decides which nodes may take a new revision of a model now: a few first, so many at a time, none while it fails.

Nodes that keep the earlier revision until then are not touched. Where no node is ready with an earlier one there is
nothing to protect, and all take the new one at once. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.model.reasons import word_of
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2

# What a node says while nothing has gone wrong.
_UNDER_WAY = frozenset(
    {
        model_pb2.REASON_UNSPECIFIED,
        model_pb2.REASON_DOWNLOADING,
        model_pb2.REASON_QUEUED,
        model_pb2.REASON_RESOLVING,
        model_pb2.REASON_ARTIFACT_DAMAGED,
    }
)
_NAMED_NODES = 3


@dataclass(frozen=True)
class Strategy:
    """storage.rollout: at most so many nodes at a time (0: all), so many before the others, and a pause after these."""

    most_nodes: int = 0
    canary: int = 0
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How one node stands that is to hold the model."""

    node: str
    # It is told to hold the new revision; or an earlier one, or nothing yet.
    told: bool = False
    earlier: bool = False
    # It has done what it is told.
    ready: bool = False
    # Why it has not, if anything has gone wrong.
    reason: model_pb2.Reason = model_pb2.REASON_UNSPECIFIED
    # It is there, and takes something new.
    available: bool = True
    # It has given up its copy, so it neither tries a revision nor loses one.
    evicted: bool = False
    # It has not been heard of for so long that nobody waits for it any more.
    lost: bool = False

    @property
    def fails(self) -> bool:
        """Whether something has gone wrong on the node, whether or not that may pass."""
        return not self.ready and self.reason not in _UNDER_WAY


@dataclass(frozen=True)
class Decision:
    """Nodes that stay with what they have, or get the earlier revision; empty when all may have the new one."""

    staying: frozenset[str] = frozenset()
    stage: fetch_pb2.RolloutStage = fetch_pb2.ROLLOUT_STAGE_UNSPECIFIED
    message: str = ""
    # The nodes that come first have all got it.
    tried: bool = False
    look_again_seconds: float | None = None


def strategy_of(storage: Mapping[str, Any]) -> Strategy:
    """What the spec says of rollouts; without anything all nodes take a new revision at once."""
    said = storage.get("rollout") or {}
    return Strategy(
        int(said.get("maxConcurrentNodes") or 0), int(said.get("canary") or 0), float(said.get("pauseSeconds") or 0)
    )


def roll_out(
    standings: Sequence[Standing], strategy: Strategy, tried_seconds: float | None, what: str, before: str
) -> Decision:
    """Decide for all nodes of a model; tried_seconds is how long ago all of the first nodes had become ready, if they
    have. what and before name the new and the earlier revision for people.
    """
    waiting = [each for each in standings if not each.told]
    told = [each for each in standings if each.told]
    failing = [each for each in told if each.fails]
    # What fails where it is tried does not come to a node either that mends an earlier copy just now.
    protected = any(
        each.earlier and not each.evicted and (each.ready or (failing and not each.fails)) for each in waiting
    )
    if strategy == Strategy() or not protected:
        return Decision()
    pending = [each for each in told if not each.ready]
    # Nobody waits for ever for a node that is gone. A revision that takes nodes with it must not spread so either, so
    # each place is given away once.
    lost = len([each for each in pending if each.lost and not each.fails])
    most = strategy.most_nodes or len(standings)
    first = min(strategy.canary, len([each for each in standings if not each.evicted]))
    trying = [each for each in told if not each.evicted or tried_seconds is not None]
    tried = len([each for each in trying if each.ready]) >= first
    room = most - len(pending) + min(lost, most)
    candidates = waiting
    look_again = None
    if not tried:
        stage, room = fetch_pb2.ROLLOUT_STAGE_CANARY, min(first - len(trying) + min(lost, first), room)
        candidates = [each for each in waiting if not each.evicted]
    elif strategy.canary and (tried_seconds or 0.0) < strategy.pause_seconds:
        stage, room = fetch_pb2.ROLLOUT_STAGE_PAUSED, 0
        look_again = strategy.pause_seconds - (tried_seconds or 0.0)
    else:
        stage = fetch_pb2.ROLLOUT_STAGE_SPREADING
    taking = sorted(each.node for each in candidates if each.available)[: max(0, room)]
    if failing and stage != fetch_pb2.ROLLOUT_STAGE_PAUSED and not taking:
        stage = fetch_pb2.ROLLOUT_STAGE_HALTED
    staying = frozenset(each.node for each in waiting) - frozenset(taking)
    if not staying:
        return Decision()
    updated = len(standings) - len(staying)
    return Decision(
        staying, stage, _sentence(stage, failing, updated, len(staying), what, before), tried and first > 0, look_again
    )


def keep_lost(standings: Sequence[Standing], what: str, before: str) -> Decision:
    """Decide where the source no longer has the revision that nodes hold, and nobody has asked for another: these keep
    it, and only nodes on which it fails take what the source has now.
    """
    staying = frozenset(each.node for each in standings if each.earlier and not each.fails)
    if not staying:
        return Decision()
    message = (
        f"the source no longer has {before}, which {_nodes(len(staying))} hold and keep; "
        f"other nodes get {what}, which it has now. Name a revision in storage.storageUri to move all of them"
    )
    return Decision(staying, fetch_pb2.ROLLOUT_STAGE_DIVERGED, message)


def _sentence(
    stage: fetch_pb2.RolloutStage, failing: Sequence[Standing], updated: int, staying: int, what: str, before: str
) -> str:
    keep = f"{_nodes(staying)} keep {before}"
    match stage:
        case fetch_pb2.ROLLOUT_STAGE_HALTED:
            named = ", ".join(f"{each.node} ({word_of(each.reason)})" for each in failing[:_NAMED_NODES])
            more = " and more" if len(failing) > _NAMED_NODES else ""
            return f"{what} fails on {named}{more}, so {keep}: mend the source or go back to an earlier revision"
        case fetch_pb2.ROLLOUT_STAGE_CANARY:
            return f"{what} is tried on {_nodes(updated)} first; {keep} until these are ready"
        case fetch_pb2.ROLLOUT_STAGE_PAUSED:
            return f"{what} is ready on {_nodes(updated)}; {keep} until the pause is over"
    return f"{what} has come to {_nodes(updated)}; {keep} until it is their turn"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
