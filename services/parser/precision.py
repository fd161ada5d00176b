"""The precision of weights and the bytes that it takes."""

from services.parser.context import text_sections
from services.parser.section import Section

_BITS = {
    "float64": 64, "float32": 32, "float": 32, "float16": 16, "half": 16, "bfloat16": 16,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "int8": 8, "uint8": 8,
}  # fmt: skip
# Names that torch writes for types of safetensors.
_STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def dtype_of(c: Section) -> str:
    """The precision that a configuration states, such as "bfloat16", or ""."""
    for section in (*text_sections(c), c.section("thinker_config")):
        stated = section.text("dtype") or section.text("torch_dtype")
        if stated:
            return stated.removeprefix("torch.")
    return ""


def stored_dtype(bytes_by_dtype: dict[str, int]) -> str:
    """The precision in which most bytes of a model are stored, if torch has a word for it."""
    largest = max(bytes_by_dtype, key=lambda name: bytes_by_dtype[name], default="")
    return _STORED.get(largest, "")


def bits_of(dtype: str) -> int:
    """Bits per number; 16 when the word is not known, as nearly all models are published so."""
    return _BITS.get(dtype, 16)
