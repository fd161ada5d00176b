"""Runs one container as a process: starts, probes, restarts with back-off and stops it, and keeps its state."""

import asyncio
import datetime
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster.kubelet.conditions import ContainerState
from tools.localcluster.kubelet.environment import MissingReference, Object
from tools.localcluster.kubelet.images import UnknownImage
from tools.localcluster.kubelet.probes import Probe
from tools.localcluster.processes import Process, tail

# The kubelet keeps at most so much of a container's last words in its status: of its message, or of its log.
_MESSAGE_CHARACTERS = 4096
_LOG_CHARACTERS = 2048
_REFERENCE_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Launch:
    """All that the kernel needs to know of a container's process."""

    command: list[str]
    variables: Mapping[str, str]
    folder: Path
    termination_log: Path


@dataclass(frozen=True)
class BackOff:
    """Pauses between restarts. The first restart follows at once, as in the kubelet."""

    initial_seconds: float = 1.0
    maximum_seconds: float = 10.0
    # A container that ran for so long starts again without a pause.
    forget_after_seconds: float = 60.0


class Container:
    """`prepare` is asked before each start, as its sources may have changed; `changed` hears of every new state."""

    def __init__(
        self,
        spec: Object,
        *,
        restart_policy: str,
        grace_seconds: float,
        address: str,
        log: Path,
        back_off: BackOff,
        prepare: Callable[[], Awaitable[Launch]],
        changed: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._restart_policy = restart_policy
        self._grace_seconds = grace_seconds
        self._address = address
        self._back_off = back_off
        self._prepare = prepare
        self._changed = changed
        self._process: Process | None = None
        self._launch: Launch | None = None
        self._started_at = ""
        self.log = log
        self.state = ContainerState(spec["name"], spec["image"])

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.status is None else None

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.signal(number)

    async def run(self) -> int:
        """Run it, again and again if its restart policy says so. Cancelling leaves the process to `stop`."""
        delay = 0.0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self._run_once()
            if not self._restarts_after(status):
                return status
            if loop.time() - started > self._back_off.forget_after_seconds:
                delay = 0.0
            ended = self.state.state
            if delay:
                self._wait_for("CrashLoopBackOff", f"back-off {delay:g}s restarting failed container={self.name}")
                await asyncio.sleep(delay)
            delay = min(max(delay * 2, self._back_off.initial_seconds), self._back_off.maximum_seconds)
            self.state.last_state = ended
            self.state.restart_count += 1

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace period; `run` must have been cancelled or have returned."""
        if self._process is not None and "running" in self.state.state:
            self._record_end(await self._process.stop(grace_seconds))

    async def kill(self) -> None:
        if self._process is not None:
            await self._process.kill()

    def _restarts_after(self, status: int) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and status != 0)

    async def _run_once(self) -> int:
        self._launch = await self._prepared()
        try:
            self._process = Process(self._launch.command, self._launch.variables, self._launch.folder, self.log)
        except OSError as error:
            self._wait_for("RunContainerError", str(error))
            await asyncio.sleep(_REFERENCE_RETRY_SECONDS)
            return 128
        self._started_at = _now()
        self.state.state = {"running": {"startedAt": self._started_at}}
        self.state.started = "startupProbe" not in self._spec
        self.state.ready = self.state.started and "readinessProbe" not in self._spec
        self._changed()
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self._probe(self._process))
            status = await self._process.wait()
            probing.cancel()
        self._record_end(status)
        return status

    async def _prepared(self) -> Launch:
        while True:
            try:
                return await self._prepare()
            except UnknownImage as error:
                self._wait_for("ErrImagePull", str(error))
            except MissingReference as error:
                self._wait_for("CreateContainerConfigError", str(error))
            await asyncio.sleep(_REFERENCE_RETRY_SECONDS)

    def _wait_for(self, reason: str, message: str) -> None:
        self.state.state = {"waiting": {"reason": reason, "message": message}}
        self.state.ready = self.state.started = False
        self._changed()

    def _record_end(self, status: int) -> None:
        assert self._launch is not None
        ended = {
            "exitCode": status if status >= 0 else 128 - status,
            "reason": "Completed" if status == 0 else "Error",
            "startedAt": self._started_at,
            "finishedAt": _now(),
        }
        if status < 0:
            ended["signal"] = -status
        if message := self._last_words(status):
            ended["message"] = message
        self.state.state = {"terminated": ended}
        self.state.ready = self.state.started = False
        self._changed()

    def _last_words(self, status: int) -> str:
        assert self._launch is not None
        log = self._launch.termination_log
        message = log.read_text(errors="replace") if log.exists() else ""
        if not message and status != 0 and self._spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = tail(self.log)[-_LOG_CHARACTERS:]
        return message[-_MESSAGE_CHARACTERS:]

    async def _probe(self, process: Process) -> None:
        if "startupProbe" in self._spec:
            async for result in self._make_probe("startupProbe").verdicts():
                if result.success:
                    break
                await self._restart(process, f"startup probe failed: {result.reason}")
                return
            self.state.started = True
            self.state.ready = "readinessProbe" not in self._spec
            self._changed()
        async with asyncio.TaskGroup() as group:
            if "readinessProbe" in self._spec:
                group.create_task(self._follow_readiness())
            if "livenessProbe" in self._spec:
                group.create_task(self._watch_liveness(process))

    async def _follow_readiness(self) -> None:
        async for result in self._make_probe("readinessProbe").verdicts():
            if result.success != self.state.ready:
                self.state.ready = result.success
                self._changed()

    async def _watch_liveness(self, process: Process) -> None:
        async for result in self._make_probe("livenessProbe").verdicts():
            if not result.success:
                await self._restart(process, f"liveness probe failed: {result.reason}")
                return

    async def _restart(self, process: Process, why: str) -> None:
        with self.log.open("a") as log:
            log.write(f"localcluster: {why}; the container is restarted\n")
        await process.stop(self._grace_seconds)

    def _make_probe(self, kind: str) -> Probe:
        ports = {port["name"]: port["containerPort"] for port in self._spec.get("ports", []) if "name" in port}
        return Probe(self._spec[kind], address=self._address, ports=ports, run=self._execute)

    async def _execute(self, command: Sequence[str]) -> int:
        assert self._launch is not None
        process = Process(command, self._launch.variables, self._launch.folder, self.log)
        try:
            return await process.wait()
        finally:
            process.signal(signal.SIGKILL)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
