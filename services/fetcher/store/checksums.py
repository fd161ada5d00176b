"""The running checksum of a file, by each algorithm that a manifest may name."""

import hashlib
from typing import Protocol

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile


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
        case _:
            return hashlib.sha256()


def matches(file: ManifestFile, digest: str) -> bool:
    """Whether the digest of a whole file is the one that the manifest asks for."""
    return file.algorithm is ChecksumAlgorithm.NONE or digest == file.checksum
