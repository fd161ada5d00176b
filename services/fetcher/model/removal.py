"""Decides what leaves the disk, and when: the one place for it, whatever the reason that something is to go.

A new revision, a repair, a deletion and a selector that no longer matches all let go of a name first. What the name led
to is judged here by how long ago that was, by which Pods the controller says use it, and by how long Pods may hold it.
The store adds one thing by itself: it never removes what still has a name. Pure.
"""

from dataclasses import dataclass
from enum import Enum

# A Pod is bound to the node some time before its containers start, and the controller hears of it as soon as the
# kubelet does. What it says of a moment so long ago counts every Pod that may have followed a link in that moment.
SETTLED_SECONDS = 1.0
# Between two questions about the same copy: soon for a Pod that is about to end, seldom for one that serves for days.
_SOONEST_SECONDS, _LATEST_SECONDS = 2.0, 30.0


@dataclass(frozen=True)
class Holder:
    """A Pod that uses a copy; without a name where those who see the model may not know it."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Use:
    """What the controller says: how many Pods use something, and some of them."""

    pods: int = 0
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Leaving:
    """What there is to consider about a copy, or a name, that is to go."""

    # Since when it is to go, counted by a clock that nobody sets.
    for_seconds: float
    # How long it stays in any case.
    spared_seconds: float = 0.0
    # How long Pods may hold it.
    grace_seconds: float = 0.0
    # Who uses it, as of a time after it was let go; None as long as that is not known.
    use: Use | None = None


class Fate(Enum):
    """What becomes of something that is to go."""

    GOES = "goes"
    SPARED = "spared"
    # It is not known whether somebody uses it, and so it stays.
    UNKNOWN = "unknown"
    HELD = "held"


class Stay(Enum):
    """Why a copy without a name stays although nobody uses it."""

    NOT = "not"
    # The model may go back to it; until the room is needed.
    REVISION = "revision"
    # The model is about to go back to it.
    DESIRED = "desired"


@dataclass(frozen=True)
class Verdict:
    """The fate, and in how many seconds it is another one at the latest; 0 for what goes."""

    fate: Fate
    remaining_seconds: float = 0.0


def judge(leaving: Leaving) -> Verdict:
    """Whether something goes now. What goes once goes for good: time and use only ever speak for it."""
    longest = max(leaving.spared_seconds, leaving.grace_seconds)
    if leaving.for_seconds >= longest:
        return Verdict(Fate.GOES)
    if leaving.for_seconds < leaving.spared_seconds:
        return Verdict(Fate.SPARED, leaving.spared_seconds - leaving.for_seconds)
    if leaving.use is None:
        return Verdict(Fate.UNKNOWN, longest - leaving.for_seconds)
    if leaving.use.pods:
        return Verdict(Fate.HELD, longest - leaving.for_seconds)
    return Verdict(Fate.GOES)


def seconds_until_question(for_seconds: float, asked_before: bool) -> float:
    """How long to wait before the controller is asked about something that was let go some seconds ago."""
    if not asked_before:
        return max(0.0, SETTLED_SECONDS - for_seconds)
    return min(_LATEST_SECONDS, max(_SOONEST_SECONDS, for_seconds / 10))


def shown_use(use: Use | None) -> str:
    """The Pods for a person, as in "Pod serving/llama-0 and 2 more Pods use it"."""
    if use is None:
        return "the controller has not said yet which Pods use it"
    named = [f"{each.namespace}/{each.name}" for each in use.holders if each.name]
    if not named:
        return "a Pod uses it" if use.pods == 1 else f"{use.pods:,} Pods use it"
    more = use.pods - 1
    if not more:
        return f"Pod {named[0]} uses it"
    return f"Pod {named[0]} and {more:,} more {'Pod' if more == 1 else 'Pods'} use it"
