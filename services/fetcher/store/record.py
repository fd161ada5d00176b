"""The record of an artifact on disk: its manifest, and what arrived of files for which the source told no checksum.

Owns the format, manifests/<digest>.json below a root's state directory, ASCII with one JSON document per line, so that
a reader needs only one at a time:

    {"sourceRevision": "<commit or empty>", "place": "<where a bucket is; absent if it does not count>"}
    ["<path>", <bytes>, "<algorithm>", "<checksum>"]
    ["<path>", <bytes>, "<algorithm>", "<checksum>", "<version at the source>", "<SHA-256 of what arrived>"]

A file has the fifth column if the source names its version or the sixth is there, and the sixth if the source told no
checksum to match. Readers pass over further columns. The artifact's digest is that of the manifest, so a record that
was changed on disk is noticed; the sixth column is not in it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.digest import digest_directory
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Missing
from services.fetcher.store.files import LOST_ERRNOS, write_durably

_SUFFIX = ".json"


@dataclass(frozen=True)
class Record:
    """What is known of an artifact: its manifest, and SHA-256 by path of what arrived without a checksum to match."""

    manifest: Manifest
    received: Mapping[str, str]


class Records:
    """The records below one directory, by the artifact's digest. `root_name` is what a person calls the model root."""

    def __init__(self, directory: Path, root_name: str) -> None:
        self.directory = directory
        self._root_name = root_name

    def get(self, digest: str) -> Record:
        """Read a record. Raises Missing (NotFound) or Corrupt (ArtifactDamaged)."""
        damaged = f"the manifest of {digest} below {self._root_name} is damaged"
        try:
            with self._path(digest).open(encoding="ascii") as lines:
                record = _parsed(lines)
        except FileNotFoundError as error:
            raise Missing(Reason.NOT_FOUND, f"{digest} is not held below {self._root_name}") from error
        except OSError as error:
            if error.errno not in LOST_ERRNOS:
                raise
            raise Corrupt(Reason.ARTIFACT_DAMAGED, damaged) from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise Corrupt(Reason.ARTIFACT_DAMAGED, damaged) from error
        if record.manifest.digest != digest:
            raise Corrupt(Reason.ARTIFACT_DAMAGED, damaged)
        return record

    def put(self, record: Record) -> None:
        """Write a record, durable when this returns."""
        write_durably(self._path(record.manifest.digest), _lines(record))

    def received(self, digest: str) -> Mapping[str, str]:
        """What arrived of an artifact's files, by path; empty if there is no record that can be read."""
        try:
            return self.get(digest).received
        except (Missing, Corrupt):
            return {}

    def remove(self, digest: str) -> None:
        """Remove a record. Idempotent."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest_directory(digest)}{_SUFFIX}"


def _lines(record: Record) -> bytearray:
    manifest = record.manifest
    header = {"sourceRevision": manifest.source_revision} | ({"place": manifest.place} if manifest.place else {})
    lines = bytearray(json.dumps(header).encode() + b"\n")
    for file in manifest.files:
        row: list[str | int] = [file.path, file.size_bytes, file.algorithm.value, file.checksum]
        received = record.received.get(file.path)
        if file.version or received:
            row += [file.version, *filter(None, [received])]
        lines += json.dumps(row, separators=(",", ":")).encode() + b"\n"
    return lines


def _parsed(lines: Iterator[str]) -> Record:
    header = json.loads(next(lines, "null"))
    files, received = [], {}
    for path, size, algorithm, checksum, *rest in map(json.loads, lines):
        files.append(ManifestFile(path, size, ChecksumAlgorithm(algorithm), checksum, *rest[:1]))
        if len(rest) > 1:
            received[str(path)] = str(rest[1])
    return Record(new_manifest(header["sourceRevision"], files, str(header.get("place", ""))), received)
