"""Reads a model directory as the parser wants it, the same for artifacts, local://, pvc:// and a folder of a person.

Reads regular files only. Links to files are followed as long as they stay within a boundary: the snapshot of a Hugging
Face cache is links to ../../blobs. Links to folders are not. Must not interpret what it reads.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from libs.artifact.archive_ends import SEARCHED_BYTES, ending_of
from libs.artifact.metadata_files import (
    BEGINNING_BYTES,
    GGUF_SUFFIX,
    LENGTH_BYTES,
    MAX_FILES,
    MAX_GGUFS_BYTES,
    MAX_TOTAL_BYTES,
    is_archive,
    sent_bytes,
    wanted_bytes,
)
from libs.artifact.places import leads_into_state

# Deeper than any model's folders, and safely below Python's limit.
_MAX_DEPTH = 16
# Every ext4 file system has it at its top, for root alone.
_LOST_AND_FOUND = "lost+found"


class UnreadableFolder(OSError):
    """A folder of the model cannot be listed; filename is its path."""


class UnreadableFile(PermissionError):
    """A file whose content is wanted may not be read; filename is relative to the model."""


@dataclass(frozen=True)
class ModelFile:
    """A file, its whole size, and the part of its content that the parser gets: the beginning, and an archive's end."""

    path: str
    size_bytes: int
    data: bytes


def read_model_directory(root: str, schema_path: str = "", boundary: str = "") -> Iterator[ModelFile]:
    """The files of a model, sorted by path; boundary is root itself unless it is given.

    Ends one file and one byte above what the parser takes, so that it says that there is too much. Raises OSError,
    which is UnreadableFolder or UnreadableFile where that is known.
    """
    room, room_for_ggufs = MAX_TOTAL_BYTES + 1, MAX_GGUFS_BYTES
    for name, path in sorted(_walk(root, os.path.realpath(boundary or root)))[: MAX_FILES + 1]:
        is_gguf = name.endswith(GGUF_SUFFIX)
        file = _read(path, name, schema_path, min(room, room_for_ggufs) if is_gguf else room)
        if file is not None:
            room -= len(file.data)
            room_for_ggufs -= len(file.data) if is_gguf else 0
            yield file


def fingerprint(root: str, boundary: str = "") -> str:
    """Changes when a file of the directory is added, removed or written. Raises OSError.

    Folders that may not be read are passed over: what is in them is for the parser to miss, not for the model to fail.
    """
    running = hashlib.sha256()
    for name, path in sorted(_walk(root, os.path.realpath(boundary or root), passes_over=PermissionError)):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            told = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"
            running.update(told.encode(errors="surrogateescape"))
    return running.hexdigest()


def is_left_alone(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry of a folder is none of the model's: .git and .cache hold files that only look like them."""
    return entry.is_dir(follow_symlinks=False) and (entry.name.startswith(".") or entry.name == _LOST_AND_FOUND)


def _walk(
    folder: str, boundary: str, prefix: str = "", depth: int = 0, passes_over: type[OSError] | tuple[()] = ()
) -> Iterator[tuple[str, str]]:
    """Name below the model and real path of everything that is no folder and lies within the boundary."""
    try:
        entries = list(os.scandir(folder))
    except passes_over:
        return
    except OSError as error:
        raise UnreadableFolder(error.errno, error.strerror, folder) from error
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if depth < _MAX_DEPTH and not is_left_alone(entry):
                yield from _walk(entry.path, boundary, f"{name}/", depth + 1, passes_over)
            continue
        # A link may lead out of the boundary, where nothing is ours to read, into the files of other models, or to
        # nothing.
        path = os.path.realpath(entry.path)
        foreign = leads_into_state(path) and not leads_into_state(os.path.realpath(folder))
        if path.startswith(boundary.rstrip("/") + "/") and not foreign and os.path.lexists(path):
            yield name, path


def _read(path: str, name: str, schema_path: str, room: int) -> ModelFile | None:
    try:
        # Without O_NONBLOCK a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        if wanted_bytes(name, schema_path) <= BEGINNING_BYTES:
            return None
        raise UnreadableFile(error.errno, error.strerror, name) from error
    except FileNotFoundError:
        # It went since the folder was listed.
        return None
    except OSError as error:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        raise OSError(error.errno, error.strerror, path) from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if not wanted_bytes(name, schema_path):
            return ModelFile(name, status.st_size, b"")
        beginning = file.read(min(LENGTH_BYTES, room))
        if name != schema_path and is_archive(name, beginning):
            file.seek(max(LENGTH_BYTES, status.st_size - SEARCHED_BYTES))
            return ModelFile(name, status.st_size, (beginning + ending_of(file.read(SEARCHED_BYTES)))[:room])
        count = min(sent_bytes(name, schema_path, status.st_size, beginning), room)
        return ModelFile(name, status.st_size, (beginning + file.read(max(0, count - len(beginning))))[:count])
