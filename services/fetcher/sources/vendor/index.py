"""The document with which a vendor says what files a model has, and what a driver program says of one file. Pure.

The format is described for vendors in docs/guides/vendor-drivers.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Invalid, Missing
from services.fetcher.sources.selection import OME_CHOOSES, Choice, is_folder_marker, select_files
from services.fetcher.sources.vendor.drivers import is_free_header
from services.fetcher.transfer.origin import Location

# An index with more is most likely a whole store, and would fill the memory.
_MOST_FILES = 100_000
# Far more than any model has, and far less than the protocol's integers hold.
_MOST_BYTES = 1 << 53
# What is said to take longer, or to last longer, is looked at again after this time.
_DAY_SECONDS = 86_400.0
_CHECKSUMS = (
    ("sha256", ChecksumAlgorithm.SHA256, re.compile(r"[0-9a-f]{64}")),
    ("md5", ChecksumAlgorithm.MD5, re.compile(r"[0-9a-f]{32}")),
)


@dataclass(frozen=True)
class IndexFile:
    """One file of an index: what it must be, and where it is, if the index says so."""

    file: ManifestFile
    url: str = field(default="", repr=False)


@dataclass(frozen=True)
class Index:
    """The files of a model by path, and the revision that they are of; empty when the index names none.

    listed is how many files there are, with those that patterns leave out.
    """

    revision: str
    files: Mapping[str, IndexFile]
    listed: int


@dataclass(frozen=True)
class Page:
    """A part of an index, and where the next one is; an empty next says that it is the last."""

    revision: str
    entries: tuple[Mapping[str, Any], ...]
    next: str


def read_page(document: Mapping[str, Any], source: str) -> Page:
    """Take a part of an index apart. Raises InvalidValue InvalidListing."""
    revision, following = document.get("revision", ""), document.get("next", "")
    if not isinstance(revision, str) or not revision.isprintable():
        raise _unusable(source, "'revision' must be a string")
    if not isinstance(following, str):
        raise _unusable(source, "'next' must be a string with the URL of the next page")
    entries = document.get("files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unusable(source, "'files' must be a list of objects with 'path' and 'size'")
    return Page(revision, tuple(entries), following)


class IndexBuilder:
    """Puts the pages of one index together."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._revision: str | None = None
        self._entries: list[Mapping[str, Any]] = []

    def add(self, page: Page) -> None:
        """Take a page. Raises Invalid for too many files, Corrupt when the model has changed between two pages."""
        if self._revision is None:
            self._revision = page.revision
        if page.revision != self._revision:
            raise Corrupt(Reason.SOURCE_CHANGED, f"{self._source}: the pages of the index are of different revisions")
        self._entries += page.entries
        if len(self._entries) > _MOST_FILES:
            raise Invalid(
                Reason.INVALID_URI, f"{self._source} has more than {_MOST_FILES} files: name one model in storageUri"
            )

    def index(self, choice: Choice = OME_CHOOSES) -> Index:
        """The whole index of the files that a choice's patterns leave in. Raises InvalidValue InvalidListing."""
        revision = self._revision or ""
        read = [_read_file(entry, revision, self._source) for entry in self._entries if _may_be_wanted(entry, choice)]
        # Names are checked before they become keys, so that one which is listed twice is noticed.
        manifest = new_manifest(revision, (entry.file for entry in read))
        if manifest.size_bytes > _MOST_BYTES:
            raise _unusable(self._source, f"the sizes of the files add up to {manifest.size_bytes} bytes")
        return Index(revision, {entry.file.path: entry for entry in read}, len(self._entries))


def manifest_of(index: Index, source: str, choice: Choice) -> Manifest:
    """The files to fetch: all of them unless patterns say otherwise, as the vendor knows what the model needs.

    Raises Missing NotFound, Invalid InvalidParameter.
    """
    if not index.listed:
        raise Missing(Reason.NOT_FOUND, f"{source}: the vendor's index lists no files: check storageUri")
    selection = select_files(index.files.keys(), Choice(choice.allow or ("*",), choice.ignore))
    if not selection.paths:
        raise Invalid(
            Reason.INVALID_PARAMETER,
            f"allowPatterns and ignorePatterns leave none of the {index.listed} files of {source}; "
            "a pattern is matched against the whole path, as in '*.safetensors' or 'onnx/*'",
        )
    return new_manifest(index.revision, (index.files[path].file for path in selection.paths))


def located(index: Index, file: ManifestFile, source: str) -> str:
    """The URL that an index gives for a file. Raises Missing or Corrupt when it is not the file that was listed."""
    entry = index.files.get(file.path)
    if entry is None:
        raise Missing(Reason.NOT_FOUND, f"{source}: {file.path!r} is no longer in the vendor's index")
    if entry.file != file:
        raise Corrupt(
            Reason.SOURCE_CHANGED, f"{source}: {file.path!r} has changed in the vendor's index since it was listed"
        )
    if not entry.url:
        raise InvalidValue(
            Reason.INVALID_LISTING,
            f"{source}: the index has no 'url' for {file.path!r}, and the vendor's driver has no 'file' template",
        )
    return entry.url


def read_location(document: Mapping[str, Any], source: str) -> tuple[Location, float | None]:
    """Where a driver program says that a file is, and for how many seconds. Raises InvalidValue InvalidListing."""
    url, headers, seconds = document.get("url"), document.get("headers", {}), document.get("expiresInSeconds")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise _unusable(source, "'url' must be an http or https URL")
    if not isinstance(headers, dict) or not all(
        is_free_header(name) and isinstance(value, str) and value.isascii() and value.isprintable()
        for name, value in headers.items()
    ):
        raise _unusable(source, "'headers' must be an object of one-line strings, without those that the fetcher sets")
    if seconds is not None and not _is_amount(seconds):
        raise _unusable(source, "'expiresInSeconds' must be a number, at least 0")
    return Location(url, headers), None if seconds is None else float(min(seconds, _DAY_SECONDS))


def said_seconds(document: Mapping[str, Any]) -> float | None:
    """The pause that a driver program asks for, if it does; a day at most."""
    seconds: Any = document.get("retryAfterSeconds")
    return float(min(seconds, _DAY_SECONDS)) if _is_amount(seconds) else None


def _may_be_wanted(entry: Mapping[str, Any], choice: Choice) -> bool:
    path = entry.get("path")
    return not isinstance(path, str) or (choice.wants(path) and not is_folder_marker(path, entry.get("size", "?")))


def _read_file(entry: Mapping[str, Any], revision: str, source: str) -> IndexFile:
    path, size, url = entry.get("path"), entry.get("size"), entry.get("url", "")
    if not isinstance(path, str):
        raise _unusable(source, f"'path' of a file is {_shown(path)}: it must be a string")
    if not isinstance(size, int) or isinstance(size, bool):
        raise _unusable(source, f"'size' of {path!r} is {_shown(size)}: it must be its number of bytes")
    if not isinstance(url, str):
        raise _unusable(source, f"'url' of {path!r} must be a string")
    for name, algorithm, pattern in _CHECKSUMS:
        checksum = entry.get(name)
        if checksum is None:
            continue
        if not isinstance(checksum, str) or not pattern.fullmatch(checksum.lower()):
            raise _unusable(source, f"{name!r} of {path!r} is {_shown(checksum)}: it must be hexadecimal digits")
        return IndexFile(ManifestFile(path, size, algorithm, checksum.lower()), url)
    # For want of a checksum, only where it comes from tells one content from another of the same size.
    return IndexFile(ManifestFile(path, size, ChecksumAlgorithm.NONE, "", f"{source}@{revision}"), url)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _unusable(source: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_LISTING, f"{source}: the vendor's index cannot be used: {why}")
