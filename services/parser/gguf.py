"""Reads the header of a GGUF file: what its writer states, and every tensor's type and shape.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Never sees weights. A header that was sent in part
yields what came before the cut.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from services.parser.errors import malformed

_MAGIC = b"GGUF"
_MAX_ENTRIES = 10_000
_MAX_TENSORS = 100_000
_MAX_ITEMS = 4_000_000
_MAX_TEXT = 1 << 20
_MAX_DIMENSIONS = 8
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# Types of tensors: name, weights of a block, bytes of a block.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
# general.file_type: the mixture of types that a file was made with.
_MIXTURES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip
# Tables that are calculated, not learned.
_NO_PARAMETERS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass
class GgufHeader:
    """What a file states and stores."""

    version: int = 0
    # Numbers, flags and texts by key, and of arrays their lengths.
    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: int = 0
    bytes_by_type: Counter[str] = field(default_factory=Counter)
    # Whether all tensors were read.
    is_whole: bool = False

    @property
    def architecture(self) -> str:
        """The name of the model family, such as "llama"."""
        return self.text("general.architecture")

    @property
    def mixture(self) -> str:
        """What the weights are stored as, such as "Q4_K_M"; "" when neither the writer nor the tensors tell."""
        stated = _MIXTURES.get(self.number("general.file_type", -1))
        largest = max(self.bytes_by_type, key=lambda name: self.bytes_by_type[name], default="")
        return stated or largest

    def text(self, key: str) -> str:
        """A text, or ""."""
        value = self.values.get(key)
        return value[:200] if isinstance(value, str) else ""

    def number(self, key: str, default: int = 0) -> int:
        """A whole number; of one per layer the largest."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default


def read_gguf(path: str, data: bytes) -> GgufHeader:
    """The header of a file of which data are the first bytes. Raises ParseError for what is none."""
    if data[:4] != _MAGIC:
        raise malformed(path, "is not a GGUF file")
    header = GgufHeader()
    reader = _Reader(data)
    try:
        header.version = reader.number("I")
        if header.version not in (2, 3):
            return header
        tensors, entries = reader.number("Q"), reader.number("Q")
        if tensors > _MAX_TENSORS or entries > _MAX_ENTRIES:
            raise malformed(path, "claims more entries than a model has")
        for _ in range(entries):
            reader.entry(header)
        for _ in range(tensors):
            reader.tensor(header)
        header.is_whole = True
    except _CutError:
        pass
    except UnicodeDecodeError:
        raise malformed(path, "holds a name that is not UTF-8 text") from None
    return header


class _CutError(Exception):
    """The bytes that were sent end here, or cannot be followed further."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = len(_MAGIC)

    def number(self, code: str) -> Any:
        size = struct.calcsize(f"<{code}")
        self._need(size)
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += size
        return value

    def text(self) -> str:
        length = self.number("Q")
        if length > _MAX_TEXT:
            raise _CutError
        self._need(length)
        raw = self._data[self._at : self._at + length]
        self._at += length
        return raw.decode()

    def entry(self, header: GgufHeader) -> None:
        key, kind = self.text(), self.number("I")
        value: Any
        if kind == _ARRAY:
            header.lengths[key], value = self._array()
        elif kind == _STRING:
            value = self.text()
        elif kind in _NUMBERS:
            value = self.number(_NUMBERS[kind])
        else:
            raise _CutError
        if value is not None:
            header.values[key] = value

    def tensor(self, header: GgufHeader) -> None:
        name, dimensions = self.text(), self.number("I")
        if dimensions > _MAX_DIMENSIONS:
            raise _CutError
        shape = tuple(self.number("Q") for _ in range(dimensions))
        kind, _ = self.number("I"), self.number("Q")
        elements = 1
        for extent in shape:
            elements *= extent
        label, block, size = _TYPES.get(kind, (f"type {kind}", 1, 0))
        if elements > 1 << 50:
            raise _CutError
        header.shapes[name] = shape
        header.bytes_by_type[label] += elements // block * size
        header.parameters += 0 if name in _NO_PARAMETERS else elements

    def _array(self) -> tuple[int, int | None]:
        """The length of an array, and the largest of a few whole numbers, such as those of layers."""
        kind, length = self.number("I"), self.number("Q")
        if length > _MAX_ITEMS:
            raise _CutError
        if kind in _NUMBERS:
            size = struct.calcsize(f"<{_NUMBERS[kind]}") * length
            self._need(size)
            start, self._at = self._at, self._at + size
            if kind in (4, 5) and 0 < length <= _MAX_ENTRIES:
                return length, max(struct.unpack_from(f"<{length}{_NUMBERS[kind]}", self._data, start))
            return length, None
        if kind != _STRING:
            raise _CutError
        self._skip_texts(length)
        return length, None

    def _skip_texts(self, count: int) -> None:
        # A vocabulary has hundreds of thousands of them, none of which is looked at.
        data, at, end = self._data, self._at, len(self._data)
        for _ in range(count):
            if at + 8 > end:
                raise _CutError
            at += 8 + int.from_bytes(data[at : at + 8], "little")
        self._at = at
        self._need(0)

    def _need(self, count: int) -> None:
        if self._at + count > len(self._data):
            raise _CutError
