"""Server-sent events: messages that a browser is sent for as long as its page is open.

Owns their form on the wire, and when a reader is given up. What is sent is decided by those who yield it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

# A reader that takes no message for so long is gone, or will be sent everything when it connects again.
_SLOW_READER_SECONDS = 60.0
_HEADERS = {
    "Cache-Control": "no-store",
    # Proxies that gather what they pass on would hold messages back.
    "X-Accel-Buffering": "no",
}


class EventStream(StreamingResponse):
    """An answer that goes on."""

    def __init__(self, messages: AsyncGenerator[str, None]) -> None:
        super().__init__(messages, headers=_HEADERS, media_type="text/event-stream")
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the messages or the reader end."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(_SLOW_READER_SECONDS):
                await send(message)

        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)
        finally:
            # What they hold would be given back only when they are collected otherwise.
            await self._messages.aclose()


def event(name: str, text: str) -> str:
    """A message. No text can end it early, nor become another."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


def json_event(name: str, content: Any) -> str:
    """A message of JSON."""
    return event(name, json.dumps(content, separators=(",", ":")))


# What keeps proxies from taking a connection for dead.
SIGN_OF_LIFE = ": \n\n"
