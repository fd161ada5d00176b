"""Heartbeats are stored together, the last of each node, and what goes wrong with some ends nothing."""

import asyncio
from collections.abc import AsyncIterator

import nats.errors
import pytest

from services.controller.gateway.heartbeats import Heartbeats

DEADLINE_SECONDS = 10


class Bus:
    """Takes what is published, unless it is full."""

    def __init__(self) -> None:
        self.published: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.full = False
        self.refused = asyncio.Event()

    async def publish(self, subject: str, value: bytes) -> None:
        if self.full:
            self.refused.set()
            raise nats.errors.OutboundBufferLimitError
        self.published.put_nowait((subject, value))

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.published.get()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
async def heartbeats(bus: Bus) -> AsyncIterator[Heartbeats]:
    heartbeats = Heartbeats(bus, gather_seconds=0.01)  # type: ignore[arg-type]
    running = asyncio.ensure_future(heartbeats.run())
    yield heartbeats
    running.cancel()


async def test_the_last_heartbeat_of_each_node_is_stored(bus: Bus, heartbeats: Heartbeats) -> None:
    heartbeats.put("node-1", b"first")
    heartbeats.put("node-2", b"other")
    heartbeats.put("node-1", b"second")
    stored = [await bus.next(), await bus.next()]
    assert [(subject.startswith("$KV.ome-nodes."), value) for subject, value in stored] == [
        (True, b"second"),
        (True, b"other"),
    ]
    assert stored[0][0] != stored[1][0]
    heartbeats.put("node-1", b"third")
    assert (await bus.next())[1] == b"third"
    assert bus.published.empty()


async def test_heartbeats_that_are_not_taken_are_followed_by_others(bus: Bus, heartbeats: Heartbeats) -> None:
    bus.full = True
    heartbeats.put("node-1", b"lost")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await bus.refused.wait()
    bus.full = False
    heartbeats.put("node-1", b"taken")
    assert (await bus.next())[1] == b"taken"
