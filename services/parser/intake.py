"""Takes a model directory in, file by file, and keeps of it what the facts need.

Decides which names are safe and how much may be sent in all; libs/artifact/metadata_files says which files are read.
Must not touch a disk or a socket, nor interpret what it reads.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.artifact.archive_ends import is_complete
from libs.artifact.completeness import MOST_SHARDS, Damage, damage_of, is_index, names_in_index
from libs.artifact.findings import Finding
from libs.artifact.metadata_files import (
    BEGINNING_BYTES,
    CARD,
    GGUF_SUFFIX,
    INDEX_SUFFIX,
    LENGTH_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_FILES,
    MAX_GGUFS_BYTES,
    MAX_TOTAL_BYTES,
    WEIGHTS_SUFFIX,
    is_archive,
    is_read_in_part,
    wanted_bytes,
)
from services.parser.documents import Document, read_document
from services.parser.errors import INVALID_LISTING, CutOff, ParseError, TooLarge
from services.parser.gguf import GgufHeader, read_gguf
from services.parser.safetensors import Header, read_header

MAX_PATH_BYTES = 1024
MAX_TENSORS = 320_000
# Of all documents together; a configuration that names the scheme of every layer has 100,000.
_MAX_VALUES = 500_000
# Sparse files may claim any size; sums of these stay within 64 bits.
MAX_CLAIMED_BYTES = 1 << 56

# Without these a directory has no facts; what is wrong with another file costs the facts that it holds.
_ESSENTIAL = frozenset(("config.json", "model_index.json"))
_TOTAL = re.compile(rb'"total_(size|parameters)"\s*:\s*(\d{1,15})(?:\.0)?\s*[,}]')
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Index:
    """What an index tells: the files that make up the model, and totals of which it states none, one or both."""

    shards: tuple[str, ...]
    total_size: int
    total_parameters: int


@dataclass
class Directory:
    """What was taken in of a model directory. Paths are relative, with "/" between parts."""

    schema_path: str
    sizes: dict[str, int] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    ggufs: dict[str, GgufHeader] = field(default_factory=dict)
    # Weights that are archives, and as long as these say.
    archives: set[str] = field(default_factory=set)
    # Names of files by the index that names them, of any format.
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # What is not what its name says, and is read no further.
    damaged: dict[str, Damage] = field(default_factory=dict)
    card: str = ""
    warnings: list[str] = field(default_factory=list)

    def document(self, path: str) -> Document:
        """The document at path, or an empty one."""
        return self.documents.get(path, {})


class Intake:
    """Takes files one at a time; each part of a file is given in order and next to the others of its file."""

    def __init__(self, schema_path: str = "") -> None:
        if schema_path:
            check_path(schema_path)
        self._directory = Directory(schema_path)
        self._path: str | None = None
        self._size = 0
        self._parts: list[bytes] = []
        self._received = 0
        self._total = 0
        self._tensors = 0
        self._claimed = 0
        self._values = 0
        self._gguf_bytes = 0

    def add(self, path: str, size_bytes: int, data: bytes) -> None:
        """Take a part of a file of size_bytes in all. Raises ParseError as soon as the directory cannot be accepted."""
        if path != self._path:
            self._close()
            self._open(path, size_bytes)
        elif size_bytes != self._size:
            raise ParseError(INVALID_LISTING, f"{path} has two sizes")
        if not data:
            return
        limit = self._limit(path)
        may_be_cut = is_read_in_part(path)
        if limit == 0 or (may_be_cut and self._received >= limit):
            return
        if path.endswith(GGUF_SUFFIX):
            self._gguf_bytes += len(data)
            if self._gguf_bytes > MAX_GGUFS_BYTES:
                return
        self._received += len(data)
        self._total += len(data)
        if self._received > limit and not may_be_cut:
            raise TooLarge(f"{path} is longer than the {limit} bytes that are read of such a file")
        if self._total > MAX_TOTAL_BYTES:
            raise TooLarge(f"the files are longer than {MAX_TOTAL_BYTES} bytes together")
        self._parts.append(data)

    def finish(self) -> Directory:
        """The directory, once every file was added."""
        self._close()
        return self._directory

    def _open(self, path: str, size_bytes: int) -> None:
        check_path(path)
        if path in self._directory.sizes:
            raise ParseError(INVALID_LISTING, f"{path} was sent twice, or its parts are apart")
        if size_bytes < 0:
            raise ParseError(INVALID_LISTING, f"{path} has a negative size")
        self._claimed += size_bytes
        if self._claimed > MAX_CLAIMED_BYTES:
            raise TooLarge(f"the files claim more than {MAX_CLAIMED_BYTES} bytes")
        if len(self._directory.sizes) >= MAX_FILES:
            raise TooLarge(f"the directory has more than {MAX_FILES} files")
        self._path, self._size, self._received, self._parts = path, size_bytes, 0, []
        self._directory.sizes[path] = size_bytes

    def _close(self) -> None:
        path, data = self._path, b"".join(self._parts)
        self._parts = []
        if path is None or not self._limit(path):
            return
        damage = damage_of(path, self._size, data) if path != CARD else None
        if damage:
            self._directory.damaged[path] = damage
            if path == self._directory.schema_path or self._limit(path) == MAX_DOCUMENT_BYTES:
                self._directory.warnings.append(f"{path} {damage.what}.")
        elif self._limit(path) == BEGINNING_BYTES:
            self._judge_end(path, data)
        elif path.endswith(WEIGHTS_SUFFIX):
            if data:
                self._read_header(path, data)
        elif path.endswith(GGUF_SUFFIX):
            if data:
                self._read_gguf(path, data)
        elif is_index(path):
            self._check_complete(path, data)
            index = _read_index(path, data)
            self._directory.named[path] = index.shards
            if path.endswith(INDEX_SUFFIX):
                self._directory.indexes[path] = index
        elif path == CARD:
            self._directory.card = data.decode("utf-8", "replace")
        elif data or self._size == 0:
            self._check_complete(path, data)
            # Counted before they are read, for every value takes many times its bytes in memory.
            self._values += data.count(b",") + data.count(b"{") + data.count(b"[")
            if self._values > _MAX_VALUES:
                raise TooLarge(f"the documents hold more than {_MAX_VALUES} values together")
            self._read_document(path, data)

    def _judge_end(self, path: str, data: bytes) -> None:
        if not is_archive(path, data):
            return
        complete = is_complete(self._size, data[LENGTH_BYTES:])
        if complete:
            self._directory.archives.add(path)
        elif complete is False and len(data) >= LENGTH_BYTES:
            what = "is cut off: it is a ZIP archive, as PyTorch writes, without the directory at its end"
            self._directory.damaged[path] = Damage(Finding.TRUNCATED_FILE, what)

    def _read_document(self, path: str, data: bytes) -> None:
        try:
            self._directory.documents[path] = read_document(path, data, self._directory.warnings)
        except ParseError as error:
            if path in _ESSENTIAL or path == self._directory.schema_path:
                raise
            self._directory.warnings.append(f"{error.message}; what it states is not known.")

    def _read_header(self, path: str, data: bytes) -> None:
        try:
            header = read_header(path, data, self._size)
        except CutOff as error:
            self._directory.damaged[path] = Damage(Finding.TRUNCATED_FILE, f"is cut off: it {error.problem}")
            return
        self._tensors += len(header.tensors)
        if self._tensors > MAX_TENSORS:
            raise TooLarge(f"the files store more than {MAX_TENSORS} tensors")
        self._directory.headers[path] = header

    def _read_gguf(self, path: str, data: bytes) -> None:
        header = read_gguf(path, data)
        stored = sum(header.bytes_by_type.values())
        if header.is_whole and stored > self._size:
            what = f"is cut off: it has {self._size} bytes where its header describes {stored}"
            self._directory.damaged[path] = Damage(Finding.TRUNCATED_FILE, what)
        elif not header.is_whole and len(data) == self._size and header.version:
            self._directory.damaged[path] = Damage(Finding.TRUNCATED_FILE, "is cut off within its header")
        self._directory.ggufs[path] = header

    def _check_complete(self, path: str, data: bytes) -> None:
        if len(data) != self._size:
            raise ParseError(INVALID_LISTING, f"{path} has {self._size} bytes of which {len(data)} were sent")

    def _limit(self, path: str) -> int:
        return wanted_bytes(path, self._directory.schema_path)


def _read_index(path: str, data: bytes) -> Index:
    shards = names_in_index(path, data)
    if len(shards) > MOST_SHARDS:
        raise TooLarge(f"an index names more than {MOST_SHARDS} files")
    totals = {match[1]: int(match[2]) for match in _TOTAL.finditer(data)}
    return Index(shards, totals.get(b"size", 0), totals.get(b"parameters", 0))


def check_path(path: str) -> None:
    """Raise ParseError for a path that is not plainly inside the model directory."""
    shown = repr(path[:200])
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise ParseError(INVALID_LISTING, f"the file name {shown} is not written in UTF-8") from error
    if length > MAX_PATH_BYTES:
        raise ParseError(INVALID_LISTING, f"the file name {shown}… is longer than {MAX_PATH_BYTES} bytes")
    if _UNSAFE.search(path):
        raise ParseError(INVALID_LISTING, f"the file name {shown} holds a control character or a backslash")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ParseError(INVALID_LISTING, f"the file name {shown} does not stay in the model directory")


def take_in(files: Iterable[tuple[str, int, bytes]], schema_path: str = "") -> Directory:
    """A directory from whole files: path, size in bytes, and the bytes that are sent of it."""
    intake = Intake(schema_path)
    for path, size_bytes, data in files:
        intake.add(path, size_bytes, data)
    return intake.finish()
