"""Messages that come while their answerer ends, over a connection that the test holds."""

import asyncio
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from libs.chassis.nats_answering import answer_each


class Connection:
    """Takes one subscription, and says what became of it."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.take: Any = None
        self.is_closed = is_closed
        self.is_subscribed = asyncio.Event()
        self.asked: tuple[str, str] = ("", "")

    async def subscribe(self, subject: str, queue: str, cb: Any) -> "Connection":
        self.asked, self.take = (subject, queue), cb
        self.is_subscribed.set()
        return self

    async def unsubscribe(self) -> None:
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        self.is_subscribed.clear()


def message(data: bytes) -> Any:
    return SimpleNamespace(data=data)


async def test_messages_are_answered_side_by_side_until_the_end_and_none_after_it() -> None:
    connection, answered, ended = Connection(), list[bytes](), asyncio.Event()

    async def answer(msg: Msg) -> None:
        answered.append(msg.data)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            await connection.take(message(b"while it ends"))

    running = asyncio.ensure_future(answer_each(connection, "subject", "queue", answer))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await connection.is_subscribed.wait()
        await connection.take(message(b"one"))
        await connection.take(message(b"two"))
        while len(answered) < 2:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    await connection.take(message(b"after the end"))
    assert running.cancelled()
    assert (connection.asked, answered) == (("subject", "queue"), [b"one", b"two"])
    assert ended.is_set()
    assert not connection.is_subscribed.is_set(), "others of the queue would not be asked"


async def test_a_connection_that_is_closed_already_ends_it_as_well() -> None:
    connection = Connection(is_closed=True)

    async def answer(_: Msg) -> None:
        raise AssertionError

    running = asyncio.ensure_future(answer_each(connection, "subject", "queue", answer))  # type: ignore[arg-type]
    await asyncio.wait_for(connection.is_subscribed.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
