"""How loops end."""

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from libs.artifact.reasons import Reason
from libs.chassis import tasks
from libs.chassis.errors import Conflict
from libs.chassis.tasks import keep_cancellations, run_pipelined, run_until


async def test_a_cancellation_that_comes_with_an_answer_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "wait_for", asyncio.wait_for)
    keep_cancellations()
    answer = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(asyncio.wait_for(answer, 10))
    await asyncio.sleep(0)

    answer.set_result("in the same moment")
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_an_answer_is_waited_for_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "wait_for", asyncio.wait_for)
    keep_cancellations()
    loop = asyncio.get_running_loop()
    there, silent = loop.create_future(), loop.create_future()
    there.set_result(1)

    assert await asyncio.wait_for(there, 0) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(silent, 0.01)
    assert silent.cancelled()


async def test_the_log_says_what_a_stop_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LATE_SECONDS", 0.05)
    stop, released = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()

    stop.set()
    with capture_logs() as logs:
        running = asyncio.create_task(run_until(stop, stubborn()))
        while not logs:
            await asyncio.sleep(0.01)
        released.set()
        await running

    assert [entry["event"] for entry in logs] == ["stop_is_late"]
    assert any("stubborn" in place for place in logs[0]["waits_for"])


async def test_a_loop_that_fails_while_it_ends_is_told() -> None:
    stop = asyncio.Event()

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the disk is gone")

    stop.set()
    with pytest.raises(OSError, match="the disk is gone"):
        await run_until(stop, clumsy())


async def test_pipelined_steps_run_so_many_at_a_time() -> None:
    running, most, gate = 0, 0, asyncio.Event()

    async def step() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            gate.set()
        await gate.wait()
        running -= 1

    await run_pipelined([step] * 10, in_flight=3)
    assert (most, running) == (3, 0)


async def test_after_a_failure_no_pipelined_step_begins_and_those_under_way_end() -> None:
    done: list[int] = []
    failed = asyncio.Event()

    async def step(number: int) -> None:
        if number == 1:
            failed.set()
            raise Conflict(Reason.CONFLICT, "somebody else was faster")
        await failed.wait()
        await asyncio.sleep(0)
        done.append(number)

    with pytest.raises(Conflict):
        await run_pipelined([partial(step, number) for number in range(10)], in_flight=2)
    assert done == [0]
