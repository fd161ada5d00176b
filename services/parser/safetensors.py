"""Reads the header of a safetensors file, and refuses what the reference implementation would refuse to load.

Format: https://github.com/huggingface/safetensors#format. Never sees weights.
"""

from typing import Any, NamedTuple

from libs.artifact.metadata_files import LENGTH_BYTES, MAX_HEADER_BYTES
from services.parser.documents import read_header_document
from services.parser.errors import CutOff, TooLarge, malformed

# Counted before they are read, for each takes many times its bytes while it is read.
_MAX_TENSORS = 120_000
_MAX_RANK = 16

_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class Tensor(NamedTuple):
    """What is stored under one name. The many tensors of equal type and shape of a model share one of these."""

    dtype: str
    elements: int
    size_bytes: int
    shape: tuple[int, ...] = ()


class Header(NamedTuple):
    """What a file stores by name, and the free text that its writer left."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_header(path: str, data: bytes, file_bytes: int) -> Header:
    """The header of a file of file_bytes, of which data are the first bytes, the whole header at least."""
    if len(data) < LENGTH_BYTES:
        raise CutOff(path, "is too short for a safetensors file")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > file_bytes - LENGTH_BYTES:
        raise CutOff(path, f"claims a header of {length} bytes but has {file_bytes} bytes in all")
    if length > MAX_HEADER_BYTES:
        raise TooLarge(f"{path} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    if len(data) < LENGTH_BYTES + length:
        raise malformed(path, f"has a header of {length} bytes of which only {len(data) - LENGTH_BYTES} were sent")
    if data.count(b"{") > _MAX_TENSORS:
        raise TooLarge(f"{path} stores more than {_MAX_TENSORS} tensors")
    document = read_header_document(path, data[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata = document.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise malformed(path, "__metadata__ is not an object")
    tensors = _tensors(path, document, file_bytes - LENGTH_BYTES - length)
    return Header(tensors, {key: value for key, value in metadata.items() if isinstance(value, str)})


def _tensors(path: str, document: dict[str, Any], room: int) -> dict[str, Tensor]:
    tensors = {}
    shared: dict[Tensor, Tensor] = {}
    spans = []
    for name, entry in document.items():
        if not isinstance(entry, dict):
            raise malformed(path, f"the entry of {name[:200]!r} is not an object")
        tensor, begin = _tensor(path, name, entry)
        tensors[name] = shared.setdefault(tensor, tensor)
        spans.append((begin, begin + tensor.size_bytes))
    position = 0
    for begin, end in sorted(spans):
        if begin < position:
            raise malformed(path, f"tensors overlap at offset {begin}")
        if begin > position:
            raise malformed(path, f"bytes {position} to {begin} belong to no tensor")
        position = end
    if position > room:
        raise CutOff(path, f"has {room} bytes of data where its header describes {position}")
    if position != room:
        raise malformed(path, f"has {room} bytes of data where its header describes {position}")
    return tensors


def _tensor(path: str, name: str, entry: dict[str, Any]) -> tuple[Tensor, int]:
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise malformed(path, f"{name[:200]!r} has no known dtype")
    if not _is_sizes(shape) or len(shape) > _MAX_RANK:
        raise malformed(path, f"{name[:200]!r} has no proper shape")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise malformed(path, f"{name[:200]!r} has no proper offsets")
    elements = 1
    for extent in shape:
        elements *= extent
    begin, end = offsets
    if elements * bits != 8 * (end - begin):
        raise malformed(path, f"{name[:200]!r} has a shape that does not fit its offsets")
    return Tensor(dtype, elements, end - begin, tuple(shape)), begin


def _is_sizes(value: object) -> bool:
    # A loop, since it is entered twice for every tensor and a generator costs more than it does.
    if not isinstance(value, list):
        return False
    for item in value:  # noqa: SIM110
        if type(item) is not int or item < 0:
            return False
    return True
