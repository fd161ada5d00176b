"""Makes safetensors files: mostly without weights, as length, header, and the size that the whole file would have."""

import json
from collections.abc import Mapping

_BITS = {
    "F32": 32, "BF16": 16, "F16": 16, "I16": 16, "I32": 32, "U32": 32, "I64": 64, "I8": 8, "U8": 8, "BOOL": 8,
    "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
}  # fmt: skip

# Writers may pad a header with spaces.
_PADDED = 120

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def header_of(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """The size of a whole file that stores tensors of such dtypes and shapes, and its first bytes."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape) in shapes.items():
        size = _BITS[dtype]
        for extent in shape:
            size *= extent
        size //= 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(entries).encode()
    return 8 + len(text) + position, len(text).to_bytes(8, "little") + text


def weights_file(path: str, shapes: Shapes) -> tuple[str, int, bytes]:
    """A file as the parser takes it: path, size, and the bytes that are sent of it."""
    size, data = header_of(shapes)
    return path, size, data


def whole_file(size_bytes: int, weights: bytes) -> bytes:
    """A file of a size that is what it says: its weights are given ones, over and over."""
    room = size_bytes - 8 - _PADDED
    entry = {"weight": {"dtype": "U8", "shape": [room], "data_offsets": [0, room]}}
    header = json.dumps(entry).ljust(_PADDED).encode()
    return len(header).to_bytes(8, "little") + header + (weights * (room // len(weights) + 1))[:room]


def json_file(path: str, document: object) -> tuple[str, int, bytes]:
    """A metadata file as the parser takes it."""
    data = json.dumps(document).encode()
    return path, len(data), data
