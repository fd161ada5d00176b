"""Which model published which artifact where: one small record per model, so that a restart knows without a network.

A record is written before the link it describes and removed after it; so a link of ours without a record does not arise
from a crash, and a record without its link only says that a publication or removal is to be repeated.
"""

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.fetcher.store.record_folder import RecordFolder

# A metadata.uid of Kubernetes is a UUID; anything else that cannot leave the directory will do.
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")


@dataclass(frozen=True)
class Owner:
    """What a model uid has published: path is relative to the root; made_directories are those created for it.

    Reserved is what stays although the model is gone: it is nobody's, until a model takes the path, the link goes or
    its time is over. reserved_seconds is how long it has been so while a fetcher ran: no clock that is set counts.
    """

    path: str
    digest: str
    made_directories: tuple[str, ...] = ()
    reserved: bool = False
    reserved_seconds: float = 0.0


class Owners:
    """The records below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._records: RecordFolder[Owner] = RecordFolder(directory, _read)

    def load(self) -> None:
        """Read all records."""
        self._records.load()

    def all(self) -> dict[str, Owner]:
        """Every record by model uid."""
        return self._records.all()

    def get(self, uid: str) -> Owner | None:
        """The record of one model."""
        return self._records.get(uid)

    def touch(self, uid: str) -> None:
        """Note that what a model has published is used now: the record's own time says when it was last. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            # Told to the nanosecond: by itself the kernel counts in ticks, in which several models may be used.
            now = time.time_ns()
            os.utime(self._records.file(uid), ns=(now, now))

    def touched_at(self, uid: str) -> float:
        """When what a model has published was last used or published, in seconds of the time of day; 0 if never."""
        try:
            return self._records.file(uid).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def put(self, uid: str, owner: Owner) -> None:
        """Write a record durably."""
        if not _UID.fullmatch(uid):
            raise ValueError(f"{uid!r} is not a model uid")
        self._records.put(uid, owner)

    def remove(self, uid: str) -> None:
        """Remove a record. Idempotent."""
        self._records.remove([uid])


def _read(_: str, fields: Any) -> Owner:
    return Owner(
        fields["path"],
        fields["digest"],
        tuple(fields["made_directories"]),
        bool(fields.get("reserved", False)),
        float(fields.get("reserved_seconds", 0.0)),
    )
