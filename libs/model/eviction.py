"""Decides whether a copy fits on a disk, which copies a node gives up when it is full, and when one comes back.

What nothing refers to goes first, which the store knows by itself. Then go copies of models that may be evicted, those
first that have not been used for longest; never one that a Pod uses, or of which it is not known. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# What was used or fetched so short a time ago is not given up for the sake of a watermark: it would come and go.
SETTLED_SECONDS = 600.0


@dataclass(frozen=True)
class Watermarks:
    """Shares of a file system: above the high one copies go until the low one is reached."""

    high: float = 0.85
    low: float = 0.75


@dataclass(frozen=True)
class Resident:
    """A copy, and all that is known of the models which lead to it."""

    digest: str
    models: tuple[str, ...]
    # What the disk gets back when it goes.
    bytes: int
    # When a Pod last used it, or when it was published, in seconds of any one clock.
    last_used: float
    # All of these models may be evicted, and none is just being fetched or replaced.
    evictable: bool
    # Whether a Pod uses it; None as long as that is not known.
    used: bool | None


def lacking_bytes(needed: int, free: int, reserved: int) -> int:
    """How many bytes are missing for so many, where of the free ones some are promised to others; 0 if they fit."""
    return max(0, needed - (free - reserved))


def bytes_over(watermarks: Watermarks, total: int, free: int) -> int:
    """How many bytes have to go from a file system for the low watermark; 0 below the high one."""
    used = total - free
    if used <= watermarks.high * total:
        return 0
    return int(used - watermarks.low * total)


def fits_below(watermarks: Watermarks, total: int, free: int, size: int) -> bool:
    """Whether a copy may come back by itself: with it, the low watermark must still not be exceeded."""
    return total - free + size <= watermarks.low * total


def comes_back(evictable: bool, demanded: bool, used: bool, invited: bool) -> bool:
    """Whether a model that was evicted is fetched again.

    It is when it may no longer be evicted, when somebody has asked for it since, when a Pod names it, or when it was
    its turn because there is room.
    """
    return not evictable or demanded or used or invited


def choose(residents: Iterable[Resident], needed: int, settled_before: float | None = None) -> tuple[Resident, ...]:
    """The copies that go for so many bytes, as few as are needed of those that were not used for longest.

    Without settled_before all of the bytes are needed, and nothing goes in vain where they cannot be had. With it only
    what was last used before that time goes, and what can be had is taken.
    """
    possible = [each for each in residents if each.evictable and each.used is False]
    if settled_before is not None:
        possible = [each for each in possible if each.last_used < settled_before]
    chosen: list[Resident] = []
    gained = 0
    for resident in sorted(possible, key=lambda each: (each.last_used, each.digest)):
        if gained >= needed:
            break
        chosen.append(resident)
        gained += resident.bytes
    if gained < needed and settled_before is None:
        return ()
    for resident in reversed(chosen):
        # A large one that was needed last may make the smaller ones before it unnecessary: those used last stay.
        if gained - resident.bytes >= needed:
            chosen.remove(resident)
            gained -= resident.bytes
    return tuple(chosen)
