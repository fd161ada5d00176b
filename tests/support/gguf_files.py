"""Makes the headers of GGUF files, which end where the weights would begin."""

import struct
from collections.abc import Mapping

# Numbers of the format's types of values and tensors.
_UINT32, _STRING, _ARRAY = 4, 8, 9
F32, Q4_K, Q6_K = 0, 12, 14

Value = int | str | list[str] | list[int]


def gguf_file(
    path: str, values: Mapping[str, Value], shapes: Mapping[str, tuple[int, ...]], kind: int = Q4_K
) -> tuple[str, int, bytes]:
    """A file as the parser takes it: path, size, and the bytes that are sent of it. Vectors are stored as F32."""
    data = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(values))
    for key, value in values.items():
        data += _text(key) + _value(value)
    for name, shape in shapes.items():
        stored = kind if len(shape) > 1 else F32
        data += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, stored, 0)
    return path, len(data) + 1000, data


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Value) -> bytes:
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    numbers = [item for item in value if isinstance(item, int)]
    if numbers:
        return struct.pack(f"<IIQ{len(numbers)}I", _ARRAY, _UINT32, len(numbers), *numbers)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text(str(item)) for item in value)
