"""Owns child processes: start, wait without threads or polling, signal, stop. Knows nothing of what they are.

Every child leads a session of its own, so that Ctrl-C in a terminal reaches only the harness, and asks the kernel to be
killed when the harness dies, however it dies.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_LINE_CHARACTERS = 600


class Process:
    """A running or ended child. Must be created and awaited on one event loop, whose thread has to outlive it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        # setpriv (util-linux) instead of a preexec_fn: no Python code runs between fork and exec, so threads cannot get
        # in its way. The parent-death signal hangs on the thread that forks, hence the rule above.
        launcher = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*launcher, *command],
                env=dict(environ),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._descriptor = os.pidfd_open(self._child.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then the exit status, or minus the signal that ended it."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, grace_seconds: float) -> int:
        """SIGTERM, and SIGKILL when it has not ended after the grace period."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        self.signal(signal.SIGKILL)
        return await self.wait()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        # Until it is reaped the leader keeps its process group's number from being given away, so this can only hit its
        # own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.set_result(self._child.wait())


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for a message about what went wrong."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400 * lines))
        return "\n".join(map(_shortened, file.read().decode(errors="replace").splitlines()[-lines:]))


def _shortened(line: str) -> str:
    """Both ends of a line that holds a whole traceback: what happened, and why."""
    return (
        line if len(line) <= _LINE_CHARACTERS else f"{line[: _LINE_CHARACTERS // 2]} … {line[-_LINE_CHARACTERS // 2 :]}"
    )
