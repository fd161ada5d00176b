"""Running loops side by side until a stop event, and ending them in order."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

# After this the log says what a stop waits for; Kubernetes kills after 30 seconds.
_LATE_SECONDS = 5.0

_log = structlog.get_logger()

T = TypeVar("T")


async def run_until(stop: asyncio.Event, *loops: Coroutine[Any, Any, None]) -> None:
    """Run loops until stop is set, then cancel them and wait for their ends.

    A loop that raises or returns before that ends all of them; its exception is raised, as is one that a loop ends with
    when it is cancelled. The caller's resources are still open while the loops end.
    """
    tasks = [asyncio.create_task(loop) for loop in loops]
    waiter = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiter:
                task.result()
                raise RuntimeError(f"{task.get_coro()!r} ended although it should run until the stop")
    finally:
        for task in (waiter, *tasks):
            task.cancel()
        _, late = await asyncio.wait((waiter, *tasks), timeout=_LATE_SECONDS)
        if late:
            _log.warning("stop_is_late", waits_for=_places())
        ends = await asyncio.gather(waiter, *tasks, return_exceptions=True)
    for end in ends:
        # Of a stop; when a loop has failed, what is raised already tells more.
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end


async def run_pipelined(steps: Iterable[Callable[[], Awaitable[object]]], in_flight: int) -> None:
    """Run independent steps, at most so many at a time.

    After the first failure no further step begins; those under way end, and the failure is raised.
    """
    remaining = iter(steps)
    failures: list[BaseException] = []

    async def work() -> None:
        for step in remaining:
            try:
                await step()
            except BaseException as error:
                failures.append(error)
                raise
            if failures:
                return

    workers = [asyncio.create_task(work()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*workers, return_exceptions=True)
    finally:
        for worker in workers:
            worker.cancel()
    if failures:
        raise failures[0]


def keep_cancellations() -> None:
    """Have asyncio.wait_for raise when a cancellation and a result come together, as it does from Python 3.12 on.

    That of 3.11 returns the result and forgets the cancellation: a loop that waits for answers by a library which uses
    it, as nats-py does, would then run on for ever while the process waits for its end.
    """
    asyncio.wait_for = _wait_for  # type: ignore[assignment]


async def _wait_for(answer: Awaitable[T], timeout: float | None) -> T:
    async with asyncio.timeout(timeout):
        return await answer


def _places() -> list[str]:
    """Where each task stands that has not ended."""
    frames = (task.get_stack(limit=1) for task in asyncio.all_tasks() if task is not asyncio.current_task())
    return sorted(f"{frame.f_code.co_qualname}:{frame.f_lineno}" for stack in frames for frame in stack)
