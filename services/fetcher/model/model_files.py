"""Which bytes of a model directory the parser needs: metadata whole, headers of weights, names and sizes of the rest.

Reads below the model directory only, and regular files only. Must not interpret what it reads.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# https://github.com/huggingface/safetensors#format: eight bytes of little-endian length, then a JSON header.
_LENGTH_BYTES = 8
# The parser's own limits; what is larger is cut one byte above them, so that the parser says that it is.
_MAX_DOCUMENT_BYTES = 8 << 20
_MAX_INDEX_BYTES = 40 << 20
_MAX_HEADER_BYTES = 32 << 20
_MAX_GGUF_BYTES = 12 << 20
_MAX_TOTAL_BYTES = 128 << 20
_MAX_FILES = 50_000
# The front matter of a model card stands at its beginning.
_MODEL_CARD = "README.md"
_MODEL_CARD_BYTES = 1 << 20
_DOCUMENTS = frozenset(
    {
        "adapter_config.json",
        "config.json",
        "config_sentence_transformers.json",
        "genai_config.json",
        "generation_config.json",
        "hf_quant_config.json",
        "mlc-chat-config.json",
        "model_index.json",
        "modules.json",
        "params.json",
        "quant_config.json",
        "quantize_config.json",
        "scheduler_config.json",
        "sentence_bert_config.json",
        "tokenizer_config.json",
    }
)


@dataclass(frozen=True)
class ModelFile:
    """A file, its whole size, and the part of its content that the parser gets."""

    path: str
    size_bytes: int
    data: bytes


def read_model_files(directory: Path, schema_path: str) -> list[ModelFile]:
    """What the parser is to be sent of a model, sorted by path. Raises OSError when the directory cannot be read."""
    files = []
    room = _MAX_TOTAL_BYTES
    for path, size in sorted(_walk(directory))[:_MAX_FILES]:
        wanted = min(_wanted_bytes(directory / path, path, size, schema_path), room)
        data = _read(directory / path, wanted) if wanted else b""
        room -= len(data)
        files.append(ModelFile(path, size, data))
    return files


def fingerprint(directory: Path) -> str:
    """Changes when a file of the directory is added, removed or written. Raises OSError as read_model_files does."""
    running = hashlib.sha256()
    for path, _ in sorted(_walk(directory)):
        status = (directory / path).lstat()
        running.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return running.hexdigest()


def _walk(directory: Path) -> Iterator[tuple[str, int]]:
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            # A link may lead out of the model, a pipe would block for ever.
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                yield file.relative_to(directory).as_posix(), status.st_size


def _wanted_bytes(file: Path, path: str, size: int, schema_path: str) -> int:
    name = path.rpartition("/")[2]
    if name in _DOCUMENTS or path == schema_path:
        return min(size, _MAX_DOCUMENT_BYTES + 1)
    if name.endswith(".safetensors.index.json"):
        return min(size, _MAX_INDEX_BYTES + 1)
    if path == _MODEL_CARD:
        return min(size, _MODEL_CARD_BYTES)
    if name.endswith(".gguf"):
        return min(size, _MAX_GGUF_BYTES)
    if name.endswith(".safetensors") and size >= _LENGTH_BYTES:
        header = int.from_bytes(_read(file, _LENGTH_BYTES), "little")
        # A length that cannot be true is left to the parser to complain about, without the weights behind it.
        return _LENGTH_BYTES + header if header <= min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES) else _LENGTH_BYTES
    return 0


def _read(file: Path, count: int) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as content:
        return content.read(count)
