"""Lists sources for the fleet: takes a task from the pool's work queue, answers in ome-resolved, then acknowledges it.

A task that is not acknowledged is given to another resolver; so nothing is acknowledged before its answer is stored.
Must not retry: a listing that failed is an answer too, and the controller decides when to ask again.
"""

import asyncio
import contextlib
import time

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
from libs.model.findings import completeness_message, remark_message
from libs.model.problems import is_defect, problem_of
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import Resolution, ResolveTask
from ome.model.v1.model_pb2 import Artifact
from services.fetcher import metrics
from services.fetcher.fleet.credentials import Credentials, CredentialsClient
from services.fetcher.fleet.manifests import ManifestStore
from services.fetcher.sources.catalogue import Sources

# One lingering request per worker: long, so that an idle resolver asks seldom.
_PULL_SECONDS = 30.0
# A third of the consumer's AckWait of 30 s: a listing that takes long is not given to another resolver meanwhile.
_IN_PROGRESS_SECONDS = 10.0
# A pull that is refused at once (no consumer yet, server away) is not repeated at once.
_PAUSE_SECONDS = 1.0
# A task that comes again after so many deliveries has ended those who took it before, by its size for one.
_MOST_DELIVERIES = 5
_log = structlog.get_logger()


class ListingWorker:
    """One task at a time; a resolver runs several workers."""

    def __init__(
        self,
        js: JetStreamContext,
        pool: str,
        sources: Sources,
        credentials: CredentialsClient,
        manifests: ManifestStore,
    ) -> None:
        self._js = js
        self._consumer = f"pool-{pool}"
        self._sources = sources
        self._credentials = credentials
        self._manifests = manifests
        self._reconnected = asyncio.Event()
        self._complaint = ""

    def pull_again(self) -> None:
        """Ask anew, as after a reconnect: the server may have forgotten the request that waits there."""
        self._reconnected.set()

    async def run(self) -> None:
        """Take tasks until cancelled."""
        subscription = await self._js.pull_subscribe_bind(self._consumer, stream=RESOLVE_STREAM)
        try:
            while True:
                started = time.monotonic()
                message = await self._pull(subscription)
                if message is not None:
                    try:
                        await self._handle(message)
                    except nats.errors.Error as error:
                        # The answer is stored or not; an acknowledgement that is lost brings the task back.
                        _log.warning("resolve_unacknowledged", error=f"{type(error).__name__}: {error}")
                elif time.monotonic() - started < _PAUSE_SECONDS and not self._reconnected.is_set():
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            # Without interest in its inbox the server drops the request that still waits there.
            await subscription.unsubscribe()

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

    async def _handle(self, message: Msg) -> None:
        try:
            task = ResolveTask.FromString(message.data)
        except DecodeError:
            _log.error("resolve_task_malformed", bytes=len(message.data))
            await message.term()
            return
        try:
            async with asyncio.TaskGroup() as group:
                alive = group.create_task(_keep_in_progress(message))
                deliveries = message.metadata.num_delivered
                resolution = await (self._resolve(task) if deliveries <= _MOST_DELIVERIES else _give_up(task))
                alive.cancel()
            await self._answer(task, resolution)
            await message.ack()
        except ServiceError as error:
            _log.warning("resolution_not_stored", source=task.source_key, reason=error.reason, message=error.message)
            await message.nak(delay=_PAUSE_SECONDS)
        except asyncio.CancelledError:
            # We are being stopped: another fetcher need not wait until this one is missed.
            await message.nak()
            raise

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
        listing = await self._sources.list(
            source.uri, source.parameters, credentials.values(), bool(task.model.namespace)
        )
        resolution.warnings.extend(map(remark_message, listing.warnings))
        resolution.completeness.CopyFrom(completeness_message(listing.verdict))
        manifest = listing.manifest
        await self._manifests.put(manifest)
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
    """The answer to a task that ends whoever takes it; the controller has it tried again later, and ever later."""
    why = f"listing the source did not end in {_MOST_DELIVERIES} attempts: perhaps it is too large"
    _log.error("resolve_given_up", model=task.model.uid, source=task.source_key, deliveries=_MOST_DELIVERIES)
    resolution = Resolution(attempt=task.attempt, problem=problem_of(Unavailable(Reason.UNAVAILABLE, why), "resolver"))
    resolution.resolved_at.FromMilliseconds(int(time.time() * 1000))
    return resolution


async def _keep_in_progress(message: Msg) -> None:
    while True:
        await asyncio.sleep(_IN_PROGRESS_SECONDS)
        with contextlib.suppress(nats.errors.Error):
            await message.in_progress()
