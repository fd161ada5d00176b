"""How often a connection to NATS is written to."""

import asyncio

import pytest

from libs.chassis.nats_pacing import PacedFlushes


def _wish() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


def _nothing() -> None:
    pass


async def test_what_waits_is_gathered_before_each_flush() -> None:
    gathered: list[int] = []
    flushes = PacedFlushes(lambda: gathered.append(len(gathered)), gather_seconds=0.01)
    for number in range(3):
        flushes.put_nowait(_wish())
        async with asyncio.timeout(5):
            await flushes.get()
        assert gathered == list(range(number + 1))


async def test_the_first_flush_after_a_pause_waits_for_nothing() -> None:
    flushes = PacedFlushes(_nothing, gather_seconds=3600)
    flushes.put_nowait(wish := _wish())
    async with asyncio.timeout(5):
        assert await flushes.get() is wish


async def test_a_flush_that_follows_closely_waits_and_is_seen_to_be_asked_for_meanwhile() -> None:
    flushes, loop = PacedFlushes(_nothing, gather_seconds=0.05), asyncio.get_running_loop()
    flushes.put_nowait(_wish())
    await flushes.get()
    began = loop.time()
    flushes.put_nowait(wish := _wish())
    waiting = asyncio.ensure_future(flushes.get())
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    # Whoever publishes now need not ask again.
    assert not flushes.empty()
    async with asyncio.timeout(5):
        assert await waiting is wish
    assert loop.time() - began >= 0.04
    assert flushes.empty()


async def test_a_flusher_that_is_cancelled_leaves_the_wish_to_the_next_one() -> None:
    flushes = PacedFlushes(_nothing, gather_seconds=0.05)
    flushes.put_nowait(_wish())
    await flushes.get()
    flushes.put_nowait(wish := _wish())
    flusher = asyncio.ensure_future(flushes.get())
    await asyncio.wait([flusher], timeout=0.01)
    flusher.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flusher
    async with asyncio.timeout(5):
        assert await flushes.get() is wish
