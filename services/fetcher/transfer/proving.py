"""Proof of possession: whether a source has the very files that lie on this node, by ranges that we choose by chance.

A manifest says which checksums a source lists, and nobody can be asked for the bytes behind a checksum. So before a
model gets files that another has brought, its own origin is asked, with its own credentials, for parts of each file.
Must not write anything, nor decide what follows.
"""

import os
import random
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.addresses import AddressError, Endpoint, split_url
from services.fetcher.transfer.codings import CodingError, Decoded, coding_of_whole, decoded_excerpt
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.lanes import Lane, RecalledError
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location, Origin
from services.fetcher.transfer.ranges import range_header
from services.fetcher.transfer.refusals import BODY_BYTES, Said, said_by
from services.fetcher.transfer.sharing import Pause, Sharing
from services.fetcher.transfer.verdicts import (
    Asked,
    Body,
    Follow,
    GiveUp,
    Renew,
    Restart,
    Retry,
    judge,
    judge_range,
    next_attempt,
)
from services.fetcher.transfer.wire import Connection, Head, RefusedError, TrustError, WireError

# Of a larger file so many ranges of so many bytes are compared, one in each of equal parts. Whoever lacks a thirtieth
# of a file in one piece is found out for certain, and whoever lacks a twentieth of its bytes here and there at least
# 24 times in 25.
RANGES, RANGE_BYTES = 64, 16 << 10
# A file up to this size is compared as a whole.
WHOLE_BYTES = RANGES * RANGE_BYTES
# Whoever waits looks this often whether another thread has ended the comparison.
_TICK_SECONDS = 0.2
_chance = secrets.SystemRandom()


class _MismatchError(Exception):
    """The source has sent something else than what lies here, or cannot send a range."""


class _EndedError(Exception):
    """Another thread has found out enough."""


def proves(
    files: Sequence[ManifestFile],
    directory: Path,
    origin: Origin,
    stop: StopFlag,
    limits: Limits,
    sharing: Sharing,
    egress: Rule,
) -> bool:
    """Whether an origin sends for each file what lies below directory; False also if it cannot be asked for ranges.

    Blocks. Raises Stopped, what origin.locate raises, and Missing or Unavailable when the origin refuses or does not
    answer, as download does.
    """
    asked = [file for file in files if file.size_bytes]
    threads = min(limits.connections, len(asked))
    if not threads:
        return True
    proof = _Proof(asked, directory, origin, stop, limits, sharing, egress)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="proof") as executor:
            futures = [executor.submit(proof.work, number) for number in range(threads)]
    finally:
        sharing.forget(proof)
    errors = [error for future in futures if (error := future.exception())]
    stop.check()
    for error in errors:
        if not isinstance(error, (_EndedError, _MismatchError)):
            raise error
    return not errors


def sampled_ranges(size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that are compared: all of a small one, else one at a random place in each equal part."""
    if size <= WHOLE_BYTES:
        yield 0, size
        return
    for part in range(RANGES):
        first, last = size * part // RANGES, size * (part + 1) // RANGES - RANGE_BYTES
        start = _chance.randint(first, max(first, last))
        yield start, min(start + RANGE_BYTES, size)


class _Proof:
    """One comparison, by several threads."""

    def __init__(
        self,
        files: Sequence[ManifestFile],
        directory: Path,
        origin: Origin,
        stop: StopFlag,
        limits: Limits,
        sharing: Sharing,
        egress: Rule,
    ) -> None:
        self._egress = egress
        self._left = deque(files)
        self._directory = directory
        self._origin = origin
        self._stop = stop
        self._limits = limits
        self._sharing = sharing
        self._ended = False

    def work(self, number: int) -> None:
        """Compare one file after the other. Raises _MismatchError at the first difference."""
        lane = Lane(number, self._limits, self._sharing, self, self._check, self._egress)
        finished = False
        try:
            while True:
                try:
                    # Taken by one thread each: a deque needs no lock for that.
                    file = self._left.popleft()
                except IndexError:
                    break
                comparison = _Comparison(file, self._origin, self._stop, self._limits, self._sharing, lane)
                comparison.run(self._directory / file.path)
            finished = True
        finally:
            self._ended = self._ended or not finished
            for endpoint in tuple(lane.seats):
                lane.leave(endpoint)

    def _check(self) -> None:
        self._stop.check()
        if self._ended:
            raise _EndedError


class _Comparison:
    """The ranges of one file, one request after the other."""

    def __init__(
        self, file: ManifestFile, origin: Origin, stop: StopFlag, limits: Limits, sharing: Sharing, lane: Lane
    ) -> None:
        self._file = file
        self._origin = origin
        self._stop = stop
        self._limits = limits
        self._sharing = sharing
        self._lane = lane
        self._large = file.size_bytes > WHOLE_BYTES
        self._redirect: Location | None = None
        # In a row, without an answer that helps.
        self._attempts = self._refusals = self._redirects = 0
        self._locate_again = False

    def run(self, path: Path) -> None:
        """Compare the file with what lies at path; what cannot be read there is no proof."""
        try:
            with path.open("rb", buffering=0) as held:
                for start, end in sampled_ranges(self._file.size_bytes):
                    if os.pread(held.fileno(), end - start, start) != self._fetch(start, end):
                        raise _MismatchError
        except OSError as error:
            raise _MismatchError from error

    def _fetch(self, start: int, end: int) -> bytes:
        received = bytearray()
        while len(received) < end - start:
            received += self._ask(start + len(received), end)
        return bytes(received)

    def _ask(self, start: int, end: int) -> bytes:
        """One request for [start, end); the bytes that came of it, from the first one on."""
        self._lane.check()
        location = self._redirect or self._origin.locate(self._file, self._locate_again)
        try:
            endpoint, target = split_url(location.url)
        except AddressError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._subject}: {error}") from error
        for other in self._lane.due():
            self._lane.leave(other)
        if not self._may_ask(endpoint):
            return b""
        headers = dict(location.headers)
        if self._large:
            headers["Range"] = range_header(start, end)
        try:
            connection = self._lane.connect(endpoint)
            connection.request(target, headers)
            with self._lane.interruptible():
                connection.flush()
                head = connection.head()
                received = self._take(connection, head, location, start, end)
        except TrustError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._origin.name}: {error}") from error
        except RefusedError as error:
            raise Missing(Reason.EGRESS_REFUSED, f"{self._origin.name}: {error}") from error
        except RecalledError:
            self._lane.leave(endpoint)
            return b""
        except (WireError, CodingError) as error:
            self._lane.leave(endpoint)
            self._wait(Retry(str(error)))
            return b""
        if not connection.reusable:
            self._lane.leave(endpoint)
        return received

    def _take(self, connection: Connection, head: Head, location: Location, start: int, end: int) -> bytes:
        asked = Asked(
            self._origin.name,
            self._file.path,
            location,
            self._file.size_bytes,
            large=self._large,
            redirected=location is self._redirect,
            refusals=self._refusals,
            redirects=self._redirects,
        )
        said = Said()
        if head.status not in (200, 206):
            body = decoded_excerpt(head.headers, connection.excerpt(BODY_BYTES), BODY_BYTES)
            said = said_by(head.headers, body, location.secrets())
        match judge(asked, head.status, head.headers, said, datetime.now(UTC), self._limits):
            case Body.RANGE:
                return self._received(_range_of(connection, head, start, end, self._file.size_bytes))
            case Body.SMALL:
                return self._received(_whole_of(connection, head, self._file.size_bytes))
            case Follow(target):
                self._redirects += 1
                self._redirect = target
            case Renew(again):
                self._refusals += 1
                self._locate_again = self._locate_again or again
                self._redirect = None
            case Retry() as retry:
                if retry.pause_seconds is not None:
                    until = time.monotonic() + retry.pause_seconds
                    self._sharing.pause(connection.endpoint, Pause(until, retry.reason))
                self._wait(retry)
            case GiveUp(error):
                raise error
            case _:
                # The file has changed, or comes as a whole only: either way it has to be fetched to be believed.
                connection.close()
                raise _MismatchError
        return b""

    def _received(self, content: bytes) -> bytes:
        self._attempts = self._refusals = self._redirects = 0
        self._locate_again = False
        return content

    def _may_ask(self, endpoint: Endpoint) -> bool:
        """Whether there is a connection for a request now; waits a moment for one, and for a pause to be over."""
        pause = self._sharing.pause_of(endpoint)
        seconds = pause.until - time.monotonic()
        if seconds > self._limits.longest_wait_seconds:
            message = f"{self._origin.name}: {endpoint} asks to wait {seconds:.0f} seconds"
            raise Unavailable(pause.reason, message, seconds)
        if seconds > 0:
            self._sleep(seconds)
            return False
        return self._lane.sit(endpoint) or self._lane.await_seat(endpoint)

    def _wait(self, retry: Retry) -> None:
        self._attempts += 1
        verdict = next_attempt(self._subject, retry, self._attempts, self._limits, random.random())
        if isinstance(verdict, GiveUp):
            raise verdict.error
        self._sleep(verdict)

    def _sleep(self, seconds: float) -> None:
        self._lane.rest()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._lane.check()
            self._stop.wait(min(left, _TICK_SECONDS))

    @property
    def _subject(self) -> str:
        return f"{self._origin.name}: {self._file.path}"


def _range_of(connection: Connection, head: Head, start: int, end: int, size: int) -> bytes:
    length = connection.body_length()
    carried = judge_range(start, end, size, head.headers, length)
    if isinstance(carried, Retry):
        raise WireError(carried.why)
    if isinstance(carried, Restart):
        connection.close()
        raise _MismatchError
    buffer = memoryview(bytearray(carried.end - carried.start))
    count = connection.receive(buffer)
    if length is None:
        connection.finish()
    return bytes(buffer[:count])


def _whole_of(connection: Connection, head: Head, size: int) -> bytes:
    length = connection.body_length()
    coding = coding_of_whole(head.headers, length, size)
    receive = Decoded(coding, connection.receive, size).receive if coding else connection.receive
    # One more than there should be, so that a longer file is another one.
    buffer = memoryview(bytearray(size + 1))
    if receive(buffer) != size:
        connection.close()
        raise _MismatchError
    return bytes(buffer[:size])
