"""How much of the service one caller may take: calls at a rate, watches at a time, and what is remembered of callers.

Decides with a clock that is an argument, and forgets the longest unused, so that nobody fills memory with names. Pure.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Answers that hold for a time; of too many, the longest unused is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """What was said of a key, while it holds."""
        until, value = self._entries.get(key, (0.0, None))
        if value is None or now >= until:
            self._entries.pop(key, None)
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, until: float) -> None:
        """Remember what was said of a key until a time."""
        self._entries[key] = until, value
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)


class Rate(Generic[K]):
    """A number of things per second for each key, and so many at once after a pause."""

    def __init__(self, per_second: float, burst: float, most_keys: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left: Remembered[K, tuple[float, float]] = Remembered(most_keys)

    def wait_seconds(self, key: K, now: float) -> float:
        """How long a key must wait for its next thing; zero if it may have it now."""
        return max(0.0, (1.0 - self._available(key, now)) / self._per_second)

    def take(self, key: K, now: float) -> None:
        """Count one thing of a key."""
        left = max(0.0, self._available(key, now) - 1.0)
        # Whoever has taken nothing for so long has everything again.
        self._left.put(key, (now, left), now + self._burst / self._per_second)

    def _available(self, key: K, now: float) -> float:
        since, left = self._left.get(key, now) or (now, self._burst)
        return min(self._burst, left + (now - since) * self._per_second)


class Seats(Generic[K]):
    """A number of things at a time, for each key and for all together.

    Nobody takes more than are left: so few who want everything leave room for whoever comes later. Of n such callers
    each has a share of 1/(n + 1).
    """

    def __init__(self, most_each: int, most: int) -> None:
        self._most_each = most_each
        self._most = most
        self._taken: dict[K, int] = {}

    def take(self, key: K) -> bool:
        """Take one if there is one left for this key."""
        taken = self._taken.get(key, 0)
        if taken >= min(self._most_each, self._most - sum(self._taken.values())):
            return False
        self._taken[key] = taken + 1
        return True

    def free(self, key: K) -> None:
        """Give one back."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]
