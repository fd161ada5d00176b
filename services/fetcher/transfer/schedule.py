"""Which piece of a transfer is asked for next, in what order bytes are hashed, and when the transfer is over.

All threads of one transfer meet here. Must not do network I/O.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from libs.artifact.manifest import Manifest
from services.fetcher.store.checksums import new_checksum
from services.fetcher.transfer.buffers import BufferPool
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.progress import OpenFile
from services.fetcher.transfer.ranges import next_range

# A thread that waits for work looks at the stop flag this often.
_TICK_SECONDS = 0.25


class Schedule:
    """The state of one transfer, guarded by one lock."""

    def __init__(self, manifest: Manifest, done: Iterable[int], limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._pool = BufferPool(limits.buffers, limits.range_bytes)
        already = set(done)
        self._files = manifest.files
        # Indexes, not states: memory must not grow with the number of files.
        left = [index for index in range(len(self._files)) if index not in already]
        self._small = deque(index for index in left if self._files[index].size_bytes <= limits.range_bytes)
        self._large = deque(index for index in left if self._files[index].size_bytes > limits.range_bytes)
        self._preparing: list[FileState] = []
        self._active: list[FileState] = []
        self._small_out = 0
        self._again: list[Piece] = []
        self.files_done = len(already)
        self._bytes_done = sum(manifest.files[index].size_bytes for index in already)
        self._bytes_found = self._bytes_done
        self.last_byte_at = time.monotonic()

    def take(self, number: int, wait: bool, check: Callable[[], None]) -> Piece | FileState | None:
        """The next work for a thread: a piece to ask for, or a file to prepare.

        None when there is nothing to do now; with wait, only when everything is done. check is called while waiting and
        may raise. One thread prefers small files
        and the others large ones, so that neither sort waits for the other.
        """
        with self._changed:
            while True:
                check()
                now = time.monotonic()
                work = self._due(now) or self._next(number)
                if work is not None or not wait or self._finished():
                    return work
                earliest = min((piece.not_before for piece in self._again), default=now + _TICK_SECONDS)
                self._changed.wait(min(max(earliest - now, 0.001), _TICK_SECONDS))

    def prepared(self, state: FileState) -> None:
        """A file that take has handed out is ready for pieces, or complete when its frontier is its end."""
        with self._changed:
            self._preparing.remove(state)
            state.issued = state.frontier
            self._active.append(state)
            self._changed.notify_all()

    def small_piece(self, state: FileState) -> Piece:
        """The one piece of a small file that take has handed out and that has to be fetched."""
        return Piece(state, 0, state.file.size_bytes)

    def completed(self, state: FileState) -> None:
        """A file is verified and in place."""
        with self._changed:
            if state.large:
                self._active.remove(state)
            else:
                self._small_out -= 1
            self.files_done += 1
            self._bytes_done += state.file.size_bytes
            self._bytes_found += state.found
            self.last_byte_at = time.monotonic()
            self._changed.notify_all()

    def put_back(self, piece: Piece, not_before: float = 0.0) -> None:
        """A piece has to be asked for again, not before a moment of the monotonic clock."""
        with self._changed:
            if self._is_stale(piece):
                self._release(piece)
            else:
                piece.not_before = not_before
                self._again.append(piece)
            self._changed.notify_all()

    def give_back(self, work: Piece | FileState) -> None:
        """The counterpart of take: the work was not begun and is for another thread."""
        if isinstance(work, Piece):
            self.put_back(work)
            return
        with self._changed:
            if work.large:
                self._preparing.remove(work)
                self._large.appendleft(work.index)
            else:
                self._small_out -= 1
                self._small.appendleft(work.index)
            self._changed.notify_all()

    def held_back(self, until: float = 0.0) -> None:
        """That nothing comes is no silence of the origin: not now, nor until a moment of the monotonic clock."""
        self.last_byte_at = max(time.monotonic(), until)

    def answered(self, state: FileState) -> None:
        """The origin serves ranges of a file: more may be asked for."""
        if not state.answered:
            with self._changed:
                state.answered = True
                self._changed.notify_all()

    def read_whole(self, piece: Piece) -> bool:
        """Turn a piece into the one that reads its file in one go; False if it is stale or others are out already."""
        state = piece.state
        with self._changed:
            if self._is_stale(piece) or (state.answered and not state.whole):
                return False
            state.whole = True
            state.issued = piece.end = state.file.size_bytes
            return True

    def begin_use(self, piece: Piece) -> bool:
        """Announce that a piece's bytes are written or hashed now; False when they are not wanted any more."""
        with self._changed:
            if self._is_stale(piece):
                self._release(piece)
                return False
            piece.state.busy += 1
            return True

    def end_use(self, piece: Piece) -> bool:
        """The piece was written. True when the caller must now hash what is ready, by next_to_hash."""
        state = piece.state
        with self._changed:
            self._leave(state)
            if self._is_stale(piece):
                self._release(piece)
                return False
            state.ready[piece.start] = piece
            if state.hashing:
                return False
            state.hashing = True
            state.busy += 1
            return True

    def next_to_hash(self, state: FileState) -> Piece | None:
        """The piece at the frontier; None ends the caller's turn, and another thread may begin one."""
        with self._changed:
            piece = None if state.restarting else state.ready.pop(state.frontier, None)
            if piece is None:
                state.hashing = False
                self._leave(state)
            return piece

    def hashed(self, piece: Piece) -> None:
        """The frontier passes a piece."""
        with self._changed:
            piece.state.frontier = piece.end
            self._release(piece)
            self.last_byte_at = time.monotonic()

    def advanced(self, state: FileState, frontier: int) -> None:
        """The frontier of a file that is read in one go."""
        with self._changed:
            state.frontier = frontier
            self.last_byte_at = time.monotonic()

    def found(self, state: FileState, frontier: int) -> None:
        """So much of a file is on the node already, as hashing it has shown."""
        with self._changed:
            state.frontier = state.found = frontier
            self.last_byte_at = time.monotonic()

    def arrived(self, piece: Piece, filled: int) -> None:
        """So many bytes of a piece are in its buffer. Called for every receive: takes no lock."""
        piece.filled = filled
        self.last_byte_at = time.monotonic()

    def restart(self, state: FileState, piece: Piece | None) -> int:
        """Start a file again from nothing, once no thread uses it; return how often that has happened.

        piece is the one whose answer showed the need, if any; it is given up.
        """
        with self._changed:
            if not state.large:
                state.restarts += 1
                self._again.extend([piece] if piece else [])
                return state.restarts
            if piece:
                stale = self._is_stale(piece)
                self._release(piece)
                if stale:
                    return state.restarts
            if not state.restarting:
                state.restarts += 1
                state.restarting = True
                waiting = [other for other in self._again if other.state is state]
                self._again = [other for other in self._again if other.state is not state]
                for other in (*waiting, *state.ready.values()):
                    self._release(other)
                state.ready.clear()
                self._leave(state, 0)
            return state.restarts

    def received(self) -> int:
        """Bytes of the artifact that are here, by the latest count."""
        with self._changed:
            return self._bytes_done + sum(state.received for state in self._active + self._preparing)

    def fetched(self) -> int:
        """Of the bytes received, those that this transfer has brought from the origin."""
        with self._changed:
            open_files = self._active + self._preparing
            found = self._bytes_found + sum(state.found for state in open_files)
            return self._bytes_done + sum(state.received for state in open_files) - found

    def open_files(self) -> list[OpenFile]:
        """The large files on their way: a small one is there within one answer."""
        with self._changed:
            return [
                OpenFile(state.name, state.file.size_bytes, state.received, state.found)
                for state in self._active + self._preparing
            ]

    def end_whole(self, piece: Piece, complete: bool) -> None:
        """The reading of a file in one go, begun by begin_use, has ended; its piece is done when that was complete."""
        with self._changed:
            self._leave(piece.state)
            if complete:
                self._release(piece)

    def close(self) -> None:
        """Free the buffers now, not when the garbage collector comes by."""
        with self._changed:
            self._pool.clear()

    def _due(self, now: float) -> Piece | None:
        for piece in self._again:
            if piece.not_before <= now:
                self._again.remove(piece)
                return piece
        return None

    def _next(self, number: int) -> Piece | FileState | None:
        if number == 0:
            return self._next_small() or self._next_large(number)
        return self._next_large(number) or self._next_small()

    def _next_small(self) -> FileState | None:
        if not self._small:
            return None
        self._small_out += 1
        index = self._small.popleft()
        return FileState(index, self._files[index], large=False)

    def _next_large(self, number: int) -> Piece | FileState | None:
        shift = number % max(len(self._active), 1)
        # One that stalls must not end up with every buffer: those behind its gap wait for it.
        others = len(self._active) > 1 or self._preparing or self._large
        most_pieces = self._limits.buffers // (self._limits.files_in_flight if others else 1)
        for state in self._active[shift:] + self._active[:shift]:
            size = state.file.size_bytes
            waits = state.restarting or (state.issued > state.frontier and not state.answered)
            if waits or state.issued >= size or len(state.pieces) >= most_pieces:
                continue
            buffer = self._pool.take()
            if buffer is None:
                return None
            start, end = next_range(state.issued, size, self._limits.range_bytes)
            state.issued = end
            piece = Piece(state, start, end, buffer)
            state.pieces.add(piece)
            return piece
        # A file whose last pieces are on their way leaves connections idle: the next one may begin.
        open_files = sum(1 for state in self._active if state.issued < state.file.size_bytes) + len(self._preparing)
        if self._large and open_files < self._limits.files_in_flight:
            index = self._large.popleft()
            state = FileState(index, self._files[index], large=True)
            self._preparing.append(state)
            return state
        return None

    def _finished(self) -> bool:
        return not (self._small or self._large or self._active or self._small_out or self._preparing)

    def _is_stale(self, piece: Piece) -> bool:
        return piece.state.large and (piece.state.restarting or piece not in piece.state.pieces)

    def _release(self, piece: Piece) -> None:
        piece.state.pieces.discard(piece)
        buffer, piece.buffer = piece.buffer, None
        if buffer is not None:
            self._pool.give_back(buffer)
        self._changed.notify_all()

    def _leave(self, state: FileState, users: int = 1) -> None:
        state.busy -= users
        if not state.restarting or state.busy:
            return
        if state.incoming:
            state.incoming.restart()
        state.running = new_checksum(state.file)
        state.frontier = state.issued = state.found = 0
        state.answered = state.whole = state.restarting = False
        state.redirect = None
        state.entity_tags.clear()
        # Pieces that are still on the wire belong to nobody now; their threads give the buffers back.
        state.pieces.clear()
        self._changed.notify_all()
