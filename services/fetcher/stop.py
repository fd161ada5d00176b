"""The flag by which a transfer is told to end: a thread cannot be cancelled, so it looks here for each buffer."""

import threading


class Stopped(Exception):
    """The flag was set. Nothing is wrong; what was verified so far stays for a later resume."""


class StopFlag:
    """Set once, from any thread; never cleared."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask for an end. Idempotent."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether an end was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep until the flag is set or the time is over; return whether it is set."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise Stopped when the flag is set."""
        if self._event.is_set():
            raise Stopped
