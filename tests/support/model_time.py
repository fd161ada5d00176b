"""An event loop whose clock is a number: it jumps to the next timer when nothing else is left to do.

Hours of waiting pass in no time and always in the same order. Only for what waits for timers and for itself: a jump
does not wait for sockets, threads or processes.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


async def pass_time(seconds: float) -> None:
    """Let so much time of the model pass, with everything that happens in it."""
    await asyncio.sleep(seconds)


class ModelLoop(asyncio.SelectorEventLoop):
    """Starts at 0. Calls `settled` when everything that was due has run, and `jumped` when time has passed since."""

    def __init__(self, settled: Callable[[], None], jumped: Callable[[], None]) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self, settled, jumped))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass while nothing runs, as for a process that is stopped or a machine that is too busy."""
        self._now += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: ModelLoop, settled: Callable[[], None], jumped: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._settled = settled
        self._jumped = jumped

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        assert timeout is not None, "nothing is left that could happen"
        self._settled()
        self._loop.advance(timeout)
        self._jumped()
        return []
