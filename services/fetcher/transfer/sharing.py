"""What the transfers of a node share: bandwidth, connections to each origin, and the pauses that origins ask for.

Threads of all transfers meet here. Must not do network I/O, nor know of files.
"""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from libs.artifact.reasons import Reason
from services.fetcher import metrics
from services.fetcher.transfer.addresses import Endpoint
from services.fetcher.transfer.seating import Seat, Table
from services.fetcher.transfer.token_bucket import TokenBucket

# Whoever waits looks at its stop flag this often.
_TICK_SECONDS = 0.25

Check = Callable[[], None]


class Clock:
    """The passing of time, as far as the bandwidth limit is concerned."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Wait for a notification, at most so long."""
        changed.wait(seconds)


@dataclass(frozen=True)
class Pause:
    """Until when, on the monotonic clock, an origin wants to be left alone, and the reason of its answer."""

    until: float = 0.0
    reason: Reason = Reason.UNAVAILABLE


class Sharing:
    """The limits of a node; one instance per process. Without figures nothing is limited."""

    def __init__(
        self, bytes_per_second: float = 0, connections_per_origin: int = 0, clock: Clock | None = None
    ) -> None:
        self._clock = clock or Clock()
        # Two locks: whoever waits for bytes may have to give a seat back meanwhile.
        self._served = threading.Condition()
        self._bucket = TokenBucket(bytes_per_second, self._clock.now()) if bytes_per_second else None
        self._seated = threading.Condition()
        self._limit = connections_per_origin or None
        self._tables: dict[Endpoint, Table] = {}
        self._pauses: dict[Endpoint, Pause] = {}
        # Seats that should be given back. Read without the lock, for each receive.
        self.recalls = 0

    @property
    def throttles(self) -> bool:
        """Whether there is a bandwidth limit, so that allow has to be asked."""
        return self._bucket is not None

    def forget(self, user: Hashable) -> None:
        """A transfer has ended and left its seats."""
        with self._served:
            if self._bucket:
                self._bucket.forget(user)
        with self._seated:
            for table in self._tables.values():
                table.forget(user)

    def allow(self, user: Hashable, wanted: int, check: Check) -> int:
        """Wait for a transfer's turn to receive bytes; return how many it may, at least one and at most wanted.

        check is called while waiting and may raise.
        """
        bucket = self._bucket
        if bucket is None:
            return wanted
        began = self._clock.now()
        with self._served:
            portion = bucket.ask(user, wanted)
            try:
                while not portion.granted:
                    if bucket.serve(self._clock.now()):
                        # Whoever was served need not wait for its own look at the clock.
                        self._served.notify_all()
                    else:
                        check()
                        self._clock.wait(self._served, min(bucket.seconds_to_next(), _TICK_SECONDS))
            except BaseException:
                bucket.withdraw(portion)
                raise
        metrics.THROTTLED_SECONDS.inc(self._clock.now() - began)
        return portion.count

    def take_seat(self, user: Hashable, endpoint: Endpoint) -> Seat | None:
        """The right to open a connection, or None when others have it; leave_seat gives it back."""
        with self._seated:
            seat = self._table(endpoint).take(user)
            self._tell(endpoint)
            return seat

    def wait_for_seat(self, user: Hashable, endpoint: Endpoint, check: Check) -> Seat | None:
        """Wait a moment for the right to open a connection, and have others give one back if it is due."""
        with self._seated:
            table = self._table(endpoint)
            table.begin_wait(user)
            try:
                until = time.monotonic() + _TICK_SECONDS
                while (seat := table.take(user)) is None and (left := until - time.monotonic()) > 0:
                    self.recalls += table.recall(user) is not None
                    check()
                    self._seated.wait(left)
                return seat
            finally:
                table.end_wait(user)
                self._tell(endpoint)

    def leave_seat(self, endpoint: Endpoint, seat: Seat) -> None:
        """The connection is closed."""
        with self._seated:
            self._tables[endpoint].leave(seat)
            self.recalls -= seat.recalled
            self._tell(endpoint)
            self._seated.notify_all()

    def pause(self, endpoint: Endpoint, pause: Pause) -> None:
        """An origin asks to be left alone, by whichever transfer it has said so to."""
        with self._seated:
            now = time.monotonic()
            self._pauses = {each: known for each, known in self._pauses.items() if known.until > now}
            if pause.until > self.pause_of(endpoint).until:
                self._pauses[endpoint] = pause

    def pause_of(self, endpoint: Endpoint) -> Pause:
        """The last pause that an origin has asked for; it may be over."""
        return self._pauses.get(endpoint, Pause())

    def _table(self, endpoint: Endpoint) -> Table:
        return self._tables.setdefault(endpoint, Table(self._limit))

    def _tell(self, endpoint: Endpoint) -> None:
        table = self._tables[endpoint]
        metrics.ORIGIN_CONNECTIONS.labels(origin=str(endpoint)).set(len(table))
        if table.deserted:
            # Signed addresses may lead to another host each time: what was used once is not kept for ever.
            del self._tables[endpoint]
            metrics.ORIGIN_CONNECTIONS.remove(str(endpoint))
