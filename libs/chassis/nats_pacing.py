"""Decides how often a connection to NATS is written to: at once after a pause, and every few milliseconds while busy.

A write costs a record of TLS, a system call here and another one in the server, however little it says. Messages that
follow each other closely go together; one that comes alone waits for nothing. Must not know what is sent.
"""

import asyncio
from collections.abc import Callable

# What a message waits at the most because another went before it. Nobody sees so little; a busy gateway sends twenty
# messages in that time.
_GATHER_SECONDS = 0.004


class PacedFlushes(asyncio.Queue["asyncio.Future[None]"]):
    """The queue by which nats-py wakes its flusher.

    A wish stays in the queue until its time has come, so that whoever publishes meanwhile sees that somebody has asked.
    """

    def __init__(self, gather: Callable[[], None], gather_seconds: float = _GATHER_SECONDS) -> None:
        """gather is called right before each flush."""
        super().__init__()
        self._gather = gather
        self._gather_seconds = gather_seconds
        self._due = 0.0

    async def get(self) -> "asyncio.Future[None]":
        """The next wish to flush, which is due now."""
        loop = asyncio.get_running_loop()
        wish = await super().get()
        if (remaining := self._due - loop.time()) > 0:
            self.put_nowait(wish)
            await asyncio.sleep(remaining)
            wish = await super().get()
        self._due = loop.time() + self._gather_seconds
        self._gather()
        return wish
