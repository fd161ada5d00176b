"""Takes the bodies of an origin's answers: into memory, onto the disk, through the checksum, until a file is complete.

Also takes what the node has already of a file. Must not ask the origin for anything.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from libs.artifact.manifest import ChecksumAlgorithm
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt
from services.fetcher.store.checksums import matches, new_checksum
from services.fetcher.store.ingest import IncomingFile, Ingest
from services.fetcher.transfer.codings import CodingError, Decoded, coding_of_whole
from services.fetcher.transfer.lanes import Lane, Request
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.schedule import Schedule
from services.fetcher.transfer.verdicts import (
    CHANGED,
    LONGER,
    MISMATCH,
    RESIZED,
    GiveUp,
    Restart,
    Retry,
    judge_range,
    next_start,
)
from services.fetcher.transfer.wire import Connection, Head, WireError

# As a connection's receive.
_Receive = Callable[[memoryview], int]


class Answers:
    """The files of one transfer as their bytes come in, for all of its threads. `copies` is as in download."""

    def __init__(
        self, ingest: Ingest, schedule: Schedule, limits: Limits, origin_name: str, copies: Mapping[int, str]
    ) -> None:
        self._ingest = ingest
        self._schedule = schedule
        self._limits = limits
        self._origin_name = origin_name
        self._copies = copies
        self._opened: list[IncomingFile] = []

    def close(self) -> None:
        """Close the files that were opened."""
        for incoming in self._opened:
            incoming.close()

    def prepare(self, state: FileState, lane: Lane) -> Piece | None:
        """Find out what of a file is here already; return the piece of a small file that is not."""
        ingest, index = self._ingest, state.index
        if index in self._copies and self._adopt(state, lane):
            return None
        believed, state.running = ingest.rehash(
            index, lane.scratch, lane.check, lambda length: self._schedule.found(state, length)
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

    def take_range(self, request: Request, connection: Connection, head: Head, lane: Lane) -> None:
        """Take a range of a large file into its piece's buffer, and keep the piece when that is full."""
        piece, state = request.piece, request.piece.state
        start, length = piece.start + piece.filled, connection.body_length()
        carried = judge_range(start, piece.end, state.file.size_bytes, head.headers, length)
        if isinstance(carried, Retry):
            raise WireError(carried.why)
        if isinstance(carried, Restart) or not _is_same_entity(request, head):
            connection.close()
            self.start_again(state, CHANGED, piece)
            return
        self._schedule.answered(state)
        buffer = piece.buffer
        if buffer is None:
            raise WireError("a piece that is not wanted any more was answered")
        before = piece.filled
        wanted = carried.end - carried.start
        with lane.interruptible():
            connection.receive_some(
                buffer[before : before + wanted], lambda count: self._schedule.arrived(piece, before + count)
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

    def take_whole(self, piece: Piece, connection: Connection, head: Head) -> None:
        """The origin sent the whole file where a range was asked for: fine at first, a fault in the middle."""
        state = piece.state
        if not self._schedule.read_whole(piece):
            connection.close()
            raise WireError("the whole file was sent where a range was asked for")
        length, receive = self._uncoded(state, connection, head)
        if length not in (None, state.file.size_bytes):
            connection.close()
            self.start_again(state, RESIZED, piece)
            return
        if not self._schedule.begin_use(piece):
            connection.close()
            return
        complete = False
        try:
            over = self._stream(piece, receive)
            complete = True
        except CodingError as error:
            connection.close()
            raise WireError(str(error)) from error
        finally:
            self._schedule.end_whole(piece, complete)
        if over:
            connection.close()
            self.start_again(state, LONGER, None)
        else:
            self._complete(state)

    def take_small(self, piece: Piece, connection: Connection, head: Head, scratch: memoryview) -> None:
        """Take a small file, verify it and write it."""
        state, size = piece.state, piece.state.file.size_bytes
        length, receive = self._uncoded(state, connection, head)
        if length not in (None, size):
            connection.close()
            # Its size is not told: who named the origin need not be one who may know.
            self.start_again(state, RESIZED, piece)
            return
        try:
            complete = receive(scratch[:size]) == size and not receive(memoryview(bytearray(1)))
        except CodingError as error:
            connection.close()
            raise WireError(str(error)) from error
        if not complete:
            connection.close()
            self.start_again(state, RESIZED, piece)
            return
        running = new_checksum(state.file)
        running.update(scratch[:size])
        digest = running.hexdigest()
        if not matches(state.file, digest):
            self.start_again(state, MISMATCH, piece)
            return
        self._ingest.write_small(state.index, scratch[:size], digest)
        self._schedule.completed(state)

    def start_again(self, state: FileState, restart: Restart, piece: Piece | None) -> None:
        """Fetch a file again from its first byte, or give up: raises Corrupt. `piece` is the one that showed why."""
        restarts = self._schedule.restart(state, piece)
        verdict = next_start(f"{self._origin_name}: {state.name}", restart, restarts, self._limits)
        if isinstance(verdict, GiveUp):
            raise verdict.error

    def _adopt(self, state: FileState, lane: Lane) -> bool:
        """Take a file from where the node has it already; False when that is not what it should be."""

        def check() -> None:
            lane.check()
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
                Reason.CHECKSUM_MISMATCH,
                f"{self._origin_name}: {state.name} is empty but should not be by its checksum",
            )
        else:
            self._ingest.write_small(state.index, memoryview(b""), new_checksum(state.file).hexdigest())
        self._schedule.completed(state)

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
            _advance(state, following.buffer, following.end)
            schedule.hashed(following)
            hashed = following.end
        # By what this thread has hashed: the frontier may have been moved to the end by another one by now.
        if hashed == state.file.size_bytes:
            self._complete(state)

    def _complete(self, state: FileState) -> None:
        if matches(state.file, state.running.hexdigest()):
            if state.incoming:
                state.incoming.finish()
            self._schedule.completed(state)
        else:
            self.start_again(state, MISMATCH, None)

    def _uncoded(self, state: FileState, connection: Connection, head: Head) -> tuple[int | None, _Receive]:
        """The length that a whole body says of itself and how to receive it, without a coding that nobody wanted."""
        length = connection.body_length()
        coding = coding_of_whole(head.headers, length, state.file.size_bytes)
        if not coding:
            return length, connection.receive
        return None, Decoded(coding, connection.receive, state.file.size_bytes).receive

    def _stream(self, piece: Piece, receive: _Receive) -> bool:
        """Take a whole body, passing over what is verified already; return whether it is too long."""
        state, buffer, incoming = piece.state, piece.buffer, piece.state.incoming
        if buffer is None or incoming is None:
            raise AssertionError(f"{state.name}: read without a buffer")
        position, size, step = 0, state.file.size_bytes, self._limits.range_bytes
        piece.filled = 0
        while position < size:
            known = position < state.frontier
            end = min(position + step, state.frontier if known else size)
            if receive(buffer[: end - position]) != end - position:
                raise WireError("the body ended early")
            if not known:
                incoming.write(position, buffer, end - position)
                _advance(state, buffer, end)
                self._schedule.advanced(state, end)
                piece.progressed()
            position = end
        return receive(buffer[:1]) > 0


def _advance(state: FileState, buffer: memoryview | None, end: int) -> None:
    if buffer is None or state.incoming is None:
        raise AssertionError(f"{state.name}: a piece without bytes reached the checksum")
    state.running.update(buffer[: end - state.frontier])
    state.incoming.record(end, state.running.hexdigest())


def _is_same_entity(request: Request, head: Head) -> bool:
    tag = head.headers.get("etag", "")
    if not tag or tag.startswith("W/"):
        return True
    # Replicas behind different hosts need not agree on their tags.
    return request.piece.state.entity_tags.setdefault(request.endpoint, tag) == tag
