"""How far a transfer is, and how fast: pure arithmetic over samples. Must not read a clock."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# A rate over this many seconds is steady enough to read and still follows a change.
_WINDOW_SECONDS = 10.0
# Files that are told apart: a transfer has few large ones on their way at a time, and small ones are gone in a moment.
_MOST_FILES = 4


@dataclass(frozen=True)
class FileProgress:
    """One file of a transfer that is under way at one moment."""

    path: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: int
    eta_seconds: int


@dataclass(frozen=True)
class Progress:
    """A transfer at one moment. bytes_done counts what came from disk on resume too; eta_seconds is 0 when unknown."""

    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: int
    eta_seconds: int
    # Those of the files on their way that are worth telling apart.
    files: tuple[FileProgress, ...] = ()


@dataclass(frozen=True)
class OpenFile:
    """A file on its way. Of the bytes received, those found on the node say nothing about how fast the origin is."""

    path: str
    size: int
    received: int
    found: int = 0


ProgressCallback = Callable[[Progress], None]


class RateMeter:
    """Mean rate over the last seconds, from (time, bytes) samples of one transfer."""

    def __init__(self, now: float, bytes_done: int = 0) -> None:
        self._samples = deque([(now, bytes_done)])

    def sample(self, now: float, bytes_done: int) -> int:
        """Add a sample and return the rate in bytes per second; a count that fell starts the measurement anew."""
        if bytes_done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, bytes_done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        first_time, first_bytes = self._samples[0]
        return int((bytes_done - first_bytes) / (now - first_time)) if now > first_time else 0


class FileMeters:
    """How far and how fast each of the files on their way is, the largest of them."""

    def __init__(self) -> None:
        self._meters: dict[str, RateMeter] = {}

    def measure(self, now: float, files: Iterable[OpenFile]) -> tuple[FileProgress, ...]:
        """Add a sample of each file on its way; those that are not named any more are forgotten."""
        largest = sorted(files, key=lambda each: (-each.size, each.path))[:_MOST_FILES]
        self._meters = {
            each.path: self._meters.get(each.path) or RateMeter(now, each.received - each.found) for each in largest
        }
        return tuple(self._of(now, each) for each in largest)

    def _of(self, now: float, file: OpenFile) -> FileProgress:
        rate = self._meters[file.path].sample(now, file.received - file.found)
        left = remaining_seconds(file.size - file.received, rate)
        return FileProgress(file.path, file.received, file.size, rate, left)


def remaining_seconds(bytes_left: int, bytes_per_second: int) -> int:
    """Expected remaining time, rounded up; 0 when nothing is left or nothing moves."""
    return -(-bytes_left // bytes_per_second) if bytes_per_second > 0 and bytes_left > 0 else 0
