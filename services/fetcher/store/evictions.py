"""Which models have given up their copy below one root, to make room or as they were asked to: a record of each.

While there is a record, a model that is assigned to the node is not fetched again. It is written before the copy goes,
so a crash in between leaves a record of a model that is still there, which then goes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.fetcher.store.record_folder import RecordFolder


@dataclass(frozen=True)
class Eviction:
    """What a model had and where, how much room it takes, and what was asked of it then, as assignments say it.

    path is relative to the root.
    """

    digest: str
    path: str
    bytes: int
    demand: str


def eviction_records(directory: Path) -> RecordFolder[Eviction]:
    """The records below one directory, by the uid of the model."""
    return RecordFolder(directory, _read)


def _read(_: str, fields: Any) -> Eviction:
    return Eviction(str(fields["digest"]), str(fields["path"]), int(fields["bytes"]), str(fields["demand"]))
