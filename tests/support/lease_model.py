"""A model of replicas that want one Lease: a server that compares and sets, lines that delay and lose, a clock to jump.

Watches at every moment that one leads at most, that everyone has been told how it stands, and that what was left undone
for want of leadership is taken up again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Missing, ServiceError, Unavailable
from libs.chassis.kube import JSON, KubeClient, Object
from libs.chassis.leadership import Leadership
from tests.support.model_time import ModelLoop

LEASE_SECONDS = 15.0
QUICK_SECONDS = 0.01
_WORK_SECONDS = 1.3

# What happens at which time.
Events = Iterable[tuple[float, float]]


class Server:
    """The API server with one Lease, which changes only where the writer knew its present version."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.history: list[Object] = []
        self.version = 0
        self._waiting: set[asyncio.Event] = set()

    def write(self, method: str, body: Object) -> Object:
        if method == "POST" and self.lease:
            raise Conflict(Reason.CONFLICT, "it exists")
        if method == "PUT" and not self.lease:
            raise Missing(Reason.NOT_FOUND, "there is none")
        if method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(Reason.CONFLICT, "it has changed")
        self.version += 1
        metadata = {"name": "lead", "namespace": "ome", "uid": "1", "resourceVersion": str(self.version)}
        self.lease = {"metadata": metadata, "spec": body["spec"]}
        self.history.append(self.lease)
        for event in self._waiting:
            event.set()
        return self.lease

    async def after(self, version: int) -> Object:
        """The first state of the Lease that is later than a version."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            while self.version <= version:
                changed.clear()
                await changed.wait()
        finally:
            self._waiting.discard(changed)
        return self.history[version]


@dataclass(frozen=True)
class Fate:
    """What becomes of a write: how long it travels there and back, and whether it arrives and is answered."""

    there: float = QUICK_SECONDS
    back: float = QUICK_SECONDS
    arrives: bool = True
    is_answered: bool = True


class Line(KubeClient):
    """A candidate's connection: writes meet their fates in order, watches lag and break. Later ones are quick."""

    def __init__(self, server: Server, fates: Iterable[Fate] = (), watches: Iterable[tuple[float, float]] = ()) -> None:
        self._server = server
        self._fates = deque(fates)
        self._watches = deque(watches)
        self._on_the_way: set[asyncio.Task[Object | ServiceError]] = set()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        most_bytes: int | None = None,
    ) -> Object:
        if method == "GET":
            await asyncio.sleep(QUICK_SECONDS)
            items = [self._server.lease] if self._server.lease else []
            return {"items": items, "metadata": {"resourceVersion": str(self._server.version)}}
        fate = self._fates.popleft() if self._fates else Fate()
        # It goes on although nobody waits for it any more.
        sent = asyncio.create_task(self._carry(fate, method, body))
        self._on_the_way.add(sent)
        sent.add_done_callback(self._on_the_way.discard)
        await asyncio.wait([sent])
        answer = sent.result()
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    async def close(self) -> None:
        """Let nothing arrive any more."""
        for sent in self._on_the_way:
            sent.cancel()
        await asyncio.gather(*self._on_the_way, return_exceptions=True)

    async def _carry(self, fate: Fate, method: str, body: Object) -> Object | ServiceError:
        await asyncio.sleep(fate.there)
        answer: Object | ServiceError = Unavailable(Reason.UNAVAILABLE, "the connection broke")
        if fate.arrives:
            try:
                written: Object | ServiceError = self._server.write(method, body)
            except ServiceError as error:
                written = error
            answer = written if fate.is_answered else answer
        await asyncio.sleep(fate.back)
        return answer

    @asynccontextmanager
    async def watch(
        self, path: str, resource_version: str, query: Mapping[str, Any] | None = None, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[Object]]:
        lag, life = self._watches.popleft() if self._watches else (QUICK_SECONDS, 3000.0)
        yield self._events(int(resource_version), lag, life)

    async def _events(self, version: int, lag: float, life: float) -> AsyncIterator[Object]:
        try:
            async with asyncio.timeout(life):
                while True:
                    lease = await self._server.after(version)
                    await asyncio.sleep(lag)
                    version += 1
                    yield {"type": "MODIFIED", "object": lease}
        except TimeoutError as error:
            raise Unavailable(Reason.UNAVAILABLE, "the watch broke") from error


class Candidate:
    """A replica that works while it leads, and looks at everything when it is told that it does."""

    def __init__(self, name: str, line: Line) -> None:
        self.name = name
        self.leadership = Leadership(line, "ome", "lead", name, LEASE_SECONDS, asyncio.get_running_loop().time)
        self.told: list[tuple[float, bool]] = []
        self.dropped = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.leadership.run(self._tell))
            group.create_task(self._work())

    def _tell(self, leading: bool) -> None:
        self.told.append((round(asyncio.get_running_loop().time(), 1), leading))
        if leading:
            self.dropped = False

    @property
    def is_told(self) -> bool:
        return self.told[-1][1] if self.told else False

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(_WORK_SECONDS)
            self.dropped = self.dropped or not self.leadership.leading


class Cluster:
    """Candidates for one Lease, and what must hold of them at every moment."""

    def __init__(self, *lines: Line) -> None:
        self.candidates: list[Candidate] = []
        self._lines = lines
        self._running: list[asyncio.Task[None]] = []
        self._told: list[list[tuple[float, bool]]] = []
        self._violations: list[str] = []
        self.leaders_at_the_end = 0

    def told(self, number: int) -> list[tuple[float, bool]]:
        """When a candidate, since its last start, was told that it leads or no longer does."""
        return self._told[number]

    def run(self, seconds: float, restarts: Events = (), pauses: Events = ()) -> None:
        """Let so much time pass.

        Restarts are times and the number of a candidate; pauses, times and the seconds for which the machine stands.
        """
        with asyncio.Runner(loop_factory=lambda: ModelLoop(self._settled, self._jumped)) as runner:
            runner.run(self._run(seconds, restarts, pauses))
        assert not self._violations

    async def _run(self, seconds: float, restarts: Events, pauses: Events) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ModelLoop)
        self.candidates = [Candidate(f"replica-{number}", line) for number, line in enumerate(self._lines)]
        self._running = [asyncio.create_task(candidate.run()) for candidate in self.candidates]
        for when, pause in pauses:
            loop.call_later(when, loop.advance, pause)
        ends = loop.time() + seconds
        for when, number in sorted(restarts):
            await asyncio.sleep(max(0.0, when - loop.time()))
            await self._restart(int(number) % len(self._lines))
        await asyncio.sleep(max(0.0, ends - loop.time()))
        assert not any(task.done() for task in self._running)
        # The end of the run is another end of a term.
        self._told = [list(candidate.told) for candidate in self.candidates]
        self.leaders_at_the_end = sum(candidate.is_told for candidate in self.candidates)
        for task in self._running:
            task.cancel()
        await asyncio.wait(self._running)
        for line in self._lines:
            await line.close()

    async def _restart(self, number: int) -> None:
        self._running[number].cancel()
        await asyncio.wait([self._running[number]])
        self._require(not self.candidates[number].is_told, "one that has ended is told so")
        self.candidates[number] = Candidate(f"{self.candidates[number].name}-again", self._lines[number])
        self._running[number] = asyncio.create_task(self.candidates[number].run())

    def _settled(self) -> None:
        self._jumped()
        for candidate in self.candidates:
            leading = candidate.leadership.leading
            self._require(candidate.is_told == leading, f"{candidate.name} has been told how it stands")
            self._require(not (candidate.dropped and leading), f"what {candidate.name} dropped came back")

    def _jumped(self) -> None:
        leading = [candidate.name for candidate in self.candidates if candidate.leadership.leading]
        self._require(len(leading) <= 1, f"only one of {leading} leads")

    def _require(self, holds: bool, what: str) -> None:
        # Not raised here, in the midst of the loop.
        if not holds:
            self._violations.append(what)
