"""Content codings that a proxy or an origin applies to an answer although none was asked for: undone, or named.

A coded body is another sequence of bytes than the one that was listed, so a range of it says nothing. All of it can be
decoded while it arrives, within bounds: a few kilobytes can be made to decode to gigabytes.
"""

import zlib
from collections.abc import Callable, Mapping

# What stores keep with an object as if it were a coding, and what is none.
_NO_CODINGS = ("", "identity", "aws-chunked")
_GZIP = ("gzip", "x-gzip")
_UNDONE = (*_GZIP, "deflate")
_READ_BYTES = 64 << 10
# What coding may add to a body that cannot be made smaller: gzip stores it in blocks with a few bytes each.
_MOST_ADDED_BYTES = 64 << 10


class CodingError(Exception):
    """A body is not what its Content-Encoding says, or larger than anything that it may decode to."""


def coding_of(headers: Mapping[str, str]) -> str:
    """The coding of a body, empty if it has none."""
    names = (name.strip().lower() for name in headers.get("content-encoding", "").split(","))
    return ", ".join(name for name in names if name not in _NO_CODINGS)


def coding_of_whole(headers: Mapping[str, str], length: int | None, size: int) -> str:
    """The coding to undo of a whole file; `length` is what its body says, `size` what was listed.

    An object may have been stored with a coding, so that the listing is about the coded bytes: then both are equal.
    """
    return "" if length == size else coding_of(headers)


def can_undo(coding: str) -> bool:
    """Whether Decoded can be used. Others need more than the standard library, and nobody asked for them."""
    return coding in _UNDONE


class Decoded:
    """A body whose coding is undone while it is received. `receive` is as a connection's, for the coded body."""

    def __init__(self, coding: str, receive: Callable[[memoryview], int], most_bytes: int) -> None:
        """`most_bytes` is the most that the body may decode to; the coded one may be a little larger.

        Raises CodingError for a coding that cannot be undone.
        """
        self._receive = receive
        self._coding = coding
        self._coded_left = most_bytes + _MOST_ADDED_BYTES
        self._left = most_bytes
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._pending = b""
        if not can_undo(coding):
            raise CodingError(f"its Content-Encoding is {coding}, although none was asked for")
        self._decoder = zlib.decompressobj(wbits=31) if coding in _GZIP else None

    def receive(self, view: memoryview) -> int:
        """Fill view with decoded bytes; fewer only at the end. One byte more than most_bytes is given at the most.

        Raises CodingError, and what receiving the coded body raises.
        """
        done = 0
        try:
            while done < len(view) and self._left >= 0:
                data = self._decode(min(len(view) - done, self._left + 1))
                if not data:
                    break
                view[done : done + len(data)] = data
                done += len(data)
                self._left -= len(data)
        except zlib.error as error:
            raise CodingError(f"its Content-Encoding is {self._coding}, which it is not ({error})") from error
        return done

    def _decode(self, most: int) -> bytes:
        while True:
            decoder = self._decoder
            if decoder is not None and decoder.eof:
                return b""
            if not self._pending:
                self._pending = self._next()
            ended = not self._pending
            if decoder is None:
                if len(self._pending) == 1:
                    # Its two first bytes say which it is.
                    self._pending += self._next()
                decoder = self._decoder = zlib.decompressobj(wbits=15 if _has_zlib_header(self._pending) else -15)
            # Also without further bytes: the decoder may hold some back that did not fit the last time.
            data = decoder.decompress(self._pending, most)
            if ended and not data and not decoder.eof:
                raise CodingError(f"its Content-Encoding is {self._coding}, and it ends too early")
            self._pending = decoder.unconsumed_tail
            if decoder.eof and (decoder.unused_data or self._next()):
                raise CodingError(f"its Content-Encoding is {self._coding}, and something stands behind its end")
            if data:
                return data

    def _next(self) -> bytes:
        count = self._receive(self._buffer)
        self._coded_left -= count
        if self._coded_left < 0:
            raise CodingError(f"its Content-Encoding is {self._coding}, and it is larger than what was listed")
        return bytes(self._buffer[:count])


def decoded_excerpt(headers: Mapping[str, str], body: bytes, most_bytes: int) -> bytes:
    """The beginning of a body that may be coded and cut off, as far as it can be understood."""
    coding = coding_of(headers)
    if not coding:
        return body
    if not can_undo(coding):
        return b""
    wbits = 31 if coding in _GZIP else 15 if _has_zlib_header(body) else -15
    try:
        return zlib.decompressobj(wbits=wbits).decompress(body, most_bytes)
    except zlib.error:
        return b""


def _has_zlib_header(data: bytes) -> bool:
    # "deflate" means the zlib format (RFC 9110, 8.4.1.2), but some send what is in it alone. RFC 1950, 2.2.
    return len(data) > 1 and data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
