"""Hears everything that is said over NATS in the services' account, and reads everything that JetStream keeps."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tests.support.nats_server import connect_trusting


@dataclass
class Heard:
    """Subject and content of every message, in order."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)

    def subjects_of(self, needle: bytes) -> set[str]:
        """Subjects of the messages that hold some bytes."""
        return {subject for subject, content in self.messages if needle in content}


@contextmanager
def eavesdropping(authority: Path, url: str, user: str, password: str) -> Iterator[Heard]:
    """Listen from a thread of its own; user must be one who may hear everything."""
    heard, stop, begun = Heard(), threading.Event(), threading.Event()

    async def take(message: Msg) -> None:
        heard.messages.append((message.subject, _content(message.headers, message.data)))

    async def listen() -> None:
        client = await connect_trusting(authority, url, user=user, password=password)
        await client.subscribe(">", cb=take)
        await client.flush()
        begun.set()
        await asyncio.to_thread(stop.wait)
        await client.drain()

    thread = threading.Thread(target=lambda: asyncio.run(listen()), name="eavesdropper")
    thread.start()
    try:
        assert begun.wait(10), "NATS does not let anybody listen"
        yield heard
    finally:
        stop.set()
        thread.join()


def stored_messages(authority: Path, url: str, user: str, password: str) -> dict[str, list[tuple[str, bytes]]]:
    """Subject and content of every message that is stored, by stream."""

    async def read() -> dict[str, list[tuple[str, bytes]]]:
        client = await connect_trusting(authority, url, user=user, password=password)
        try:
            js = client.jetstream()
            return {
                info.config.name
                or "": await _messages(js, info.config.name or "", info.state.first_seq, info.state.last_seq)
                for info in await js.streams_info()
            }
        finally:
            await client.close()

    return asyncio.run(read())


async def _messages(js: JetStreamContext, stream: str, first: int, last: int) -> list[tuple[str, bytes]]:
    found = []
    for sequence in range(first, last + 1):
        try:
            message = await js.get_msg(stream, sequence)
        except nats.js.errors.NotFoundError:
            continue
        found.append((message.subject or "", _content(message.headers, message.data or b"")))
    return found


def _content(headers: Mapping[str, str] | None, data: bytes) -> bytes:
    return repr(sorted((headers or {}).items())).encode() + data
