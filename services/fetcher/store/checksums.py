"""The running checksum of a file, by each algorithm that a manifest may name."""

import hashlib
from typing import Protocol

import google_crc32c

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile

# The C function takes bytes and holds the interpreter's lock: 60 microseconds for as many.
_CRC32C_BYTES = 1 << 20


class RunningChecksum(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""

    def hexdigest(self) -> str:
        """Digest of what was taken in so far."""

    def copy(self) -> "RunningChecksum":
        """A second state that continues independently."""


def new_checksum(file: ManifestFile) -> RunningChecksum:
    """Start the checksum of a file. Where the source offers none, SHA-256 guards what is written for a resume."""
    match file.algorithm:
        case ChecksumAlgorithm.GIT_SHA1:
            # A blob in Git's object format is "blob <size>\0" and the content.
            return hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
        case ChecksumAlgorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case ChecksumAlgorithm.SHA384:
            return hashlib.sha384()
        case ChecksumAlgorithm.CRC32C:
            return _Crc32c()
        case _:
            return hashlib.sha256()


def matches(file: ManifestFile, digest: str) -> bool:
    """Whether the digest of a whole file is the one that the manifest asks for."""
    return file.algorithm is ChecksumAlgorithm.NONE or digest == file.checksum


class _Crc32c:
    """CRC-32C (RFC 3720, section 12.1), as hashlib would have it."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def update(self, data: memoryview, /) -> None:
        for start in range(0, len(data), _CRC32C_BYTES):
            self._value = google_crc32c.extend(self._value, bytes(data[start : start + _CRC32C_BYTES]))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"

    def copy(self) -> "_Crc32c":
        return _Crc32c(self._value)
