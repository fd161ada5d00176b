"""What no longer has a name, and may still be in use: one small record per name that left a copy, and for no other.

A container runtime follows a link when it starts a container, so a Pod goes on with the directory to which a model's
path led at that time. When the link goes or moves, the copy that it led to is released: its record says under which
path readers had it and until when. While there is a record, the store keeps the copy. Whether a record has to go is
decided in removal; here it is only kept, across restarts.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.fetcher.store.record_folder import RecordFolder


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
        self._records: RecordFolder[Release] = RecordFolder(directory, _read)

    def load(self) -> None:
        """Read all records."""
        self._records.load()

    def all(self) -> list[Release]:
        """Every record, in a stable order."""
        return [release for _, release in sorted(self._records.all().items())]

    def of(self, copy: str) -> list[Release]:
        """The records of one copy."""
        return [each for each in self.all() if each.copy == copy]

    def put(self, release: Release) -> None:
        """Write a record durably, in place of an earlier one of the same name and copy."""
        self._records.put(release.name, release)

    def remove(self, releases: Iterable[Release]) -> None:
        """Remove records. Idempotent."""
        self._records.remove(each.name for each in releases)


def _read(name: str, fields: Any) -> Release:
    release = Release(
        str(fields["copy"]),
        str(fields["digest"]),
        str(fields["uid"]),
        str(fields["path"]),
        float(fields["released_at"]),
    )
    if release.name != name:
        raise ValueError(f"the record of {release.name} is named {name}")
    return release
