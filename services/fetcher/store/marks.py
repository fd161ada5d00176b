"""What the files of an artifact looked like when they were right: inode and time of the last write of each.

Reading a model takes hours; a look at these tells at once that somebody has written into a file or replaced it, unless
they have taken care to hide it, which reading finds later. One small record per artifact, marks/<digest>.json below a
root's state directory:

    {"directory": <inode>, "files": {"<path>": [<inode>, <time in nanoseconds>]}}

A record about another directory than the one that is there is out of date, as a crash leaves it: it says nothing, and
neither does one that a power cut has torn. So none has to be on disk before anything else happens: an artifact without
marks gets new ones.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from libs.artifact.digest import digest_directory
from libs.artifact.manifest import ManifestFile
from services.fetcher.store.files import UNFINISHED_SUFFIX, write_whole

Mark = tuple[int, int]


def mark_of(status: os.stat_result) -> Mark:
    """What a file looks like now."""
    return status.st_ino, status.st_mtime_ns


class Marks:
    """The records below one directory, by the artifact's digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self) -> None:
        """Remove what a crash has left unfinished."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()

    def of(self, digest: str, artifact: Path) -> Mapping[str, Mark] | None:
        """The marks of an artifact's files by path; None if none are known of this directory."""
        try:
            record = json.loads(self._record(digest).read_bytes())
            known = int(record["directory"])
            marks = {str(path): (int(inode), int(time)) for path, (inode, time) in record["files"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return marks if known == os.stat(artifact).st_ino else None

    def take(self, digest: str, directory: Path, files: Iterable[ManifestFile]) -> None:
        """Remember what the files of a directory look like, which is the artifact or about to become it."""
        marks = {file.path: mark_of(os.lstat(directory / file.path)) for file in files}
        record = {"directory": os.stat(directory).st_ino, "files": marks}
        write_whole(self._record(digest), json.dumps(record, separators=(",", ":")).encode())

    def forget(self, digest: str) -> None:
        """The artifact is gone. Idempotent."""
        self._record(digest).unlink(missing_ok=True)

    def digests(self) -> set[str]:
        """The artifacts of which there are records."""
        return {record.stem.replace("-", ":", 1) for record in self.directory.glob("*.json")}

    def _record(self, digest: str) -> Path:
        return self.directory / f"{digest_directory(digest)}.json"
