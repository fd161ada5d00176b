"""The transfer of one artifact's bytes: threads that ask for pieces, write them, hash them in order, verify files.

The one owner of retries towards an origin: what its errors mean, how often and when it is asked again, when to give up.
Must not decide what is fetched or where it is published.
"""

import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin

from libs.artifact.manifest import ChecksumAlgorithm
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.checksums import matches, new_checksum
from services.fetcher.store.ingest import IncomingFile, Ingest
from services.fetcher.transfer.buffers import aligned_buffer
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location, Origin
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.progress import Progress, ProgressCallback, RateMeter, remaining_seconds
from services.fetcher.transfer.ranges import parse_content_range, range_header
from services.fetcher.transfer.retry import asked_pause_seconds, backoff_seconds
from services.fetcher.transfer.schedule import Schedule
from services.fetcher.transfer.seating import Seat
from services.fetcher.transfer.sharing import Pause, Sharing
from services.fetcher.transfer.wire import Connection, Endpoint, Head, TrustError, Watch, WireError, split_url

_REDIRECTS = (301, 302, 303, 307, 308)
# An answer that a token or a signed address has expired comes as any of these; object stores say 400 too.
_REFUSALS = (400, 401, 403, 404, 410)
_PASSING = (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529)
# X-Error-Code of the Hugging Face Hub, which answers 401 for what does not exist and 403 for much else.
_ERROR_CODES = {
    "GatedRepo": "Gated",
    "RepoNotFound": "NotFound",
    "RevisionNotFound": "NotFound",
    "EntryNotFound": "NotFound",
}


def download(
    ingest: Ingest,
    origin: Origin,
    stop: StopFlag,
    progress: ProgressCallback,
    limits: Limits,
    copies: Mapping[int, str],
    sharing: Sharing,
) -> None:
    """Bring every file of an ingest that is not done into staging, verified. Blocks; progress is called in this thread.

    copies names files on the node that should have the content of a file, by index: what still has it is not fetched.
    Raises Stopped; Missing (NotFound, Forbidden, Gated); Unavailable (Unavailable, RateLimited, InsufficientDisk,
    DiskError); Corrupt (ChecksumMismatch, SourceChanged); and what origin.locate raises. Verified bytes stay for a
    resume.
    """
    _Transfer(ingest, origin, stop, limits, copies, sharing).run(progress)


class _AbortedError(Exception):
    """Another thread of the transfer has failed; its error is the one that counts."""


class _RecalledError(Exception):
    """Another transfer has none of the origin's connections and is due this one, although it is in use."""


@dataclass
class _Request:
    """A request on the wire."""

    piece: Piece
    location: Location
    endpoint: Endpoint
    redirected: bool


@dataclass
class _Lane:
    """What one thread has for itself: connections, requests that are not answered yet, memory for small files."""

    number: int
    scratch: memoryview
    watch: Watch
    connections: dict[Endpoint, Connection] = field(default_factory=dict)
    # The right to each of them, and to one that is about to be opened.
    seats: dict[Endpoint, Seat] = field(default_factory=dict)
    # Where there was no seat for the last piece that was taken.
    crowded: Endpoint | None = None
    # What the thread waits for can be asked for again without losing anything.
    interruptible: bool = False
    outstanding: deque[_Request] = field(default_factory=deque)
    # Work that was taken and has to wait until the outstanding requests are answered.
    next_work: Piece | FileState | None = None
    # Endpoints that close connections on which requests are pipelined.
    unpipelined: set[Endpoint] = field(default_factory=set)


class _Transfer:
    def __init__(
        self,
        ingest: Ingest,
        origin: Origin,
        stop: StopFlag,
        limits: Limits,
        copies: Mapping[int, str],
        sharing: Sharing,
    ) -> None:
        self._ingest = ingest
        self._origin = origin
        self._stop = stop
        self._limits = limits
        self._copies = copies
        self._sharing = sharing
        self._lanes: list[_Lane] = []
        self._aborted = False
        self._opened: list[IncomingFile] = []
        ingest.finish_synced()
        self._schedule = Schedule(ingest.manifest, ingest.done, limits)

    def run(self, progress: ProgressCallback) -> None:
        requests = sum(1 + file.size_bytes // self._limits.range_bytes for file in self._ingest.manifest.files)
        threads = max(min(self._limits.connections, requests), 1)
        meter = RateMeter(time.monotonic())
        progress(self._progress(meter))
        with self._releasing(), ThreadPoolExecutor(threads, thread_name_prefix="transfer") as executor:
            self._lanes = [self._lane(number) for number in range(threads)]
            futures = [executor.submit(self._work, lane) for lane in self._lanes]
            try:
                while wait(futures, self._limits.progress_seconds, FIRST_EXCEPTION).not_done and not self._aborted:
                    progress(self._progress(meter))
                    self._check_patience()
            finally:
                # Whatever ends this thread ends the others, within one tick.
                self._aborted = self._aborted or any(not future.done() for future in futures)
        self._raise_first(futures)
        progress(self._progress(meter))

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        try:
            yield
        finally:
            for incoming in self._opened:
                incoming.close()
            self._schedule.close()
            self._sharing.forget(self)

    def _lane(self, number: int) -> _Lane:
        limits, allow = self._limits, None

        def check() -> None:
            self._check()
            if self._sharing.recalls:
                self._heed_recalls(lane)

        if self._sharing.throttles:

            def allow(wanted: int) -> int:
                return self._sharing.allow(self, wanted, check)

        watch = Watch(check, limits.connect_seconds, limits.stall_seconds, limits.stall_bytes, allow)
        lane = _Lane(number, aligned_buffer(limits.range_bytes, whole=False), watch)
        return lane

    def _raise_first(self, futures: Sequence[Future[None]]) -> None:
        errors = [error for future in futures if (error := future.exception())]
        if errors and self._stop.is_set():
            # Whatever went wrong, nobody wants the answer any more.
            raise Stopped from errors[0]
        for error in errors:
            if not isinstance(error, _AbortedError):
                raise error

    def _check(self) -> None:
        self._stop.check()
        if self._aborted:
            raise _AbortedError

    def _check_patience(self) -> None:
        idle = time.monotonic() - self._schedule.last_byte_at
        if idle > self._limits.patience_seconds:
            self._aborted = True
            raise Unavailable("Unavailable", f"{self._origin.name} has sent nothing for {idle:.0f} seconds")

    def _progress(self, meter: RateMeter) -> Progress:
        manifest = self._ingest.manifest
        done = self._schedule.received()
        rate = meter.sample(time.monotonic(), self._schedule.fetched())
        left = remaining_seconds(manifest.size_bytes - done, rate)
        return Progress(done, manifest.size_bytes, self._schedule.files_done, len(manifest.files), rate, left)

    def _work(self, lane: _Lane) -> None:
        finished = False
        try:
            while self._fill(lane):
                self._answer(lane)
            finished = True
        finally:
            self._aborted = self._aborted or not finished
            for endpoint in tuple(lane.seats):
                self._leave(lane, endpoint)

    def _leave(self, lane: _Lane, endpoint: Endpoint) -> None:
        """Close a connection and let others have it."""
        connection, seat = lane.connections.pop(endpoint, None), lane.seats.pop(endpoint, None)
        if connection:
            connection.close()
        if seat:
            self._sharing.leave_seat(endpoint, seat)

    def _heed_recalls(self, lane: _Lane) -> None:
        """Leave the idle seats that are due to others; break off what is under way when that cannot wait for its end.

        Called by the lane's own thread, whatever it waits for.
        """
        for endpoint, seat in tuple(lane.seats.items()):
            if seat.recalled and seat.idle:
                self._leave(lane, endpoint)
            elif seat.urgent and lane.interruptible:
                raise _RecalledError

    def _await_seat(self, lane: _Lane, endpoint: Endpoint) -> None:
        lane.crowded = None
        self._set_idle(lane)
        seat = self._sharing.wait_for_seat(self, endpoint, lane.watch.check)
        if seat:
            lane.seats[endpoint] = seat
        elif not any(each.seats for each in self._lanes):
            self._schedule.held_back()

    def _is_used(self, lane: _Lane, endpoint: Endpoint) -> bool:
        """Whether a seat has been worth its connection: one that is taken back before is of no use to anybody."""
        connection = lane.connections.get(endpoint)
        return connection is not None and connection.answers > 0

    def _set_idle(self, lane: _Lane, busy: Endpoint | None = None) -> None:
        for endpoint, seat in lane.seats.items():
            seat.idle = endpoint != busy

    def _fill(self, lane: _Lane) -> bool:
        """Prepare requests until the lane is full or there is nothing to ask for; False when everything is done."""
        due = [each for each, seat in lane.seats.items() if seat.recalled and self._is_used(lane, each)]
        if due and lane.outstanding:
            return True
        for endpoint in due:
            self._leave(lane, endpoint)
        if lane.outstanding and len(lane.outstanding) > self._depth(lane.outstanding[0].piece.state) // 2:
            # Several small requests in one packet cost both sides less than one each.
            return True
        while True:
            if lane.crowded:
                self._await_seat(lane, lane.crowded)
            if lane.next_work is None:
                lane.next_work = self._schedule.take(lane.number, False, lane.watch.check)
            if lane.next_work is None and not lane.outstanding:
                self._set_idle(lane)
                lane.next_work = self._schedule.take(lane.number, True, lane.watch.check)
            work = lane.next_work
            if work is None:
                return bool(lane.outstanding)
            if isinstance(work, FileState):
                if lane.outstanding and work.large:
                    return True
                if work.large:
                    self._set_idle(lane)
                lane.next_work = self._prepare(work, lane)
            elif self._send(work, lane):
                lane.next_work = None
            else:
                return True

    def _prepare(self, state: FileState, lane: _Lane) -> Piece | None:
        """Find out what of a file is here already; return the piece of a small file that is not."""
        ingest, index = self._ingest, state.index
        if index in self._copies and self._adopt(state, lane):
            return None
        believed, state.running = ingest.rehash(
            index, lane.scratch, lane.watch.check, lambda length: self._schedule.found(state, length)
        )
        state.frontier = believed
        size = state.file.size_bytes
        whole = believed == size and (size > 0 or state.file.algorithm is not ChecksumAlgorithm.NONE)
        if not state.large:
            if size == 0 or (whole and matches(state.file, state.running.hexdigest())):
                self._settle_small(state, believed)
                return None
            self._schedule.found(state, 0)
            return self._schedule.small_piece(state)
        state.incoming = ingest.open(index)
        self._opened.append(state.incoming)
        self._schedule.prepared(state)
        if believed == size:
            self._complete(state)
        return None

    def _adopt(self, state: FileState, lane: _Lane) -> bool:
        """Take a file from where the node has it already; False when that is not what it should be."""

        def check() -> None:
            lane.watch.check()
            self._schedule.held_back()

        if not self._ingest.adopt_verified(state.index, Path(self._copies[state.index]), lane.scratch, check):
            return False
        self._schedule.found(state, state.file.size_bytes)
        if state.large:
            self._schedule.prepared(state)
        self._schedule.completed(state)
        return True

    def _settle_small(self, state: FileState, believed: int) -> None:
        if believed:
            self._ingest.finish(state.index, synced=False)
        elif not matches(state.file, new_checksum(state.file).hexdigest()):
            raise Corrupt(
                "ChecksumMismatch", f"{self._origin.name}: {state.name} is empty but should not be by its checksum"
            )
        else:
            self._ingest.write_small(state.index, memoryview(b""), new_checksum(state.file).hexdigest())
        self._schedule.completed(state)

    def _send(self, piece: Piece, lane: _Lane) -> bool:
        """Ask for a piece, or put it back for later; False when the lane has to be answered first."""
        state = piece.state
        if len(lane.outstanding) >= self._depth(state):
            return False
        redirect = state.redirect
        location = redirect or self._origin.locate(state.file, piece.locate_again)
        try:
            endpoint, target = split_url(location.url)
        except WireError as error:
            raise Unavailable("Unavailable", f"{self._origin.name}: {state.name}: {error}") from error
        if self._is_paused(endpoint, piece):
            return True
        connection = lane.connections.get(endpoint)
        if lane.outstanding and not self._fits(lane, endpoint, connection, state):
            return False
        if not self._sit(lane, endpoint):
            # Whoever has a seat may ask for the piece meanwhile.
            self._schedule.put_back(piece)
            return True
        headers = dict(location.headers)
        if state.large and not state.whole:
            headers["Range"] = range_header(piece.start + piece.filled, piece.end)
        try:
            if connection is None:
                with self._interruptible(lane):
                    connection = lane.connections[endpoint] = Connection(endpoint, lane.watch)
            connection.request(target, headers)
        except TrustError as error:
            raise Unavailable("Unavailable", f"{self._origin.name}: {error}") from error
        except WireError as error:
            if connection is None:
                self._leave(lane, endpoint)
            self._retry(piece, str(error))
            return True
        except _RecalledError:
            self._leave(lane, endpoint)
            self._schedule.put_back(piece)
            return True
        lane.outstanding.append(_Request(piece, location, endpoint, redirect is not None))
        return True

    def _is_paused(self, endpoint: Endpoint, piece: Piece) -> bool:
        """Put a piece back whose origin has asked any transfer of the node for a pause that is not over."""
        pause = self._sharing.pause_of(endpoint)
        seconds = pause.until - time.monotonic()
        if seconds > self._limits.longest_wait_seconds:
            raise Unavailable(
                pause.reason, f"{self._origin.name}: {endpoint} asks to wait {seconds:.0f} seconds", seconds
            )
        if seconds > 0:
            self._schedule.held_back(pause.until)
            self._schedule.put_back(piece, pause.until)
        return seconds > 0

    def _sit(self, lane: _Lane, endpoint: Endpoint) -> bool:
        """Whether the lane may hold a connection to an endpoint; its other connections rest then."""
        if endpoint not in lane.seats:
            seat = self._sharing.take_seat(self, endpoint)
            if seat is None:
                lane.crowded = endpoint
                return False
            lane.seats[endpoint] = seat
        self._set_idle(lane, busy=endpoint)
        return True

    @contextmanager
    def _interruptible(self, lane: _Lane) -> Iterator[None]:
        lane.interruptible = True
        try:
            yield
        finally:
            lane.interruptible = False

    def _fits(self, lane: _Lane, endpoint: Endpoint, connection: Connection | None, state: FileState) -> bool:
        same = connection is not None and lane.outstanding[-1].endpoint == endpoint
        proven = connection is not None and connection.answers > 0 and endpoint not in lane.unpipelined
        return same and proven and not state.whole

    def _depth(self, state: FileState) -> int:
        return self._limits.pipelined_ranges if state.large else self._limits.pipelined_files

    def _answer(self, lane: _Lane) -> None:
        """Read the answer to the oldest request of a lane."""
        request = lane.outstanding[0]
        endpoint = request.endpoint
        connection = lane.connections[endpoint]
        answers = connection.answers
        try:
            with self._interruptible(lane):
                connection.flush()
                head = connection.head()
            lane.outstanding.popleft()
            self._take_answer(request, connection, head, lane)
        except _RecalledError:
            self._leave(lane, endpoint)
            if not (lane.outstanding and lane.outstanding[0] is request):
                self._schedule.put_back(request.piece)
            while lane.outstanding:
                self._schedule.put_back(lane.outstanding.popleft().piece)
        except WireError as error:
            if lane.outstanding and lane.outstanding[0] is request:
                lane.outstanding.popleft()
            # An idle connection may be closed at any time: that says nothing about the piece.
            self._retry(request.piece, str(error), counts=not (error.closed_early and answers > 0))
            self._lose(lane, endpoint)
        else:
            if not connection.reusable:
                self._lose(lane, endpoint)

    def _lose(self, lane: _Lane, endpoint: Endpoint) -> None:
        self._leave(lane, endpoint)
        if lane.outstanding:
            lane.unpipelined.add(endpoint)
        while lane.outstanding:
            self._schedule.put_back(lane.outstanding.popleft().piece)

    def _take_answer(self, request: _Request, connection: Connection, head: Head, lane: _Lane) -> None:
        piece, status = request.piece, head.status
        if status == 206 and piece.state.large and not piece.state.whole:
            self._take_range(request, connection, head, lane)
        elif status == 200 and piece.state.large:
            self._take_whole(piece, connection)
        elif status == 200:
            self._take_small(piece, connection, lane.scratch)
        else:
            connection.finish()
            if status in _REDIRECTS:
                self._follow(request, head)
            elif status == 416:
                self._start_again(
                    piece.state, "SourceChanged", "is shorter at the origin than it was when it was listed", piece
                )
            elif status == 412:
                # The condition names the content that was listed: to ask for it again cannot help.
                raise Corrupt(
                    "SourceChanged",
                    f"{self._origin.name}: {piece.state.name} has changed at the origin since it was listed",
                )
            elif status in _REFUSALS:
                self._refused(request, head)
            elif status in _PASSING:
                self._pause(request, head)
            else:
                raise Unavailable(
                    "Unavailable",
                    f"{self._origin.name}: the answer to a request for {piece.state.name} is HTTP {status}",
                )

    def _take_range(self, request: _Request, connection: Connection, head: Head, lane: _Lane) -> None:
        piece, state = request.piece, request.piece.state
        carried = parse_content_range(head.headers.get("content-range", ""))
        start = piece.start + piece.filled
        if carried is None or carried.start != start or carried.end > piece.end:
            raise WireError(f"asked for bytes from {start} to {piece.end}, the answer is about others")
        length = connection.body_length()
        if length is not None and length != carried.end - carried.start:
            raise WireError(f"an answer of {carried.end - carried.start} bytes says that it has {length}")
        changed = (carried.total or state.file.size_bytes) != state.file.size_bytes
        if changed or not self._same_entity(request, head):
            connection.close()
            self._start_again(state, "SourceChanged", "has changed at the origin since it was listed", piece)
            return
        self._schedule.answered(state)
        buffer = piece.buffer
        if buffer is None:
            raise WireError("a piece that is not wanted any more was answered")
        filled = piece.filled
        wanted = carried.end - carried.start
        before = piece.filled
        with self._interruptible(lane):
            connection.receive_some(
                buffer[filled : filled + wanted], lambda count: self._schedule.arrived(piece, before + count)
            )
        if length is None:
            # The end of a body that did not say its length stands before the next answer.
            try:
                connection.finish()
            except WireError:
                connection.close()
        piece.progressed()
        if piece.start + piece.filled < piece.end:
            self._schedule.put_back(piece)
        else:
            self._keep(piece)

    def _keep(self, piece: Piece) -> None:
        """Write a full piece, and hash whatever is in order then."""
        state, schedule = piece.state, self._schedule
        incoming, buffer = state.incoming, piece.buffer
        if incoming is None or buffer is None or not schedule.begin_use(piece):
            return
        incoming.write(piece.start, buffer, piece.end - piece.start)
        if not schedule.end_use(piece):
            return
        hashed = 0
        while (following := schedule.next_to_hash(state)) is not None:
            self._advance(state, following.buffer, following.end)
            schedule.hashed(following)
            hashed = following.end
        # By what this thread has hashed: the frontier may have been moved to the end by another one by now.
        if hashed == state.file.size_bytes:
            self._complete(state)

    def _advance(self, state: FileState, buffer: memoryview | None, end: int) -> None:
        if buffer is None or state.incoming is None:
            raise AssertionError(f"{state.name}: a piece without bytes reached the checksum")
        state.running.update(buffer[: end - state.frontier])
        state.incoming.record(end, state.running.hexdigest())

    def _complete(self, state: FileState) -> None:
        if matches(state.file, state.running.hexdigest()):
            if state.incoming:
                state.incoming.finish()
            self._schedule.completed(state)
        else:
            self._start_again(state, "ChecksumMismatch", "does not match its checksum", None)

    def _take_whole(self, piece: Piece, connection: Connection) -> None:
        """The origin sent the whole file where a range was asked for: fine at first, a fault in the middle."""
        state, size = piece.state, piece.state.file.size_bytes
        if not self._schedule.read_whole(piece):
            connection.close()
            raise WireError("the whole file was sent where a range was asked for")
        length = connection.body_length()
        if length is not None and length != size:
            connection.close()
            self._start_again(
                state, "SourceChanged", "has another size at the origin than it had when it was listed", piece
            )
            return
        if not self._schedule.begin_use(piece):
            connection.close()
            return
        complete = False
        try:
            over = self._stream(piece, connection)
            complete = True
        finally:
            self._schedule.end_whole(piece, complete)
        if over:
            connection.close()
            self._start_again(state, "SourceChanged", "is longer at the origin than it was when it was listed", None)
        else:
            self._complete(state)

    def _stream(self, piece: Piece, connection: Connection) -> bool:
        """Take a whole body, passing over what is verified already; return whether it is too long."""
        state, buffer, incoming = piece.state, piece.buffer, piece.state.incoming
        if buffer is None or incoming is None:
            raise AssertionError(f"{state.name}: read without a buffer")
        position, size, step = 0, state.file.size_bytes, self._limits.range_bytes
        piece.filled = 0
        while position < size:
            known = position < state.frontier
            end = min(position + step, state.frontier if known else size)
            if connection.receive(buffer[: end - position]) != end - position:
                raise WireError("the body ended early")
            if not known:
                incoming.write(position, buffer, end - position)
                self._advance(state, buffer, end)
                self._schedule.advanced(state, end)
                piece.progressed()
            position = end
        return connection.receive(buffer[:1]) > 0

    def _take_small(self, piece: Piece, connection: Connection, scratch: memoryview) -> None:
        state, size = piece.state, piece.state.file.size_bytes
        length = connection.body_length()
        if length is not None and length != size:
            connection.close()
            self._start_again(
                state, "SourceChanged", f"has {length} bytes at the origin and had {size} when it was listed", piece
            )
            return
        received = connection.receive(scratch[:size])
        if received < size or connection.receive(scratch[:1]):
            connection.close()
            self._start_again(
                state, "SourceChanged", "has another size at the origin than it had when it was listed", piece
            )
            return
        running = new_checksum(state.file)
        running.update(scratch[:size])
        digest = running.hexdigest()
        if not matches(state.file, digest):
            self._start_again(state, "ChecksumMismatch", "does not match its checksum", piece)
            return
        self._ingest.write_small(state.index, scratch[:size], digest)
        self._schedule.completed(state)

    def _same_entity(self, request: _Request, head: Head) -> bool:
        tag = head.headers.get("etag", "")
        if not tag or tag.startswith("W/"):
            return True
        # Replicas behind different hosts need not agree on their tags.
        return request.piece.state.entity_tags.setdefault(request.endpoint, tag) == tag

    def _follow(self, request: _Request, head: Head) -> None:
        piece = request.piece
        piece.redirects += 1
        target = head.headers.get("location", "")
        if not target:
            raise WireError("a redirect does not say where to")
        if piece.redirects > self._limits.redirects:
            raise Unavailable("Unavailable", f"{self._origin.name}: {piece.state.name} is redirected in circles")
        try:
            url = urljoin(request.location.url, target)
        except ValueError:
            raise WireError("a redirect leads to an address that cannot be understood") from None
        before, after = request.endpoint, split_url(url)[0]
        if before.scheme == "https" and after.scheme == "http":
            raise Unavailable("Unavailable", f"{self._origin.name} redirects from https to http, which is not followed")
        # Tokens belong to the host they were meant for.
        piece.state.redirect = Location(url, request.location.headers if after == before else {})
        self._schedule.put_back(piece)

    def _refused(self, request: _Request, head: Head) -> None:
        piece, state = request.piece, request.piece.state
        piece.refusals += 1
        if piece.refusals <= 2 and request.redirected:
            # A signed address has expired: the origin gives a new one.
            if state.redirect is request.location:
                state.redirect = None
            self._schedule.put_back(piece)
        elif piece.refusals <= 1:
            piece.locate_again = True
            self._schedule.put_back(piece)
        else:
            raise self._refusal(state, head)

    def _refusal(self, state: FileState, head: Head) -> ServiceError:
        if head.status == 400:
            return Unavailable(
                "Unavailable", f"{self._origin.name} does not understand a request for {state.name} (HTTP 400)"
            )
        code = head.headers.get("x-error-code", "")
        reason = _ERROR_CODES.get(code, "Forbidden" if head.status in (401, 403) else "NotFound")
        what = {
            "Gated": "is gated: accept its terms with the account that the token belongs to",
            "NotFound": "does not exist at the origin",
            "Forbidden": "may not be read: check the token and its permissions",
        }[reason]
        return Missing(reason, f"{self._origin.name}: {state.name} {what} (HTTP {head.status})")

    def _pause(self, request: _Request, head: Head) -> None:
        asked = asked_pause_seconds(head.headers, datetime.now(UTC))
        reason = "RateLimited" if head.status == 429 else "Unavailable"
        if asked is not None:
            until = time.monotonic() + asked
            self._sharing.pause(request.endpoint, Pause(until, reason))
            self._schedule.held_back(until)
        self._retry(request.piece, f"the answer is HTTP {head.status}", reason=reason, asked=asked)

    def _retry(
        self, piece: Piece, why: str, counts: bool = True, reason: str = "Unavailable", asked: float | None = None
    ) -> None:
        """Ask for a piece again later, or give up when its budget is used up, if the failure counts."""
        if not counts:
            self._schedule.put_back(piece)
            return
        limits = self._limits
        piece.attempts += 1
        message = f"{self._origin.name}: {piece.state.name}: {why}"
        if asked is not None and asked > limits.longest_wait_seconds:
            raise Unavailable(reason, f"{message}; it asks to wait {asked:.0f} seconds", asked)
        if piece.attempts >= limits.attempts:
            raise Unavailable(reason, f"{message}; given up after {piece.attempts} attempts in a row", asked)
        delay = backoff_seconds(
            piece.attempts, limits.backoff_initial_seconds, limits.backoff_cap_seconds, random.random()
        )
        self._schedule.put_back(piece, time.monotonic() + (asked or 0.0) + delay)

    def _start_again(self, state: FileState, reason: str, what: str, piece: Piece | None) -> None:
        """What came of a file is wrong as a whole: fetch it again from its first byte, or give up."""
        restarts = self._schedule.restart(state, piece)
        if restarts > self._limits.corrupt_attempts:
            raise Corrupt(reason, f"{self._origin.name}: {state.name} {what}; fetched {restarts} times")
