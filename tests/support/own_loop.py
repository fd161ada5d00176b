"""An event loop in a thread of its own, for a part that must go on while a test blocks its own loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from libs.chassis.tasks import keep_cancellations

_START_SECONDS = 20.0


@asynccontextmanager
async def running(main: Callable[[asyncio.Event, Callable[[], None]], Awaitable[None]]) -> AsyncIterator[None]:
    """Run main in a thread: it calls what it is given once it works, and returns when the event is set."""
    started = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []

    async def work() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await main(stop, started.set)

    def host() -> None:
        # As in a service's own process: otherwise a cancellation that comes with an answer is lost, and the end waits.
        keep_cancellations()
        try:
            asyncio.run(work())
        except BaseException as failure:
            failures.append(failure)
        finally:
            started.set()

    thread = threading.Thread(target=host, daemon=True)
    thread.start()
    assert await asyncio.to_thread(started.wait, _START_SECONDS), "it does not begin to work"
    try:
        yield
    finally:
        loop, stop = loops[0]
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join)
    if failures:
        raise failures[0]
