"""Parses a directory of this machine and prints its facts as JSON: python -m services.parser inspect DIR.

Reads regular files below the directory only. Must not interpret what it reads.
"""

import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToJson

from services.parser.errors import FORBIDDEN, INVALID_LISTING, NO_CONFIG, ParseError
from services.parser.intake import MAX_FILES, take_in, wanted_bytes
from services.parser.parsing import parse_directory
from services.parser.safetensors import LENGTH_BYTES

EXIT_NO_FACTS = 3
EXIT_USAGE = 2
# Deeper than any model's folders, and safely below Python's limit.
_MAX_DEPTH = 16
# Every ext4 file system has it at its top, for root alone.
_LOST_AND_FOUND = "lost+found"


def main(arguments: Sequence[str]) -> int:
    """Print the facts of a directory, or why there are none; returns the exit code."""
    schema_path = ""
    rest = list(arguments)
    if len(rest) == 3 and rest[0] == "--schema-path":
        schema_path = rest[1]
        rest = rest[2:]
    if len(rest) != 1 or rest[0].startswith("-"):
        print("usage: python -m services.parser inspect [--schema-path FILE] DIR", file=sys.stderr)
        return EXIT_USAGE
    try:
        facts = parse_directory(take_in(read_files(rest[0], schema_path), schema_path))
    except ParseError as error:
        print(json.dumps({"error": {"reason": error.reason, "message": error.message}}))
        return EXIT_NO_FACTS
    print(MessageToJson(facts, indent=2))
    return 0


def read_files(root: str, schema_path: str = "", boundary: str = "") -> Iterator[tuple[str, int, bytes]]:
    """The files below root: path, size in bytes, and the first bytes that the parser wants of it.

    Links are followed to files below boundary, which is root itself unless it is given. Raises ParseError when root or
    a file whose content is wanted cannot be read.
    """
    if not os.path.isdir(root):
        raise ParseError(NO_CONFIG, f"{root} is not a directory")
    for count, (path, name) in enumerate(sorted(_walk(root, os.path.realpath(boundary or root)))):
        if count > MAX_FILES:
            break
        file = _read(path, name, schema_path)
        if file is not None:
            yield file


def is_left_alone(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry of a folder is none of the model's: .git and .cache hold files that only look like them."""
    return entry.is_dir(follow_symlinks=False) and (entry.name.startswith(".") or entry.name == _LOST_AND_FOUND)


def _walk(folder: str, boundary: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise ParseError(INVALID_LISTING, f"{folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if depth < _MAX_DEPTH and not is_left_alone(entry):
                yield from _walk(entry.path, boundary, f"{name}/", depth + 1)
            continue
        # A link may lead out of the boundary, where nothing is ours to read.
        path = os.path.realpath(entry.path)
        if path.startswith(boundary.rstrip("/") + "/"):
            yield path, name


def _read(path: str, name: str, schema_path: str) -> tuple[str, int, bytes] | None:
    try:
        # Without O_NONBLOCK a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        if not wanted_bytes(name, schema_path):
            return None
        raise ParseError(FORBIDDEN, f"{name} may not be read by user {os.geteuid()}") from None
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        wanted = wanted_bytes(name, schema_path)
        if not wanted:
            return name, status.st_size, b""
        if not name.endswith(".safetensors") or name == schema_path:
            # One more than the limit, so that a file that exceeds it is refused rather than cut.
            return name, status.st_size, file.read(wanted + 1)
        length = file.read(LENGTH_BYTES)
        return name, status.st_size, length + file.read(min(int.from_bytes(length, "little"), wanted - LENGTH_BYTES))
