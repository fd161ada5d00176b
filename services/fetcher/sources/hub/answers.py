"""Keeps what a hub answers to one listing within bounds, while it arrives and after it was decoded.

The SDK reads each answer to its end, and its client decodes whatever came: a few kilobytes can be gigabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx2

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from services.fetcher.sources.bounds import too_long
from services.fetcher.transfer.codings import CodingError, Decoded, coding_of

# What can be undone within bounds. A hub that sends something else, unasked, is not understood.
ACCEPT_ENCODING = "gzip, deflate"
_READ_BYTES = 64 << 10


@dataclass
class Allowance:
    """What all answers to one listing may take together; source and endpoint are words for people."""

    source: str
    endpoint: str
    most_bytes: int

    def __post_init__(self) -> None:
        self.bytes_left = self.most_bytes

    def take(self, count: int) -> None:
        """Count bytes that have come. Raises Unavailable."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise too_long(self.source, self.endpoint, self.most_bytes)


def bound(response: httpx2.Response, allowance: Allowance) -> None:
    """Have the body of an answer that is not read yet counted, and decoded by us."""
    # Of an answer to HEAD they are those of the body that it does not have.
    if response.request.method == "HEAD" or not isinstance(response.stream, httpx2.SyncByteStream):
        return
    coding = coding_of({"content-encoding": response.headers.get("content-encoding", "")})
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    response.stream = _Counted(response.stream, coding, allowance)


class _Counted(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, coding: str, allowance: Allowance) -> None:
        self._stream = stream
        self._coding = coding
        self._allowance = allowance

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._decoded() if self._coding else self._stream:
            self._allowance.take(len(chunk))
            yield chunk

    def close(self) -> None:
        """Close what it comes from."""
        self._stream.close()

    def _decoded(self) -> Iterator[bytes]:
        chunks, pending = iter(self._stream), b""

        def receive(view: memoryview) -> int:
            nonlocal pending
            while not pending:
                following = next(chunks, None)
                if following is None:
                    return 0
                pending = following
            count = min(len(view), len(pending))
            view[:count], pending = pending[:count], pending[count:]
            return count

        buffer = memoryview(bytearray(_READ_BYTES))
        try:
            decoded = Decoded(self._coding, receive, self._allowance.bytes_left)
            while count := decoded.receive(buffer):
                yield bytes(buffer[:count])
        except CodingError as error:
            source, endpoint = self._allowance.source, self._allowance.endpoint
            raise Unavailable(Reason.UNAVAILABLE, f"{source}: an answer of {endpoint}: {error}") from error
