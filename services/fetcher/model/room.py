"""The one rule about room on disk: what did not fit is attempted again as soon as there may be room for it.

Knows when room was freed and which failures are a lack of it. Must not know how much room there is: the store admits.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError
from ome.model.v1.model_pb2 import REASON_INSUFFICIENT_DISK
from services.fetcher.model.observed import Setback


class Room:
    """When room was freed last, by the monotonic clock, and an event for those who wait for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._freed = asyncio.Event()
        self._freed_at = 0.0

    def free(self) -> None:
        """Bytes were removed, or promised room was given back."""
        self._freed_at = self._clock()
        self._freed.set()

    def give_back(self, error: ServiceError) -> None:
        """A download has failed: it no longer needs what it was promised, unless it was promised nothing."""
        if error.reason is not Reason.INSUFFICIENT_DISK:
            self.free()

    async def freed(self) -> None:
        """Wait until room is freed; what was freed before the last call counts once."""
        await self._freed.wait()
        self._freed.clear()

    def due(self, setback: Setback | None) -> Setback | None:
        """The setback of a model that lacked room, with its next attempt due now; None for any other."""
        if setback and setback.problem.reason == REASON_INSUFFICIENT_DISK and setback.retry_at:
            return replace(setback, retry_at=self._clock())
        return None

    def delay_seconds(self, error: Exception, began: float, delay: float, soon: float) -> float:
        """How long a failed attempt waits: soon, where room was freed after it began, which may have come too late."""
        lacked = isinstance(error, ServiceError) and error.reason is Reason.INSUFFICIENT_DISK
        return min(delay, soon) if lacked and self._freed_at >= began else delay
