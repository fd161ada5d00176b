"""The log of requests, by which a test proves what was downloaded. Must not hold anything secret."""

import threading
from collections import deque
from typing import Any

from tests.support.hub.wire import Connection, Request

# More than any test asks for, and a bound to the memory of a hub that runs for days.
_KEPT = 200_000


class Entry:
    """One request; changed while it is answered."""

    __slots__ = (
        "authorized",
        "bytes_sent",
        "connection",
        "fault",
        "method",
        "number",
        "path",
        "port",
        "range",
        "status",
        "user_agent",
    )

    def __init__(self, number: int, port: str, request: Request, connection: Connection) -> None:
        self.number = number
        self.port = port
        self.method = request.method
        self.path = request.path
        self.range = request.headers.get("range", "")
        self.authorized = "authorization" in request.headers
        self.connection = connection.number
        self.user_agent = request.headers.get("user-agent", "")
        self.status = 0
        self.bytes_sent = 0
        self.fault = ""

    def row(self) -> dict[str, Any]:
        """The entry as the admin API gives it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Journal:
    """Entries in the order in which requests arrived."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._count = 0

    def begin(self, port: str, request: Request, connection: Connection) -> Entry:
        """Note that a request has arrived."""
        with self._lock:
            self._count += 1
            entry = Entry(self._count, port, request, connection)
            self._entries.append(entry)
        return entry

    def rows(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        with self._lock:
            entries = list(self._entries)
        return [entry.row() for entry in entries]

    def forget(self) -> None:
        """Begin anew; requests that are in flight are forgotten as well."""
        with self._lock:
            self._entries.clear()
