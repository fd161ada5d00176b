"""A loop in a thread of its own holds a context open, and says what went wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tools.localcluster.loop_thread import LoopThread


async def test_a_context_is_held_until_it_is_stopped_and_the_loop_works_meanwhile() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        said.append("opened")
        try:
            yield 7
        finally:
            await asyncio.sleep(0)
            said.append("closed")

    async def answer() -> int:
        return 42

    servers = LoopThread("test", opened)
    assert not servers.is_open
    servers.start()
    assert (servers.held, servers.is_open, servers.is_alive) == (7, True, True)
    assert servers.call(answer()) == 42
    assert said == ["opened"]
    servers.stop()
    servers.stop()
    assert said == ["opened", "closed"]
    assert not servers.is_alive


async def test_what_goes_wrong_at_the_start_is_raised_to_who_starts() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        raise RuntimeError("no port is free")
        yield

    servers = LoopThread("test", opened)
    with pytest.raises(RuntimeError, match="no port is free"):
        servers.start()
    servers.stop()
    assert not servers.is_open


async def test_work_beside_the_context_ends_with_it() -> None:
    ended: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            await asyncio.sleep(0)
            yield

    servers = LoopThread("test", opened)
    servers.start()
    servers.stop()
    assert ended == [True]
