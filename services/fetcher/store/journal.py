"""What a download has verified so far, written beside the staging files so that a killed process can go on.

A record holds the digest of a file's first bytes, not a promise that they reached the disk: on resume the local bytes
are hashed again and believed as far as the digests agree. So neither a lost page nor a preallocated zero passes for
data, and no write has to be ordered. Only "synced" is a promise, made after fsync, and spares large files the second
reading.
"""

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from services.fetcher.store.files import LOST_ERRNOS

# The longest list of prefixes that is remembered of one file, and about how many it is thinned to: memory must not grow
# with the file, and where a byte was lost no more than the 32nd part is fetched again that need not be.
_MOST_PREFIXES, _THINNED_PREFIXES = 256, 128
_LINE = re.compile(r"(?P<index>\d{1,9}) (?P<what>\d{1,18}|synced|reset) (?P<value>[0-9a-f]{1,64})\n", re.ASCII)


@dataclass(slots=True)
class FileRecord:
    """Verified prefixes of one file as (length, digest), ascending, and its mtime if it was synced whole."""

    prefixes: list[tuple[int, str]] = field(default_factory=list)
    synced_mtime_ns: int | None = None


def parse_records(lines: Iterable[str]) -> tuple[dict[int, FileRecord], int]:
    """Read the lines of a journal; return records by index of the file in its manifest, and their length in characters.

    A line that a crash has torn ends it: what follows was never promised.
    """
    records: dict[int, FileRecord] = {}
    length = 0
    for line in lines:
        match = _LINE.fullmatch(line)
        if not match:
            break
        record = records.setdefault(int(match["index"]), FileRecord())
        if match["what"] == "reset":
            record.prefixes.clear()
            record.synced_mtime_ns = None
        elif match["what"] == "synced":
            record.synced_mtime_ns = int(match["value"], 16)
        else:
            _extend(record, int(match["what"]), match["value"])
        length += len(line)
    return records, length


def _extend(record: FileRecord, length: int, digest: str) -> None:
    # A shorter prefix than the last means that the file was started again from there.
    while record.prefixes and record.prefixes[-1][0] >= length:
        record.prefixes.pop()
        record.synced_mtime_ns = None
    record.prefixes.append((length, digest))
    if len(record.prefixes) > _MOST_PREFIXES:
        record.prefixes = _thin(record.prefixes)


def _thin(prefixes: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Evenly spaced ones of a list, and the longest. The spacing is a power of two, so that thinning again keeps it."""
    *others, longest = prefixes
    spacing = 1 << (longest[0] // _THINNED_PREFIXES).bit_length()
    first_of_each = {length // spacing: (length, digest) for length, digest in reversed(others)}
    return [*reversed(first_of_each.values()), longest]


class Journal:
    """The journal of one ingest. Safe for use from several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self.reread()
        except OSError:
            self.close()
            raise

    def reread(self) -> None:
        """Take in what was written since the journal was opened, when one attempt follows another in this process."""
        with self._lock:
            self.records, valid = self._read()
            os.ftruncate(self._fd, valid)

    def verified(self, index: int, length: int, digest: str) -> None:
        """The first length bytes of a file have this digest."""
        self._append(f"{index} {length} {digest}\n")

    def synced(self, index: int, mtime_ns: int) -> None:
        """A whole file is verified and was synced to disk; it is as it was then while its mtime is the same."""
        self._append(f"{index} synced {mtime_ns:x}\n")

    def reset(self, index: int) -> None:
        """Nothing of a file is verified any more."""
        self._append(f"{index} reset 0\n")

    def longest_prefixes(self) -> dict[int, tuple[int, str]]:
        """The longest verified prefix of each file as of now, as (length, digest). Reads the whole journal."""
        records, _ = self._read()
        return {index: record.prefixes[-1] for index, record in records.items() if record.prefixes}

    def close(self) -> None:
        """Close the file. Idempotent; records stay."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def _read(self) -> tuple[dict[int, FileRecord], int]:
        try:
            # Characters that are not ASCII end the reading, so that a character is a byte up to there.
            with self._path.open(encoding="ascii", errors="replace", newline="\n") as lines:
                return parse_records(lines)
        except OSError as error:
            if error.errno not in LOST_ERRNOS:
                raise
            # Everything is fetched again.
            return {}, 0

    def _append(self, line: str) -> None:
        with self._lock:
            os.write(self._fd, line.encode("ascii"))
