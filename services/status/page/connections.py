"""Ends connections on which the other side leaves us waiting, and refuses those that are too many.

Anybody in the cluster network may connect, before showing a token: whoever sends half a request, or reads no answer,
must not keep a file descriptor of the process that also serves gRPC. uvicorn bounds only the pause between requests.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedConnection(H11Protocol):
    """A connection that gets on, or is aborted after once to twice the patience."""

    def __init__(
        self,
        *arguments: Any,
        patience_seconds: float,
        most_connections: int,
        entered: Callable[[int], None],
        **named: Any,
    ) -> None:
        """entered is called with the number of the file descriptor, once the handshake is done where there is one."""
        super().__init__(*arguments, **named)
        self._entered = entered
        self._patience_seconds = patience_seconds
        self._most_connections = most_connections
        self._steps = 0
        self._waited: tuple[str, int] | None = None
        self._look_again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        if (connection := transport.get_extra_info("socket")) is not None:
            self._entered(connection.fileno())
        if len(self.connections) > self._most_connections:
            # Those who are there keep what they have.
            transport.abort()
            return
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._look_again:
            self._look_again.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer was given, to the transport at least."""
        self._steps += 1
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The other side has read on."""
        self._steps += 1
        super().resume_writing()

    def _look(self) -> None:
        waits = self._waits_for()
        if waits and waits == self._waited:
            # Not close, which would wait for what is to be sent yet.
            self.transport.abort()
            return
        self._waited = waits
        self._look_again = self.loop.call_later(self._patience_seconds, self._look)

    def _waits_for(self) -> tuple[str, int] | None:
        """What only the other side can do now, and how far it had come before; None while it is our turn."""
        if self.flow.write_paused or self.transport.is_closing():
            return "reading", self._steps
        # There is none before the first request, whatever its type says.
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            return "request", self._steps
        return ("body", self._steps) if self.cycle.more_body else None
