"""What no longer has a name, and may still be in use: one small record per name that left a copy, and for no other.

A container runtime follows a link when it starts a container, so a Pod goes on with the directory to which a model's
path led at that time. When the link goes or moves, the copy that it led to is released: its record says under which
path readers had it and until when. While there is a record, the store keeps the copy. Whether a record has to go is
decided in removal; here it is only kept, across restarts.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.fetcher.store.files import UNFINISHED_SUFFIX, sync_directory, write_durably


@dataclass(frozen=True)
class Release:
    """That a model's path has led to a copy until released_at, in seconds of the time of day.

    copy names its directory: that of an artifact, or one that a repair has put aside. Path is relative to the root.
    """

    copy: str
    digest: str
    uid: str
    path: str
    released_at: float

    @property
    def name(self) -> str:
        """Names the record: a path that has led to the same copy before has one record, with the later time."""
        return f"{self.copy}.{self.uid}.{hashlib.sha256(self.path.encode()).hexdigest()[:16]}"


class Releases:
    """The records below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._releases: dict[str, Release] = {}

    def load(self) -> None:
        """Read all records. One that makes no sense is dropped: it can only be the work of something else than us."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        for file in self.directory.glob("*.json"):
            try:
                fields = json.loads(file.read_bytes())
                release = Release(
                    str(fields["copy"]),
                    str(fields["digest"]),
                    str(fields["uid"]),
                    str(fields["path"]),
                    float(fields["released_at"]),
                )
            except (ValueError, KeyError, TypeError):
                file.unlink()
                continue
            if release.name != file.stem:
                file.unlink()
                continue
            self._releases[release.name] = release

    def all(self) -> list[Release]:
        """Every record, in a stable order."""
        return [self._releases[name] for name in sorted(self._releases)]

    def of(self, copy: str) -> list[Release]:
        """The records of one copy."""
        return [each for each in self.all() if each.copy == copy]

    def put(self, release: Release) -> None:
        """Write a record durably, in place of an earlier one of the same name and copy."""
        write_durably(self.directory / f"{release.name}.json", json.dumps(asdict(release)).encode())
        self._releases[release.name] = release

    def remove(self, releases: Iterable[Release]) -> None:
        """Remove records. Idempotent."""
        removed = [self._releases.pop(each.name) for each in releases if each.name in self._releases]
        for release in removed:
            (self.directory / f"{release.name}.json").unlink(missing_ok=True)
        if removed:
            sync_directory(self.directory)
