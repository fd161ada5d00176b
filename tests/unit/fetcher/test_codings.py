"""Codings of bodies that nobody asked for: undone within bounds, whatever the pieces in which they arrive."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.transfer.codings import (
    CodingError,
    Decoded,
    coding_of,
    coding_of_whole,
    decoded_excerpt,
)


def raw_deflate(content: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(content) + coder.flush()


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate as it should be": ("deflate", zlib.compress),
    "deflate as some send it": ("deflate", raw_deflate),
}


class Body:
    """A coded body that arrives in portions, and counts how much of it was taken."""

    def __init__(self, content: bytes, portion: int = 1 << 20) -> None:
        self._content = content
        self._portion = portion
        self.taken = 0

    def receive(self, view: memoryview) -> int:
        data = self._content[self.taken : self.taken + min(len(view), self._portion)]
        view[: len(data)] = data
        self.taken += len(data)
        return len(data)


def read(decoded: Decoded, step: int = 1000) -> bytes:
    content, buffer = b"", memoryview(bytearray(step))
    while count := decoded.receive(buffer):
        content += buffer[:count]
    return content


@pytest.mark.parametrize(("coding", "encode"), CODERS.values(), ids=CODERS.keys())
@given(st.binary(max_size=3000) | st.integers(0, 3000).map(bytes), st.integers(1, 400), st.integers(1, 1000))
def test_a_coded_body_is_what_was_coded(
    coding: str, encode: Callable[[bytes], bytes], content: bytes, portion: int, step: int
) -> None:
    assert read(Decoded(coding, Body(encode(content), portion).receive, len(content)), step) == content


@pytest.mark.parametrize(("coding", "encode"), CODERS.values(), ids=CODERS.keys())
def test_a_body_that_is_cut_off_is_an_error_at_every_length(coding: str, encode: Callable[[bytes], bytes]) -> None:
    content = b"some words, some words, some other words" * 20
    coded = encode(content)
    for length in range(len(coded)):
        with pytest.raises(CodingError):
            read(Decoded(coding, Body(coded[:length]).receive, len(content)))


def test_no_more_is_decoded_than_a_byte_beyond_what_was_listed() -> None:
    body = Body(gzip.compress(bytes(1 << 30), compresslevel=1))
    assert len(read(Decoded("gzip", body.receive, 5000))) == 5001
    assert body.taken <= 64 << 10


def test_a_body_of_blocks_that_decode_to_nothing_ends() -> None:
    coder = zlib.compressobj(wbits=31)
    empty = coder.flush(zlib.Z_FULL_FLUSH) + coder.flush(zlib.Z_FULL_FLUSH) * 1000
    block = b"\x00\x00\x00\xff\xff"
    body = Body(empty + block * 1_000_000)
    with pytest.raises(CodingError, match="larger than what was listed"):
        read(Decoded("gzip", body.receive, 1000))
    assert body.taken < 1 << 20


@pytest.mark.parametrize("behind", [b"!", gzip.compress(b"more")], ids=["a byte", "another body"])
def test_something_behind_the_end_is_an_error(behind: bytes) -> None:
    with pytest.raises(CodingError, match="behind its end"):
        read(Decoded("gzip", Body(gzip.compress(b"words") + behind).receive, 100))


def test_a_body_that_is_not_coded_as_it_says_is_an_error() -> None:
    with pytest.raises(CodingError, match="which it is not"):
        read(Decoded("gzip", Body(b"words, words").receive, 100))


def test_a_coding_that_cannot_be_undone_is_named() -> None:
    with pytest.raises(CodingError, match="Content-Encoding is br"):
        Decoded("br", Body(b"").receive, 100)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("aws-chunked", ""),
        ("GZIP", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("gzip, br", "gzip, br"),
    ],
)
def test_a_header_names_a_coding(value: str, coding: str) -> None:
    assert coding_of({"content-encoding": value}) == coding


def test_an_object_that_was_stored_with_a_coding_has_the_length_that_was_listed() -> None:
    headers = {"content-encoding": "gzip"}
    assert coding_of_whole(headers, 100, 100) == ""
    assert coding_of_whole(headers, 99, 100) == "gzip"
    assert coding_of_whole(headers, None, 100) == "gzip"


def test_the_words_of_a_refusal_are_read_through_a_coding_even_when_they_are_cut_off() -> None:
    words = b"<Error><Code>AccessDenied</Code></Error>"
    assert decoded_excerpt({}, words, 1000) == words
    assert decoded_excerpt({"content-encoding": "gzip"}, gzip.compress(words), 1000) == words
    assert decoded_excerpt({"content-encoding": "deflate"}, zlib.compress(words), 1000) == words
    assert words.startswith(decoded_excerpt({"content-encoding": "gzip"}, gzip.compress(words)[:-12], 1000))
    assert decoded_excerpt({"content-encoding": "gzip"}, words, 1000) == b""
    assert decoded_excerpt({"content-encoding": "br"}, words, 1000) == b""
    assert len(decoded_excerpt({"content-encoding": "gzip"}, gzip.compress(bytes(1 << 20)), 1000)) == 1000
