"""What a download has verified so far, written beside the staging files so that a killed process can go on.

A record holds the digest of a file's first bytes, not a promise that they reached the disk: on resume the local bytes
are hashed again and believed as far as the digests agree. So neither a lost page nor a preallocated zero passes for
data, and no write has to be ordered. Only "synced" is a promise, made after fsync, and spares large files the second
reading.
"""

import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"(?P<index>\d{1,9}) (?P<what>\d{1,18}|synced|reset) (?P<value>[0-9a-f]{1,64})\n", re.ASCII)


@dataclass
class FileRecord:
    """The verified prefixes of one file as (length, digest), ascending, and its mtime if it was synced whole."""

    prefixes: list[tuple[int, str]] = field(default_factory=list)
    synced_mtime_ns: int | None = None


def parse_records(content: str) -> tuple[dict[int, FileRecord], int]:
    """Read a journal; return records by index of the file in its manifest, and how many characters made sense.

    A line that a crash has torn ends it: what follows was never promised.
    """
    records: dict[int, FileRecord] = {}
    length = 0
    for line in content.splitlines(keepends=True):
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


class Journal:
    """The journal of one ingest. Safe for use from several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.reread()

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
        return parse_records(self._path.read_text(encoding="ascii", errors="replace"))

    def _append(self, line: str) -> None:
        with self._lock:
            os.write(self._fd, line.encode("ascii"))
