"""Remembers how fast this node has downloaded lately from each kind of source: its heartbeat tells the fleet. Pure.

Kept in memory alone: a fetcher that was started anew has seen no rate, and says so.
"""

from collections.abc import Iterator

# What was seen longer ago says little about now.
SECONDS = 86_400.0


class Rates:
    """The last rate by scheme, in bytes per second. Times are by any one clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def saw(self, scheme: str, bytes_per_second: float, now: float) -> None:
        """A download goes, or went, at a rate; one that stands still tells nothing. Schemes are those of sources."""
        if bytes_per_second >= 1:
            self._seen[scheme] = int(bytes_per_second), now

    def told(self, now: float) -> Iterator[tuple[str, int, int]]:
        """Schemes, the rate from each, and how many seconds ago that was."""
        for scheme, (rate, at) in sorted(self._seen.items()):
            if now - at <= SECONDS:
                yield scheme, rate, max(0, int(now - at))
