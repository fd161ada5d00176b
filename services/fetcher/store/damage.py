"""What reading has found wrong with held artifacts: one small record per artifact, so that a restart knows it too.

Without the record a process that is killed before the repair would call the artifact whole until the next scrub.
"""

import json
from collections.abc import Collection
from pathlib import Path

from libs.artifact.digest import digest_directory, is_digest
from services.fetcher.store.files import UNFINISHED_SUFFIX, sync_directory, write_durably


class Damage:
    """The records below one directory, by the artifact's digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, frozenset[str]] = {}

    def load(self) -> None:
        """Read all records. One that makes no sense is dropped: the next scrub finds the damage again."""
        for unfinished in self.directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        for record in self.directory.glob("*.json"):
            digest = record.stem.replace("-", ":", 1)
            try:
                files = frozenset(map(str, json.loads(record.read_bytes())))
            except (ValueError, TypeError):
                files = frozenset()
            if is_digest(digest) and files:
                self._files[digest] = files
            else:
                record.unlink()

    def of(self, digest: str) -> Collection[str]:
        """Paths of the files of an artifact that are known to be damaged."""
        return self._files.get(digest, frozenset())

    def note(self, digest: str, files: Collection[str]) -> None:
        """Replace what is known of an artifact. It is known from now on even where it cannot be written down."""
        self._files[digest] = frozenset(files)
        write_durably(self._record(digest), json.dumps(sorted(files)).encode())

    def forget(self, digest: str) -> None:
        """The artifact is whole again, or gone. Idempotent."""
        if self._files.pop(digest, None):
            self._record(digest).unlink(missing_ok=True)
            sync_directory(self.directory)

    def _record(self, digest: str) -> Path:
        return self.directory / f"{digest_directory(digest)}.json"
