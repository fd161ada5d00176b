"""Ends TLS handshakes that do not get on, and keeps those under way from being too many.

asyncio knows a connection only when its handshake is done, and gives each a minute: until then nothing else counts it.
When there are too many, the oldest is ended, as a browser is done within moments.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import Any


class Doorway(socket.socket):
    """A listening socket that knows which of the connections it has accepted have finished no handshake."""

    def __init__(self, listener: socket.socket, patience_seconds: float, most: int) -> None:
        """Take a listener over."""
        super().__init__(listener.family, listener.type, listener.proto, listener.detach())
        self._patience_seconds = patience_seconds
        self._most = most
        self._beginning: OrderedDict[int, tuple[socket.socket, asyncio.TimerHandle]] = OrderedDict()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, whose handshake is awaited from now on; for asyncio, in its loop."""
        connection, address = super().accept()
        number = connection.fileno()
        # A number is given anew when what had it is closed.
        self._forget(number)
        while len(self._beginning) >= self._most:
            self._end(next(iter(self._beginning)))
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, self._end, number)
        self._beginning[number] = connection, timer
        return connection, address

    def entered(self, number: int) -> None:
        """The handshake of a connection is done, by the number of its file descriptor."""
        self._forget(number)

    def close(self) -> None:
        """Stop listening. Connections are others' matter."""
        for number in tuple(self._beginning):
            self._forget(number)
        super().close()

    def _forget(self, number: int) -> None:
        if number in self._beginning:
            self._beginning.pop(number)[1].cancel()

    def _end(self, number: int) -> None:
        connection, timer = self._beginning.pop(number)
        timer.cancel()
        # asyncio sees an end of the stream and closes it; what is closed already is gone.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
