"""An answer that cannot be sent ends nothing but itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import nats.errors

from libs.artifact.names import OBSERVED, inbox_prefix, node_subject
from ome.fetch.v1.fetch_pb2 import NodeModelState, StateReply
from services.controller.gateway.door import Answer, Door

DEADLINE_SECONDS = 10
MESSAGE = SimpleNamespace(
    subject=node_subject("node-1", OBSERVED), reply=f"{inbox_prefix('node-1')}.1", data=b"", headers=None
)


class Nodes:
    """A connection that keeps no more than it does already, until it is back."""

    def __init__(self) -> None:
        self.take: Any = None
        self.refused = asyncio.Event()
        self.back = False
        self.answered = asyncio.Event()

    async def subscribe(self, subject: str, queue: str, cb: Any) -> None:
        self.take = cb

    async def publish(self, subject: str, value: bytes) -> None:
        if not self.back:
            self.refused.set()
            raise nats.errors.OutboundBufferLimitError
        self.answered.set()


async def opened(nodes: Nodes, store: Answer) -> asyncio.Future[None]:
    """A door that works, and answers what nodes say of their models by store."""
    door = Door(nodes)  # type: ignore[arg-type]
    working = asyncio.ensure_future(door.run())
    await door.open(OBSERVED, NodeModelState, StateReply, store, 1000)
    await asyncio.sleep(0)
    return working


async def test_the_gateway_goes_on_after_an_answer_that_cannot_be_sent() -> None:
    async def store(*_: object) -> StateReply:
        return StateReply()

    nodes = Nodes()
    working = await opened(nodes, store)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await nodes.take(MESSAGE)
        await nodes.refused.wait()
        nodes.back = True
        await nodes.take(MESSAGE)
        await nodes.answered.wait()
    assert not working.done()
    working.cancel()


async def test_a_message_that_comes_while_the_gateway_ends_goes_nowhere_and_harms_nothing() -> None:
    begun, ending, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def store(*_: object) -> StateReply:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await end.wait()
        raise AssertionError

    nodes = Nodes()
    working = await opened(nodes, store)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await nodes.take(MESSAGE)
        await begun.wait()
        working.cancel()
        await ending.wait()
        await nodes.take(MESSAGE)
        end.set()
        await asyncio.wait([working])
    await nodes.take(MESSAGE)
    assert working.cancelled()
    assert not nodes.refused.is_set()
