"""The keyed queue: one key once at a time, nothing lost, growing delays."""

import asyncio

import pytest
from structlog.testing import capture_logs

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Unavailable
from libs.chassis.work import KeyedQueue


async def drain(queue: KeyedQueue[str], done: asyncio.Event, reconcile: object, workers: int = 4) -> None:
    task = asyncio.ensure_future(queue.run(reconcile, workers))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            await done.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_key_that_is_added_while_it_is_worked_on_is_worked_on_once_more() -> None:
    queue: KeyedQueue[str] = KeyedQueue("test")
    done, running, calls = asyncio.Event(), 0, 0

    async def reconcile(key: str) -> None:
        nonlocal running, calls
        running += 1
        calls += 1
        assert running == 1
        if calls == 1:
            for _ in range(3):
                queue.add(key)
            await asyncio.sleep(0)
        running -= 1
        if calls == 2:
            done.set()

    queue.add("a")
    queue.add("a")
    await drain(queue, done, reconcile)
    assert calls == 2


@pytest.mark.parametrize("error", [Unavailable(Reason.UNAVAILABLE, "away"), ZeroDivisionError()])
async def test_reconcile_that_raises_is_tried_again_and_stops_no_other_key(error: Exception) -> None:
    queue: KeyedQueue[str] = KeyedQueue("test")
    done, seen = asyncio.Event(), []

    async def reconcile(key: str) -> None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 3:
            raise error
        if seen.count("bad") == 3:
            done.set()

    queue.add("bad")
    queue.add("good")
    await drain(queue, done, reconcile, workers=1)
    assert seen[:2] == ["bad", "good"]


async def test_earlier_appointment_wins_over_a_later_one() -> None:
    queue: KeyedQueue[str] = KeyedQueue("test")
    done, calls = asyncio.Event(), 0

    async def reconcile(key: str) -> None:
        nonlocal calls
        calls += 1
        done.set()

    queue.add_later("a", 3600)
    queue.add_later("a", 0.01)
    queue.add_later("a", 3600)
    await drain(queue, done, reconcile)
    assert calls == 1


async def test_returned_delay_brings_the_key_back() -> None:
    queue: KeyedQueue[str] = KeyedQueue("test")
    done, calls = asyncio.Event(), 0

    async def reconcile(key: str) -> float | None:
        nonlocal calls
        calls += 1
        if calls == 2:
            done.set()
            return None
        return 0.01

    queue.add("a")
    await drain(queue, done, reconcile)


async def test_conflict_is_said_only_when_it_lasts() -> None:
    queue: KeyedQueue[str] = KeyedQueue("test", max_backoff_seconds=0.01)
    done, calls = asyncio.Event(), 0

    async def reconcile(key: str) -> None:
        nonlocal calls
        calls += 1
        if calls < 6:
            raise Conflict(Reason.CONFLICT, "somebody else was faster")
        done.set()

    queue.add("a")
    with capture_logs() as said:
        await drain(queue, done, reconcile)
    assert [entry["event"] for entry in said] == ["reconcile_failed", "reconcile_failed"]
