"""Whether a file on disk is what its manifest says: by its size, or by reading all of it.

Must not decide what happens to a file that is not.
"""

import errno
import os
import stat
import time
from pathlib import Path

from libs.artifact.manifest import ManifestFile
from services.fetcher.stop import StopFlag
from services.fetcher.store.checksums import matches, new_checksum
from services.fetcher.store.files import LOST_ERRNOS

_READ_BYTES = 1 << 20
# A file of which this comes has to be fetched again.
_DAMAGED_ERRNOS = (errno.ENOENT, errno.ENOTDIR, *LOST_ERRNOS)


class Pace:
    """Keeps reading below a rate, and looks at the stop flag on the way."""

    def __init__(self, stop: StopFlag, bytes_per_second: float | None) -> None:
        self._stop = stop
        self._rate = bytes_per_second
        self._due = time.monotonic()

    def spend(self, count: int) -> None:
        """Wait as long as so many bytes may take. Raises Stopped."""
        self._stop.check()
        if self._rate:
            self._due = max(self._due, time.monotonic() - 1.0) + count / self._rate
            if self._stop.wait(max(self._due - time.monotonic(), 0)):
                self._stop.check()


def status_of(path: Path, file: ManifestFile) -> os.stat_result | None:
    """The status of a regular file of the listed size; None if there is no such file."""
    try:
        status = path.lstat()
    except OSError as error:
        if error.errno in _DAMAGED_ERRNOS:
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) and status.st_size == file.size_bytes else None


def has_content(path: Path, file: ManifestFile, received: str | None, pace: Pace) -> bool:
    """Whether the content matches the listed checksum, and the SHA-256 of what arrived if that is known."""
    running = new_checksum(file)
    buffer = memoryview(bytearray(_READ_BYTES))
    try:
        with path.open("rb", buffering=0) as content:
            while count := content.readinto(buffer):
                pace.spend(count)
                running.update(buffer[:count])
            # Reading must not push what models really use out of the page cache.
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if error.errno in _DAMAGED_ERRNOS:
            return False
        raise
    digest = running.hexdigest()
    return matches(file, digest) and received in (None, digest)
