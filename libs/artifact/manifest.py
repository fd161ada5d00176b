"""Manifests: the files of one artifact, their checksums, and the digest that names the artifact.

Every name in a manifest is checked here before anything is created on disk. Must not do I/O.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason

# Linux: NAME_MAX of every file system that models lie on, and PATH_MAX less room for the root and the digest.
_NAME_BYTES = 255
_PATH_BYTES = 3500
# Of a name, in messages.
_SHOWN = 200


class ChecksumAlgorithm(Enum):
    """How the content of a file is verified."""

    NONE = "none"
    SHA256 = "sha256"
    GIT_SHA1 = "git-sha1"
    MD5 = "md5"
    SHA384 = "sha384"
    CRC32C = "crc32c"

    @property
    def identifies(self) -> bool:
        """Whether equal checksums mean equal contents, so that a file of one model may serve another.

        A CRC guards against accidents only: anybody can make a content that has a wanted one.
        """
        return self not in (ChecksumAlgorithm.NONE, ChecksumAlgorithm.CRC32C)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: a relative path with "/" between parts, its size in bytes, and a checksum in lower-case hexadecimal.

    version is what an object store calls this very content (an ETag, a generation), empty where the revision or
    the checksum says it.
    """

    path: str
    size_bytes: int
    algorithm: ChecksumAlgorithm
    checksum: str
    version: str = ""


@dataclass(frozen=True)
class Manifest:
    """All files of an artifact, sorted by path, and the revision that the source gave them.

    place is where they lie, if some of them are told from others by their versions only: anybody can run a store that
    gives a content of theirs the ETag of somebody else's, and must not get to serve it to them. Otherwise it is empty,
    and the same files are one artifact wherever they come from.
    """

    source_revision: str
    files: tuple[ManifestFile, ...]
    place: str = ""

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """Digest of the artifact: SHA-256 over the files' paths, sizes, checksums and versions as canonical JSON.

        The place is added where there is one. The source's revision is left out, so that two commits with the same
        files are one artifact.
        """
        # Row by row: the document of a repository with many files would be larger than the manifest.
        running = hashlib.sha256(f"[{_canonical(self.place)},".encode() if self.place else b"")
        running.update(b"[")
        for number, file in enumerate(self.files):
            version = [file.version] if file.version else []
            row = [file.path, file.size_bytes, file.algorithm.value, file.checksum, *version]
            running.update(b"," * (number > 0) + _canonical(row).encode())
        running.update(b"]]" if self.place else b"]")
        return "sha256:" + running.hexdigest()


def _canonical(value: str | list[str | int]) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def new_manifest(source_revision: str, files: Iterable[ManifestFile], place: str = "") -> Manifest:
    """Build a manifest from a listing of a place, which is forgotten where checksums identify all files.

    Raises InvalidValue with reason InvalidListing for a name that is unsafe to create, a duplicate, a file that is
    another's directory, names that differ only in case or Unicode form, or a negative size.
    """
    ordered = tuple(sorted(files, key=lambda file: file.path))
    folded: dict[str, str] = {}
    paths = {file.path for file in ordered}
    for file in ordered:
        check_name(file.path)
        if file.size_bytes < 0:
            what = f"the source lists {file.path!r} with {file.size_bytes} bytes: {leave_out(file.path)}"
            raise InvalidValue(Reason.INVALID_LISTING, what)
        # Most names are their own key, which spares memory where there are many.
        key = file.path
        if not key.isascii() or not key.islower():
            key = unicodedata.normalize("NFC", key).casefold()
        if key in folded:
            raise InvalidValue(
                Reason.INVALID_LISTING,
                f"the source lists both {folded[key]!r} and {file.path!r}, which some file systems cannot tell apart: "
                f"{leave_out(file.path)}, or the other one",
            )
        folded[key] = file.path
        parts = file.path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent in paths:
                raise InvalidValue(
                    Reason.INVALID_LISTING,
                    f"the source lists {parent!r} both as a file and as the directory of {file.path!r}: "
                    f"{leave_out(parent)}",
                )
    return Manifest(source_revision, ordered, "" if all(file.algorithm.identifies for file in ordered) else place)


def leave_out(path: str) -> str:
    """What to write so that one file of a source does not matter; goes on with a sentence that names the file."""
    return f"if the model does without it, set storage.parameters.ignorePatterns to {pattern_of(path)!r}"


def pattern_of(path: str) -> str:
    """A glob that matches a path, and as little else as can be said in storage.parameters."""
    escaped = "".join(f"[{each}]" if each in "*?[" else each if _is_sayable(each) else "?" for each in path)
    if escaped.endswith("/"):
        # By itself this would mean all that is below.
        escaped = f"{escaped[:-1]}[/]"
    # Spaces at either end are cut off, and a longer pattern would be no help to read.
    stripped = escaped.strip()
    pattern = stripped if stripped == escaped else f"*{stripped}*"
    return pattern if 0 < len(pattern) <= _SHOWN else f"{pattern[:_SHOWN].rstrip('[').strip()}*" if pattern else "?"


def _is_sayable(character: str) -> bool:
    return character != "," and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def check_name(path: str) -> None:
    """Refuse a file name that must not be created below an artifact.

    Raises InvalidValue with reason InvalidListing for an absolute path, "." or ".." or an empty part, a control
    character, a lone surrogate, or more bytes than Linux takes.
    """

    def refuse(why: str) -> InvalidValue:
        return InvalidValue(
            Reason.INVALID_LISTING,
            f"the source lists a file named {path[:_SHOWN]!r}, which {why} and is not created: {leave_out(path)}",
        )

    if not path:
        raise refuse("is empty")
    if path.startswith("/"):
        raise refuse("is absolute")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        raise refuse("holds a control character")
    if len(path.encode()) > _PATH_BYTES:
        raise refuse(f"is longer than {_PATH_BYTES} bytes")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise refuse("has an empty part, '.' or '..'")
        if len(part.encode()) > _NAME_BYTES:
            raise refuse(f"has a part longer than {_NAME_BYTES} bytes")
