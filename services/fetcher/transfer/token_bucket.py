"""How bytes are let through at a bounded rate, in turn between users: arithmetic only. Must not read a clock or wait.

A token bucket decides how much, start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) whose turn it is: a user
with eight requests waiting gets no more than one with a single request, and nothing is kept for those who are idle.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field

# Bytes are let through in this many portions a second at most: fine enough to be smooth, coarse enough to cost nothing.
_PORTIONS_PER_SECOND = 32
# What may come at once after a pause. It also makes up for threads that wake a little late.
_BURST_SECONDS = 0.125
# Part of a byte that rounding may take away from what has come in since the last look.
_ROUNDING_BYTES = 1e-6


@dataclass(order=True)
class Portion:
    """Bytes that a user has asked for. granted says that they may come now."""

    tag: int
    number: int
    count: int = field(compare=False)
    granted: bool = field(default=False, compare=False)
    withdrawn: bool = field(default=False, compare=False)


class TokenBucket:
    """Lets bytes_per_second through, whatever the number of users. now is of any clock that does not go backwards."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self.portion_bytes = max(int(bytes_per_second / _PORTIONS_PER_SECOND), 1)
        self._rate = bytes_per_second
        self._capacity = max(bytes_per_second * _BURST_SECONDS, self.portion_bytes)
        self._level = self._capacity
        self._filled_at = now
        self._waiting: list[Portion] = []
        self._number = 0
        # The queue's own time, in bytes: of the portion that was granted last.
        self._served = 0
        self._next_tags: dict[Hashable, int] = {}

    def ask(self, user: Hashable, wanted: int) -> Portion:
        """Put a user's wish for at most so many bytes in the queue; the portion says how many they are."""
        count = min(wanted, self.portion_bytes)
        tag = max(self._served, self._next_tags.get(user, 0))
        self._next_tags[user] = tag + count
        self._number += 1
        portion = Portion(tag, self._number, count)
        heapq.heappush(self._waiting, portion)
        return portion

    def withdraw(self, portion: Portion) -> None:
        """A portion is not wanted any more."""
        portion.withdrawn = True

    def forget(self, user: Hashable) -> None:
        """A user will not ask again."""
        self._next_tags.pop(user, None)

    def serve(self, now: float) -> int:
        """Grant what is due, each in its turn; return how many portions that were."""
        self._level = min(self._capacity, self._level + max(now - self._filled_at, 0.0) * self._rate)
        self._filled_at = now
        granted = 0
        enough = self._level + _ROUNDING_BYTES
        while self._waiting and (self._waiting[0].withdrawn or self._waiting[0].count <= enough):
            first = heapq.heappop(self._waiting)
            if not first.withdrawn:
                self._level -= first.count
                enough -= first.count
                self._served = first.tag
                first.granted = True
                granted += 1
        return granted

    def seconds_to_next(self) -> float:
        """How long after the last serve the next portion is due; 0 when nobody waits."""
        return max(self._waiting[0].count - self._level, 0.0) / self._rate if self._waiting else 0.0
