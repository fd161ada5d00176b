"""Headers of safetensors files, and lies in them."""

import json

import pytest

from libs.artifact.metadata_files import MAX_HEADER_BYTES
from services.parser.errors import ParseError, TooLarge
from services.parser.safetensors import Tensor, read_header
from tests.support.safetensors_files import header_of

PATH = "model.safetensors"


def framed(document: object, room: int = 0) -> tuple[int, bytes]:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return 8 + len(text) + room, len(text).to_bytes(8, "little") + text


def entry(begin: int, end: int, shape: list[int], dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_header_yields_tensors_and_metadata() -> None:
    size, data = header_of({"a": ("BF16", (2, 3)), "b": ("F32", ())}, {"format": "pt"})
    header = read_header(PATH, data, size)
    assert header.tensors == {"a": Tensor("BF16", 6, 12, (2, 3)), "b": Tensor("F32", 1, 4)}
    assert header.metadata == {"format": "pt"}


def test_padding_behind_the_header_is_no_error() -> None:
    size, data = framed(json.dumps({"a": entry(0, 2, [2])}).encode() + b"      ", room=2)
    assert len(read_header(PATH, data, size).tensors) == 1


def test_sub_byte_types_are_counted_by_bits() -> None:
    size, data = framed({"a": entry(0, 3, [6], "F4")}, room=3)
    assert read_header(PATH, data, size).tensors["a"].elements == 6


@pytest.mark.parametrize(
    ("document", "room"),
    [
        ({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, 3),
        ({"a": entry(0, 2, [2]), "b": entry(4, 6, [2])}, 6),
        ({"a": entry(0, 2, [2])}, 9),
        ({"a": entry(0, 2, [3])}, 2),
        ({"a": entry(2, 0, [2])}, 2),
        ({"a": entry(0, 2, [-2])}, 2),
        ({"a": entry(0, 2, [True, 2])}, 2),
        ({"a": entry(0, 2, [2], "F99")}, 2),
        ({"a": {"dtype": "U8", "shape": [1] * 99, "data_offsets": [0, 1]}}, 1),
        ({"a": entry(0, 10**30, [10**30])}, 2),
        ({"a": [1]}, 0),
        ({"__metadata__": [1]}, 0),
        (b"[]", 0),
        (b'{"a": {}, "a": {}}', 0),
    ],
)
def test_headers_that_lie_are_refused(document: object, room: int) -> None:
    size, data = framed(document, room)
    with pytest.raises(ParseError):
        read_header(PATH, data, size)


def test_a_length_beyond_the_file_is_refused() -> None:
    with pytest.raises(ParseError, match="claims"):
        read_header(PATH, (2**63).to_bytes(8, "little") + b"{}", 10)


def test_a_length_beyond_the_limit_is_too_large() -> None:
    length = MAX_HEADER_BYTES + 1
    with pytest.raises(TooLarge):
        read_header(PATH, length.to_bytes(8, "little"), length + 8)


def test_a_header_that_was_not_sent_whole_is_refused() -> None:
    size, data = header_of({"a": ("F32", (4,))})
    with pytest.raises(ParseError, match="only"):
        read_header(PATH, data[:-1], size)
