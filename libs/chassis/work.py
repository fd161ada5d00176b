"""A queue of keys to reconcile: each key once at a time, never lost, tried again with growing delay.

Owns the work item's boundary: whatever a reconcile raises ends here, in the log and in a later attempt.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

import structlog

from libs.chassis.errors import Conflict, ServiceError, Unavailable

K = TypeVar("K", bound=Hashable)

_INITIAL_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 60.0
# More in a row than a race explains.
_CONFLICTS_UNSAID = 3
_log = structlog.get_logger()


class KeyedQueue(Generic[K]):
    """Keys that wait for a worker. A key that is added while it is worked on is worked on once more afterwards."""

    def __init__(self, name: str, max_backoff_seconds: float = _MAX_BACKOFF_SECONDS) -> None:
        self._name = name
        self._max_backoff_seconds = max_backoff_seconds
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Have key reconciled as soon as a worker is free; forgets a later appointment."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_all(self, keys: Iterable[K]) -> None:
        """Have many keys reconciled."""
        for key in keys:
            self.add(key)

    def add_later(self, key: K, delay_seconds: float) -> None:
        """Have key reconciled after a delay, unless it already waits or has an earlier appointment."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._waiting or (timer and timer.when() <= loop.time() + delay_seconds):
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(delay_seconds, self._due, key)

    async def run(self, reconcile: Callable[[K], Awaitable[float | None]], workers: int = 1) -> None:
        """Work until cancelled. A number that reconcile returns means: look again after so many seconds."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(reconcile))

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self, reconcile: Callable[[K], Awaitable[float | None]]) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                delay = await self._attempt(reconcile, key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif delay is not None:
                self.add_later(key, delay)

    async def _attempt(self, reconcile: Callable[[K], Awaitable[float | None]], key: K) -> float | None:
        try:
            delay = await reconcile(key)
        except ServiceError as error:
            delay = self._backoff(key)
            if isinstance(error, Conflict) and self._failures[key] <= _CONFLICTS_UNSAID:
                # Somebody else was faster: what we know is about to be refreshed.
                return delay
            if isinstance(error, Unavailable) and error.retry_after_seconds:
                delay = max(delay, error.retry_after_seconds)
            _log.warning(
                "reconcile_failed",
                queue=self._name,
                key=str(key),
                reason=error.reason,
                message=error.message,
                retry_in=delay,
            )
            return delay
        except Exception as error:
            delay = self._backoff(key)
            _log.error("reconcile_crashed", queue=self._name, key=str(key), retry_in=delay, exc_info=error)
            return delay
        self._failures.pop(key, None)
        return delay

    def _backoff(self, key: K) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        ceiling = min(self._max_backoff_seconds, _INITIAL_BACKOFF_SECONDS * 2.0 ** min(failures, 20))
        # Full jitter would allow a retry at once; half of it keeps the herd apart and still waits.
        return ceiling * (0.5 + random.random() / 2)
