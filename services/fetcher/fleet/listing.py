"""Lists sources for the fleet: takes tasks from the pool's work queue, answers in ome-resolved, then acknowledges them.

A task that is not acknowledged is given to another resolver; so nothing is acknowledged before its answer is stored.
More tasks are taken only while a slot is free for a namespace that has none, however many others wait: see turns.py.
Must not retry: a listing that failed is an answer too, and the controller decides when to ask again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats.errors
import nats.js.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact.names import RESOLVE_STREAM, RESOLVED_BUCKET
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError, Unavailable
from libs.chassis.nats_client import put_if, read_key
from libs.model.problems import is_defect, problem_of
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import Resolution, ResolveTask
from ome.model.v1.model_pb2 import Artifact
from services.fetcher import metrics
from services.fetcher.fleet.askings import Askings
from services.fetcher.fleet.credentials import Credentials, CredentialsClient
from services.fetcher.fleet.manifests import ManifestStore
from services.fetcher.fleet.turns import Turns
from services.fetcher.listers.listers import Listers
from services.fetcher.sources.catalogue import Sources

# One lingering request per resolver: long, so that an idle one asks seldom.
_PULL_SECONDS = 30.0
# A sixth of the consumer's AckWait of 30 s: what takes long is not given to another resolver meanwhile. As often the
# controller is asked whether a listing is still wanted.
_LOOK_SECONDS = 5.0
# A pull that is refused at once (no consumer yet, server away) is not repeated at once.
_PAUSE_SECONDS = 1.0
# A task that comes again after so many deliveries has ended those who took it before, by its size for one.
_MOST_DELIVERIES = 5
# Tasks of a kilobyte or so. What is beyond goes back into the queue for a while, last things of who asked most first.
_MOST_WAITING = 2000
_AWAY_SECONDS = 30.0
_log = structlog.get_logger()


@dataclass(eq=False)
class _Guest:
    """Something else that takes a turn beside the tasks, such as a listing on trial."""

    begins: asyncio.Event = field(default_factory=asyncio.Event)
    crowded_out: bool = False


@dataclass(eq=False)
class _Held:
    """A task that was taken and is not acknowledged yet."""

    message: Msg
    task: ResolveTask
    since: float = field(default_factory=time.monotonic)
    worker: asyncio.Task[None] | None = None
    # Nobody waits for the answer any more.
    withdrawn: bool = False

    @property
    def name(self) -> tuple[str, int]:
        """What tells it from other tasks."""
        return self.task.source_key, self.task.attempt

    @property
    def is_late(self) -> bool:
        """Whether it was taken so long ago that it may not be wanted any more."""
        return time.monotonic() - self.since > _LOOK_SECONDS


class ListingLoop:
    """The tasks of one resolver, some of which are worked on at the same time."""

    def __init__(
        self,
        js: JetStreamContext,
        pool: str,
        parallel: int,
        sources: Sources,
        listers: Listers,
        credentials: CredentialsClient,
        manifests: ManifestStore,
        askings: Askings,
    ) -> None:
        self._js = js
        self._consumer = f"pool-{pool}"
        self._sources = sources
        self._listers = listers
        self._credentials = credentials
        self._manifests = manifests
        self._askings = askings
        self._turns: Turns[_Held | _Guest] = Turns(parallel, _MOST_WAITING)
        self._held: dict[tuple[str, int], _Held] = {}
        self._free = asyncio.Event()
        self._reconnected = asyncio.Event()
        self._complaint = ""
        self._group: asyncio.TaskGroup | None = None

    def pull_again(self) -> None:
        """Ask anew, as after a reconnect: the server may have forgotten the request that waits there."""
        self._reconnected.set()

    async def run(self) -> None:
        """Take tasks until cancelled; those that are not done then are given back at once."""
        subscription = await self._js.pull_subscribe_bind(self._consumer, stream=RESOLVE_STREAM)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._look())
                self._start()
                try:
                    await self._take(subscription)
                finally:
                    self._group = None
        finally:
            for held in self._held.values():
                with contextlib.suppress(nats.errors.Error):
                    await held.message.nak()
            # Without interest in its inbox the server drops the request that still waits there.
            await subscription.unsubscribe()

    async def _take(self, subscription: "JetStreamContext.PullSubscription") -> None:
        while True:
            await self._free.wait()
            started = time.monotonic()
            message = await self._pull(subscription)
            if message is not None:
                with contextlib.suppress(nats.errors.Error):
                    await self._keep(message)
            elif time.monotonic() - started < _PAUSE_SECONDS and not self._reconnected.is_set():
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _keep(self, message: Msg) -> None:
        """Have a task wait for its turn, unless it is here already."""
        try:
            held = _Held(message, ResolveTask.FromString(message.data))
        except DecodeError:
            _log.error("resolve_task_malformed", bytes=len(message.data))
            await message.term()
            return
        known = self._held.get(held.name)
        if known is not None:
            # Asked for twice, or delivered again although it is worked on.
            if known.message.metadata.sequence.stream == message.metadata.sequence.stream:
                known.message = message
            else:
                await message.ack()
            return
        self._held[held.name] = held
        crowded = self._turns.add(held.task.model.namespace, held)
        self._start()
        await self._send_away(crowded)

    @asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn of a namespace as a task does, and have its slot inside the block. Raises Unavailable."""
        guest = _Guest()
        try:
            crowded = self._turns.add(namespace, guest)
            self._start()
            await self._send_away(crowded)
            await guest.begins.wait()
            if guest.crowded_out:
                raise Unavailable(Reason.OVERLOADED, "too many sources wait for being listed: ask again later")
            yield
        finally:
            self._turns.done(guest)
            self._start()

    async def _send_away(self, crowded: _Held | _Guest | None) -> None:
        """Have what must give up waiting come again later."""
        if isinstance(crowded, _Guest):
            crowded.crowded_out = True
            crowded.begins.set()
        elif crowded is not None:
            del self._held[crowded.name]
            await crowded.message.nak(delay=_AWAY_SECONDS)

    def _start(self) -> None:
        """Begin what has its turn."""
        while self._group and (next_one := self._turns.next()):
            if isinstance(next_one, _Guest):
                next_one.begins.set()
            else:
                next_one.worker = self._group.create_task(self._work(next_one))
        if self._turns.wants_more:
            self._free.set()
        else:
            self._free.clear()

    async def _work(self, held: _Held) -> None:
        try:
            await self._handle(held)
        except nats.errors.Error as error:
            # The answer is stored or not; an acknowledgement that is lost brings the task back.
            _log.warning("resolve_unacknowledged", error=f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            if not held.withdrawn:
                raise
            await self._drop(held)
        # Not after a cancellation: then all that is held is given back.
        self._held.pop(held.name, None)
        self._turns.done(held)
        self._start()

    async def _look(self) -> None:
        """Say that tasks are worked on, and end those that nobody waits for any more."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for held in tuple(self._held.values()):
                with contextlib.suppress(nats.errors.Error):
                    await held.message.in_progress()
            late = [held for held in self._held.values() if held.worker and held.is_late]
            answers = await asyncio.gather(*(self._askings.withdrawn(held.task) for held in late))
            for held, withdrawn in zip(late, answers, strict=True):
                if withdrawn and held.worker and not held.withdrawn:
                    held.withdrawn = True
                    held.worker.cancel()

    async def _drop(self, held: _Held) -> None:
        _log.info("listing_withdrawn", model=held.task.model.uid, source=held.task.source_key)
        with contextlib.suppress(nats.errors.Error):
            await held.message.term()

    async def _pull(self, subscription: "JetStreamContext.PullSubscription") -> Msg | None:
        self._reconnected.clear()
        async with asyncio.TaskGroup() as group:
            fetch = group.create_task(self._fetch_one(subscription))
            reconnect = group.create_task(self._reconnected.wait())
            await asyncio.wait([fetch, reconnect], return_when=asyncio.FIRST_COMPLETED)
            fetch.cancel()
            reconnect.cancel()
        return None if fetch.cancelled() else fetch.result()

    async def _fetch_one(self, subscription: "JetStreamContext.PullSubscription") -> Msg | None:
        try:
            message = (await subscription.fetch(1, timeout=_PULL_SECONDS))[0]
        except TimeoutError:
            return None
        except (nats.errors.Error, nats.js.errors.Error) as error:
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                # Said once: the consumer is not there before the first controller is, and may come much later.
                _log.info("resolve_pull_failed", consumer=self._consumer, error=complaint)
            self._complaint = complaint
            return None
        self._complaint = ""
        return message

    async def _handle(self, held: _Held) -> None:
        task = held.task
        if held.is_late and await self._askings.withdrawn(task):
            await self._drop(held)
            return
        try:
            deliveries = held.message.metadata.num_delivered
            resolution = await (self._resolve(task) if deliveries <= _MOST_DELIVERIES else _give_up(task))
            await self._answer(task, resolution)
            await held.message.ack()
        except ServiceError as error:
            _log.warning("resolution_not_stored", source=task.source_key, reason=error.reason, message=error.message)
            await held.message.nak(delay=_PAUSE_SECONDS)

    async def _resolve(self, task: ResolveTask) -> Resolution:
        resolution = Resolution(attempt=task.attempt)
        pause_seconds = 0.0
        started = time.monotonic()
        log = _log.bind(model=task.model.uid, source=task.source_key, attempt=task.attempt)
        try:
            artifact = await self._list(task, resolution)
        except Exception as error:  # The work item's boundary: the answer says what went wrong.
            resolution.problem.CopyFrom(problem_of(error, "fetcher"))
            if isinstance(error, Unavailable) and error.retry_after_seconds:
                pause_seconds = error.retry_after_seconds
            reason = word_of(resolution.problem.reason)
            metrics.RESOLVES.labels(result=reason).inc()
            log.warning(
                "resolve_failed",
                reason=reason,
                message=resolution.problem.message,
                exc_info=error if is_defect(error) else None,
            )
        else:
            resolution.artifact.CopyFrom(artifact)
            metrics.RESOLVES.labels(result="Ok").inc()
            log.info(
                "resolved",
                digest=artifact.digest,
                bytes=artifact.bytes,
                files=artifact.files,
                seconds=round(time.monotonic() - started, 3),
            )
        # Both by one look at the clock: what counts is their distance.
        now = time.time()
        resolution.resolved_at.FromMilliseconds(int(now * 1000))
        if pause_seconds:
            resolution.problem.retry_at.FromMilliseconds(int((now + pause_seconds) * 1000))
        return resolution

    async def _list(self, task: ResolveTask, resolution: Resolution) -> Artifact:
        """What the source holds; an artifact without a digest when nothing of it is to be copied.

        The resolution is told which credentials that took, whether or not they were of use.
        """
        source = task.source
        if self._sources.read_in_place(source.uri):
            return Artifact()
        credentials = await self._credentials.get(task.model.uid, source) if source.has_secret else Credentials()
        resolution.secret_version = credentials.version
        listed = await self._listers.list(
            source.uri, source.parameters, credentials.values(), bool(task.model.namespace)
        )
        resolution.warnings.extend(listed.warnings)
        resolution.completeness.CopyFrom(listed.completeness)
        manifest = listed.manifest
        await self._manifests.put(manifest, task.model.namespace)
        return Artifact(
            digest=manifest.digest,
            source_revision=manifest.source_revision,
            bytes=manifest.size_bytes,
            files=len(manifest.files),
        )

    async def _answer(self, task: ResolveTask, resolution: Resolution) -> None:
        revision, stored = await self._stored(task.source_key)
        if stored.attempt > task.attempt:
            # A task that came twice, as its acknowledgement was lost, must not take back what the first answer found.
            _log.info("resolution_outdated", source=task.source_key, attempt=task.attempt, answered=stored.attempt)
            return
        if stored.artifact.digest and not resolution.artifact.digest:
            # Nor must a source that is away, or a fetcher that lacks a vendor's driver, have copies deleted that others
            # have made. That this attempt failed is told with it, so that the next one is made later.
            resolution.artifact.CopyFrom(stored.artifact)
            resolution.warnings.extend(stored.warnings)
            resolution.completeness.CopyFrom(stored.completeness)
            resolution.secret_version = stored.secret_version
        await put_if(self._js, RESOLVED_BUCKET, task.source_key, resolution.SerializeToString(), revision)

    async def _stored(self, source_key: str) -> tuple[int, Resolution]:
        """The answer that is stored and its revision; an empty one at revision 0 when there is none."""
        revision, value = await read_key(self._js, RESOLVED_BUCKET, source_key)
        try:
            return revision, Resolution.FromString(value or b"")
        except DecodeError:
            return revision, Resolution()


async def _give_up(task: ResolveTask) -> Resolution:
    """The answer to a task that ends whoever takes it, or whose answer cannot be stored.

    The controller has it tried again later, and ever later.
    """
    why = (
        f"listing the source was begun {_MOST_DELIVERIES} times, and no answer was stored: the resolver ended during "
        "it, or NATS did not take the answer; see the logs of ome-resolver"
    )
    _log.error("resolve_given_up", model=task.model.uid, source=task.source_key, deliveries=_MOST_DELIVERIES)
    resolution = Resolution(attempt=task.attempt, problem=problem_of(Unavailable(Reason.UNAVAILABLE, why), "resolver"))
    resolution.resolved_at.FromMilliseconds(int(time.time() * 1000))
    return resolution
