"""A server of the cluster: started until ready, and after a kill started again on the same ports and data."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tools.localcluster.processes import Process, tail
from tools.localcluster.reminder import Reminder

_START_SECONDS = 60.0


class StartFailed(RuntimeError):
    """A server ended, or did not become ready in time; the message carries the end of its log."""


class Daemon:
    """`command` is asked for at the first start only, so that ports stay what they are over restarts."""

    def __init__(
        self,
        name: str,
        command: Callable[[], list[str]],
        ready: Callable[[], Awaitable[bool]],
        *,
        folder: Path,
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self._choose_command = command
        self._command: list[str] | None = None
        self._ready = ready
        self._folder = folder
        self._environ = environ
        self.log = folder / "logs" / f"{name}.log"
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.status is None else None

    async def start(self, reminder: Reminder | None = None) -> None:
        """Return once it is ready. A first start that loses the race for a port is repeated with other ports."""
        first_start = self._command is None
        for attempt in itertools.count(1):
            command = self._command or self._choose_command()
            self._process = Process(command, self._environ, self._folder, self.log)
            if await self._becomes_ready(self._process, reminder):
                self._command = command
                return
            text = tail(self.log)
            if not first_start or attempt == 3 or "address already in use" not in text:
                raise StartFailed(f"{self.name} ended with status {self._process.status}:\n{text}")

    async def _becomes_ready(self, process: Process, reminder: Reminder | None) -> bool:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while process.status is None:
                    if await self._ready():
                        return True
                    if reminder:
                        reminder.waits_for(f"{self.name}, whose log is {self.log}")
                    await asyncio.sleep(0.02)
                return False
        except TimeoutError as error:
            await process.kill()
            raise StartFailed(f"{self.name} was not ready after {_START_SECONDS:.0f} s:\n{tail(self.log)}") from error

    async def stop(self, grace_seconds: float = 5.0) -> None:
        if self._process is not None:
            await self._process.stop(grace_seconds)

    async def kill(self) -> None:
        if self._process is not None:
            await self._process.kill()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.signal(number)
