"""Says what a wait is for, to the person who sits before it: after some seconds, and again while it lasts."""

import time
from collections.abc import Callable

# Before anyone wonders whether something hangs.
_EVERY_SECONDS = 8.0


class Reminder:
    """Told over and over what is waited for, it passes that on from time to time."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._said_at = clock()

    def waits_for(self, what: str) -> None:
        """What is missing at this moment."""
        now = self._clock()
        if now - self._said_at >= _EVERY_SECONDS:
            self._said_at = now
            self._say(what)
