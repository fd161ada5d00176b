"""What one thread of a transfer has for itself: connections, the right to them, requests that are not answered yet.

Knows when a connection is given to others. Must not decide what is asked for.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.fetcher.transfer.addresses import Endpoint
from services.fetcher.transfer.buffers import aligned_buffer
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.pieces import FileState, Piece
from services.fetcher.transfer.seating import Seat
from services.fetcher.transfer.sharing import Sharing
from services.fetcher.transfer.wire import Connection, Watch


class RecalledError(Exception):
    """Another transfer has none of the origin's connections and is due this one, although it is in use."""


@dataclass
class Request:
    """A request on the wire."""

    piece: Piece
    location: Location
    endpoint: Endpoint
    redirected: bool


class Lane:
    """Used by one thread. `check` raises when the transfer is to end; seats are taken on behalf of `user`.

    `give_back` takes work that others may do meanwhile; who pipelines nothing has none.
    """

    def __init__(
        self,
        number: int,
        limits: Limits,
        sharing: Sharing,
        user: Hashable,
        check: Callable[[], None],
        egress: Rule,
        give_back: Callable[[Piece | FileState], None] | None = None,
    ) -> None:
        self.number = number
        # Memory for small files, and for what is read from the disk.
        self.scratch = aligned_buffer(limits.range_bytes, whole=False)
        self.outstanding: deque[Request] = deque()
        # The one whose answer is read now; it stays among the outstanding ones until its head has come.
        self.answering: Request | None = None
        # Work that was taken and has to wait until the outstanding requests are answered.
        self.next_work: Piece | FileState | None = None
        # Where there was no seat for the last piece that was taken.
        self.crowded: Endpoint | None = None
        self.connections: dict[Endpoint, Connection] = {}
        # The right to each of them, and to one that is about to be opened.
        self.seats: dict[Endpoint, Seat] = {}
        # Endpoints that close connections on which requests are pipelined.
        self._unpipelined: set[Endpoint] = set()
        # What the thread waits for can be asked for again without losing anything.
        self._interruptible = False
        self._limits = limits
        self._sharing = sharing
        self._user = user
        self._check = check
        self._give_back = give_back
        self._egress = egress
        self._watch = Watch(
            self.check,
            limits.connect_seconds,
            limits.stall_seconds,
            limits.stall_bytes,
            self._allow if sharing.throttles else None,
            self._let_overtake,
        )

    def check(self) -> None:
        """Look at what may end or interrupt the thread, whatever it waits for. Raises RecalledError among others."""
        self._check()
        if self._sharing.recalls:
            self._heed_recalls()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """In the block, what is under way may be broken off for another transfer that has no connection."""
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def sit(self, endpoint: Endpoint) -> bool:
        """Whether the lane may hold a connection to an endpoint; its other connections rest then."""
        if endpoint not in self.seats:
            seat = self._sharing.take_seat(self._user, endpoint)
            if seat is None:
                self.crowded = endpoint
                return False
            self.seats[endpoint] = seat
        self.rest(busy=endpoint)
        return True

    def await_seat(self, endpoint: Endpoint) -> bool:
        """Wait a moment for a seat; whether there is one now."""
        self.crowded = None
        self.rest()
        seat = self._sharing.wait_for_seat(self._user, endpoint, self.check)
        if seat:
            self.seats[endpoint] = seat
        return seat is not None

    def rest(self, busy: Endpoint | None = None) -> None:
        """Nothing is wanted of the connections but one: they may be taken back."""
        for endpoint, seat in self.seats.items():
            seat.idle = endpoint != busy

    def due(self) -> list[Endpoint]:
        """Where others wait for a seat that has been worth its connection: one taken back before helps nobody."""
        return [each for each, seat in self.seats.items() if seat.recalled and self._answers(each) > 0]

    def connect(self, endpoint: Endpoint) -> Connection:
        """The connection to an endpoint, opened if there is none. Raises what opening one raises."""
        connection = self.connections.get(endpoint)
        if connection is None:
            with self.interruptible():
                connection = self.connections[endpoint] = Connection(endpoint, self._watch, self._egress)
        return connection

    def leave(self, endpoint: Endpoint) -> None:
        """Close a connection and let others have it."""
        connection, seat = self.connections.pop(endpoint, None), self.seats.pop(endpoint, None)
        if connection:
            connection.close()
        if seat:
            self._sharing.leave_seat(endpoint, seat)

    def lose(self, endpoint: Endpoint) -> list[Piece]:
        """Give up a connection that is no use any more; return the pieces that were asked for and are not answered."""
        self.leave(endpoint)
        if self.outstanding:
            self._unpipelined.add(endpoint)
        return self.drop()

    def drop(self) -> list[Piece]:
        """Forget the outstanding requests and return their pieces."""
        pieces = [request.piece for request in self.outstanding]
        self.outstanding.clear()
        return pieces

    def fits(self, endpoint: Endpoint, state: FileState) -> bool:
        """Whether a request may follow the outstanding ones before they are answered."""
        same = endpoint in self.connections and self.outstanding[-1].endpoint == endpoint
        proven = self._answers(endpoint) > 0 and endpoint not in self._unpipelined
        return same and proven and not state.whole

    def depth(self, state: FileState) -> int:
        """How many requests one connection carries at once."""
        return self._limits.pipelined_ranges if state.large else self._limits.pipelined_files

    def _answers(self, endpoint: Endpoint) -> int:
        connection = self.connections.get(endpoint)
        return connection.answers if connection else 0

    def _allow(self, wanted: int) -> int:
        return self._sharing.allow(self._user, wanted, self.check)

    def _let_overtake(self, silent_seconds: float) -> None:
        if self._give_back is None or self.answering is None or silent_seconds < self._limits.overtake_seconds:
            return
        if self.next_work is not None:
            self._give_back(self.next_work)
            self.next_work = None
        for request in [each for each in self.outstanding if each is not self.answering]:
            # Answers come in the order of the requests: the connection is of no use after the one that is read.
            self.connections[request.endpoint].reusable = False
            self.outstanding.remove(request)
            self._give_back(request.piece)

    def _heed_recalls(self) -> None:
        # Idle seats are left; what is under way is broken off only when the other transfer cannot wait for its end.
        for endpoint, seat in tuple(self.seats.items()):
            if seat.recalled and seat.idle:
                self.leave(endpoint)
            elif seat.urgent and self._interruptible:
                raise RecalledError
