"""Small records that outlive the process: one file of JSON each below one directory, written durably, all in memory."""

import json
from collections.abc import Callable, Iterable
from dataclasses import Field, asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from services.fetcher.store.files import UNFINISHED_SUFFIX, sync_directory, write_durably


class Dataclass(Protocol):
    """What asdict takes."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


R = TypeVar("R", bound=Dataclass)


class RecordFolder(Generic[R]):
    """Records by name. The name is that of the file, so it must be one part of a path, which is for the caller."""

    def __init__(self, directory: Path, read: Callable[[str, Any], R]) -> None:
        """Read makes a record of a name and the fields that stand there; ValueError, KeyError or TypeError is none."""
        self.directory = directory
        self._read = read
        self._records: dict[str, R] = {}

    def load(self) -> None:
        """Read all records. One that makes no sense is dropped: it can only be the work of something else than us."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        for file in self.directory.glob("*.json"):
            try:
                self._records[file.stem] = self._read(file.stem, json.loads(file.read_bytes()))
            except (ValueError, KeyError, TypeError):
                file.unlink()

    def all(self) -> dict[str, R]:
        """Every record by name."""
        return dict(self._records)

    def get(self, name: str) -> R | None:
        """One record."""
        return self._records.get(name)

    def put(self, name: str, record: R) -> None:
        """Write a record durably, in place of an earlier one of its name."""
        write_durably(self.file(name), json.dumps(asdict(record)).encode())
        self._records[name] = record

    def remove(self, names: Iterable[str]) -> None:
        """Remove records. Idempotent."""
        removed = [name for name in names if self._records.pop(name, None)]
        for name in removed:
            self.file(name).unlink(missing_ok=True)
        if removed:
            sync_directory(self.directory)

    def file(self, name: str) -> Path:
        """Where a record of this name stands."""
        return self.directory / f"{name}.json"
