"""Running loops side by side until a stop event, and ending them in order."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_until(stop: asyncio.Event, *loops: Coroutine[Any, Any, None]) -> None:
    """Run loops until stop is set, then cancel them and wait for their ends.

    A loop that raises or returns before that ends all of them; its exception is raised. The caller's resources
    are still open while the loops end.
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
        await asyncio.gather(waiter, *tasks, return_exceptions=True)
