"""Shares of the time: how long work on one of many keys may wait, for all of it together to leave time for the rest.

Decides delays only. Must not do I/O, nor know the time.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Of the mean that is taken over the last pieces of work.
_WEIGHT_OF_LAST = 0.1


class Budget(Generic[K]):
    """Spreads work on many keys, so that all of it together takes about a share of the time.

    A single key is not held up. Of many that change all the time each waits the longer the more they are and the longer
    the work takes: what a fleet costs then grows with its size and not with the square of it.
    """

    def __init__(self, share: float, longest_seconds: float) -> None:
        self._share = share
        self._longest_seconds = longest_seconds
        self._pending: set[K] = set()
        self._cost_seconds = 0.0

    def patience_seconds(self, key: K) -> float:
        """How long a key that has changed may wait before it is worked on."""
        self._pending.add(key)
        return min(self._longest_seconds, self._cost_seconds * len(self._pending) / self._share)

    def spent(self, key: K, seconds: float) -> None:
        """A key was worked on for so long.

        What only computes counts its time on the processor: on a busy machine it also waits for that, which says
        nothing of what it costs.
        """
        self._pending.discard(key)
        self._cost_seconds += (seconds - self._cost_seconds) * _WEIGHT_OF_LAST

    def forget(self, key: K) -> None:
        """There is nothing to do about a key any more."""
        self._pending.discard(key)
