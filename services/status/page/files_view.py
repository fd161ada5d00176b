"""The files of an artifact as the page lists them, the largest first. Pure."""

from dataclasses import dataclass

from libs.artifact.sizes import shown_size
from libs.artifact.wording import one_line, shown_path
from ome.fetch.v1.fetch_pb2 import ChecksumAlgorithm, FilesReply

_WORDS = {
    ChecksumAlgorithm.CHECKSUM_ALGORITHM_SHA256: "SHA-256",
    ChecksumAlgorithm.CHECKSUM_ALGORITHM_GIT_SHA1: "Git",
    ChecksumAlgorithm.CHECKSUM_ALGORITHM_MD5: "MD5",
    ChecksumAlgorithm.CHECKSUM_ALGORITHM_SHA384: "SHA-384",
    ChecksumAlgorithm.CHECKSUM_ALGORITHM_CRC32C: "CRC-32C",
}
_PATH_CHARACTERS, _CHECKSUM_CHARACTERS = 250, 128


@dataclass(frozen=True)
class ShownFile:
    """One file. Without a checksum, the source has none."""

    path: str
    size: str
    algorithm: str
    checksum: str


@dataclass(frozen=True)
class FilesView:
    """The largest files of an artifact, and how many smaller ones there are."""

    digest: str
    files: tuple[ShownFile, ...]
    more: int


def files_view(digest: str, reply: FilesReply) -> FilesView:
    """What the controller says of an artifact."""
    files = tuple(
        ShownFile(
            shown_path(file.path, _PATH_CHARACTERS),
            shown_size(max(0, file.size_bytes)),
            _WORDS.get(file.checksum.algorithm, ""),
            one_line(file.checksum.value, _CHECKSUM_CHARACTERS),
        )
        for file in reply.files
    )
    return FilesView(digest, files, max(0, reply.total - len(files)))
