"""Which models have given up their copy below one root, to make room or as they were asked to: a record of each.

While there is a record, a model that is assigned to the node is not fetched again. It is written before the copy goes,
so a crash in between leaves a record of a model that is still there, which then goes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.fetcher.store.files import UNFINISHED_SUFFIX, sync_directory, write_durably


@dataclass(frozen=True)
class Eviction:
    """What a model had and where, how much room it takes, and what was asked of it then, as assignments say it.

    path is relative to the root.
    """

    digest: str
    path: str
    bytes: int
    demand: str


class Evictions:
    """The records below one directory, by the uid of the model."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._evictions: dict[str, Eviction] = {}

    def load(self) -> None:
        """Read all records. One that makes no sense is dropped: it can only be the work of something else than us."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        for file in self.directory.glob("*.json"):
            try:
                fields = json.loads(file.read_bytes())
                self._evictions[file.stem] = Eviction(
                    str(fields["digest"]), str(fields["path"]), int(fields["bytes"]), str(fields["demand"])
                )
            except (ValueError, KeyError, TypeError):
                file.unlink()

    def all(self) -> dict[str, Eviction]:
        """Every record by model uid."""
        return dict(self._evictions)

    def get(self, uid: str) -> Eviction | None:
        """The record of one model."""
        return self._evictions.get(uid)

    def put(self, uid: str, eviction: Eviction) -> None:
        """Write a record durably."""
        write_durably(self.directory / f"{uid}.json", json.dumps(asdict(eviction)).encode())
        self._evictions[uid] = eviction

    def remove(self, uid: str) -> None:
        """Remove a record. Idempotent."""
        if self._evictions.pop(uid, None):
            (self.directory / f"{uid}.json").unlink(missing_ok=True)
            sync_directory(self.directory)
