"""An event loop in a thread of its own, which holds servers open for callers that block, from any thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class LoopThread(Generic[T]):
    """Enters a context when it is started, and leaves it when it is stopped.

    The kernel kills the children of a thread that ends, so this one runs until what it has started has been stopped.
    """

    def __init__(self, name: str, opened: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._opened = opened
        self._held: Future[T] = Future()
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._host, name=name, daemon=True)

    def start(self) -> None:
        """Enter the context, and wait for it. Raises what went wrong."""
        self._thread.start()
        self._held.result()

    def stop(self) -> None:
        """Leave the context, and wait for it. May be called again, and before it was started."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread.is_alive()

    @property
    def is_open(self) -> bool:
        """Whether the context was entered without a failure."""
        return self._held.done() and not self._held.cancelled() and self._held.exception() is None

    @property
    def held(self) -> T:
        """What the context has given. Raises what went wrong."""
        return self._held.result()

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Have the loop do something, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _host(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        try:
            async with self._opened() as held:
                self._held.set_result(held)
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self._held.cancel()
        except BaseException as error:
            if self._held.done():
                raise
            self._held.set_exception(error)
