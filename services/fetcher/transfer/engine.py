"""The transfer of one artifact's bytes: threads that ask an origin for pieces and act on what it answers.

The one owner of retries towards an origin: carries out the verdicts on its answers. Must not decide what is fetched or
where it is published.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime

from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.ingest import Ingest
from services.fetcher.transfer.addresses import AddressError, Endpoint, split_url
from services.fetcher.transfer.answers import Answers
from services.fetcher.transfer.codings import decoded_excerpt
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.lanes import Lane, RecalledError, Request
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Origin
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.progress import FileMeters, Progress, ProgressCallback, RateMeter, remaining_seconds
from services.fetcher.transfer.ranges import range_header
from services.fetcher.transfer.refusals import BODY_BYTES, Said, said_by
from services.fetcher.transfer.schedule import Schedule
from services.fetcher.transfer.sharing import Pause, Sharing
from services.fetcher.transfer.verdicts import (
    Asked,
    Body,
    Follow,
    GiveUp,
    ReadWhole,
    Renew,
    Restart,
    Retry,
    Verdict,
    judge,
    next_attempt,
)
from services.fetcher.transfer.wire import Connection, Head, RefusedError, TrustError, WireError

# The answers whose body is content.
_WITH_CONTENT = (200, 206)


def download(
    ingest: Ingest,
    origin: Origin,
    stop: StopFlag,
    progress: ProgressCallback,
    limits: Limits,
    copies: Mapping[int, str],
    sharing: Sharing,
    egress: Rule,
) -> None:
    """Bring every file of an ingest that is not done into staging, verified. Blocks; progress is called in this thread.

    copies names files on the node that should have the content of a file, by index: what still has it is not fetched.
    No connection leads where egress does not permit it. Raises Stopped; Missing (NotFound, Forbidden, Gated,
    EgressRefused); Unavailable (Unavailable, RateLimited, InsufficientDisk,
    DiskError); Corrupt (ChecksumMismatch, SourceChanged); and what origin.locate raises. Verified bytes stay for a
    resume.
    """
    _Transfer(ingest, origin, stop, limits, copies, sharing, egress).run(progress)


class _AbortedError(Exception):
    """Another thread of the transfer has failed; its error is the one that counts."""


class _Transfer:
    def __init__(
        self,
        ingest: Ingest,
        origin: Origin,
        stop: StopFlag,
        limits: Limits,
        copies: Mapping[int, str],
        sharing: Sharing,
        egress: Rule,
    ) -> None:
        self._manifest = ingest.manifest
        self._origin = origin
        self._stop = stop
        self._limits = limits
        self._sharing = sharing
        self._egress = egress
        self._files = FileMeters()
        self._lanes: list[Lane] = []
        self._aborted = False
        ingest.finish_synced()
        self._schedule = Schedule(ingest.manifest, ingest.done, limits)
        self._answers = Answers(ingest, self._schedule, limits, origin.name, copies)

    def run(self, progress: ProgressCallback) -> None:
        requests = sum(1 + file.size_bytes // self._limits.range_bytes for file in self._manifest.files)
        threads = max(min(self._limits.connections, requests), 1)
        meter = RateMeter(time.monotonic())
        progress(self._progress(meter))
        with self._releasing(), ThreadPoolExecutor(threads, thread_name_prefix="transfer") as executor:
            self._lanes = [
                Lane(number, self._limits, self._sharing, self, self._check, self._egress, self._schedule.give_back)
                for number in range(threads)
            ]
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
            self._answers.close()
            self._schedule.close()
            self._sharing.forget(self)

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
            raise Unavailable(Reason.UNAVAILABLE, f"{self._origin.name} has sent nothing for {idle:.0f} seconds")

    def _progress(self, meter: RateMeter) -> Progress:
        manifest = self._manifest
        done = self._schedule.received()
        now = time.monotonic()
        rate = meter.sample(now, self._schedule.fetched())
        left = remaining_seconds(manifest.size_bytes - done, rate)
        files = self._files.measure(now, self._schedule.open_files())
        return Progress(done, manifest.size_bytes, self._schedule.files_done, len(manifest.files), rate, left, files)

    def _work(self, lane: Lane) -> None:
        finished = False
        try:
            while self._fill(lane):
                self._answer(lane)
            finished = True
        finally:
            self._aborted = self._aborted or not finished
            for endpoint in tuple(lane.seats):
                lane.leave(endpoint)

    def _fill(self, lane: Lane) -> bool:
        """Prepare requests until the lane is full or there is nothing to ask for; False when everything is done."""
        due = lane.due()
        if due and lane.outstanding:
            return True
        for endpoint in due:
            lane.leave(endpoint)
        if lane.outstanding and len(lane.outstanding) > lane.depth(lane.outstanding[0].piece.state) // 2:
            # Several small requests in one packet cost both sides less than one each.
            return True
        while True:
            if lane.crowded and not lane.await_seat(lane.crowded) and not any(each.seats for each in self._lanes):
                self._schedule.held_back()
            if lane.next_work is None:
                lane.next_work = self._schedule.take(lane.number, False, lane.check)
            if lane.next_work is None and not lane.outstanding:
                lane.rest()
                lane.next_work = self._schedule.take(lane.number, True, lane.check)
            work = lane.next_work
            if work is None:
                return bool(lane.outstanding)
            if isinstance(work, FileState):
                if lane.outstanding and work.large:
                    return True
                if work.large:
                    lane.rest()
                lane.next_work = self._answers.prepare(work, lane)
            elif self._send(work, lane):
                lane.next_work = None
            else:
                return True

    def _send(self, piece: Piece, lane: Lane) -> bool:
        """Ask for a piece, or put it back for later; False when the lane has to be answered first."""
        state = piece.state
        if len(lane.outstanding) >= lane.depth(state):
            return False
        redirect = state.redirect
        location = redirect or self._origin.locate(state.file, piece.locate_again)
        try:
            endpoint, target = split_url(location.url)
        except AddressError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._origin.name}: {state.name}: {error}") from error
        if self._is_paused(endpoint, piece):
            return True
        if lane.outstanding and not lane.fits(endpoint, state):
            return False
        if not lane.sit(endpoint):
            # Whoever has a seat may ask for the piece meanwhile.
            self._schedule.put_back(piece)
            return True
        headers = dict(location.headers)
        if state.large and not state.whole:
            headers["Range"] = range_header(piece.start + piece.filled, piece.end)
        try:
            lane.connect(endpoint).request(target, headers)
        except TrustError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._origin.name}: {error}") from error
        except RefusedError as error:
            raise Missing(Reason.EGRESS_REFUSED, f"{self._origin.name}: {error}") from error
        except WireError as error:
            if endpoint not in lane.connections:
                lane.leave(endpoint)
            self._retry(piece, Retry(str(error)))
            return True
        except RecalledError:
            lane.leave(endpoint)
            self._schedule.put_back(piece)
            return True
        lane.outstanding.append(Request(piece, location, endpoint, redirect is not None))
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

    def _answer(self, lane: Lane) -> None:
        """Read the answer to the oldest request of a lane."""
        request = lane.answering = lane.outstanding[0]
        endpoint = request.endpoint
        connection = lane.connections[endpoint]
        answers = connection.answers
        lost: list[Piece] = []
        try:
            with lane.interruptible():
                connection.flush()
                head = connection.head()
            lane.outstanding.popleft()
            self._take_answer(request, connection, head, lane)
        except RecalledError:
            lane.leave(endpoint)
            if not (lane.outstanding and lane.outstanding[0] is request):
                lost.append(request.piece)
            lost += lane.drop()
        except WireError as error:
            if lane.outstanding and lane.outstanding[0] is request:
                lane.outstanding.popleft()
            # An idle connection may be closed at any time: that says nothing about the piece.
            if error.closed_early and answers > 0:
                lost.append(request.piece)
            else:
                self._retry(request.piece, Retry(str(error)))
            lost += lane.lose(endpoint)
        else:
            if not connection.reusable:
                lost = lane.lose(endpoint)
        finally:
            lane.answering = None
        for piece in lost:
            self._schedule.put_back(piece)

    def _take_answer(self, request: Request, connection: Connection, head: Head, lane: Lane) -> None:
        piece, state = request.piece, request.piece.state
        asked = Asked(
            self._origin.name,
            state.name,
            request.location,
            state.file.size_bytes,
            state.large,
            state.whole,
            request.redirected,
            piece.refusals,
            piece.redirects,
        )
        said = Said()
        if head.status not in _WITH_CONTENT:
            body = decoded_excerpt(head.headers, connection.excerpt(BODY_BYTES), BODY_BYTES)
            said = said_by(head.headers, body, request.location.secrets())
        match judge(asked, head.status, head.headers, said, datetime.now(UTC), self._limits):
            case Body.RANGE:
                self._answers.take_range(request, connection, head, lane)
            case Body.WHOLE:
                self._answers.take_whole(piece, connection, head)
            case Body.SMALL:
                self._answers.take_small(piece, connection, head, lane.scratch)
            case verdict:
                if head.status in _WITH_CONTENT:
                    # Content that is of no use, and may be large.
                    connection.close()
                self._act(verdict, request)

    def _act(self, verdict: Verdict, request: Request) -> None:
        """Carry out a verdict on an answer without content."""
        piece, state = request.piece, request.piece.state
        match verdict:
            case ReadWhole(why):
                if not self._schedule.read_whole(piece):
                    raise WireError(why)
                self._schedule.put_back(piece)
            case Follow(location):
                piece.redirects += 1
                state.redirect = location
                self._schedule.put_back(piece)
            case Renew(again):
                piece.refusals += 1
                piece.locate_again = piece.locate_again or again
                if request.redirected and state.redirect is request.location:
                    state.redirect = None
                self._schedule.put_back(piece)
            case Retry():
                if verdict.pause_seconds is not None:
                    until = time.monotonic() + verdict.pause_seconds
                    self._sharing.pause(request.endpoint, Pause(until, verdict.reason))
                    self._schedule.held_back(until)
                self._retry(piece, verdict)
            case Restart():
                self._answers.start_again(state, verdict, piece)
            case GiveUp(error):
                raise error

    def _retry(self, piece: Piece, retry: Retry) -> None:
        """Ask for a piece again later, or give up when its budget is used up."""
        piece.attempts += 1
        subject = f"{self._origin.name}: {piece.state.name}"
        verdict = next_attempt(subject, retry, piece.attempts, self._limits, random.random())
        if isinstance(verdict, GiveUp):
            raise verdict.error
        self._schedule.put_back(piece, time.monotonic() + verdict)
