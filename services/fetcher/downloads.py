"""The transfers of this node: which wait, which run, whose they are, and how each ended.

One transfer per artifact and root, however many models want it. Must not decide whether a failed one is tried again.
"""

import asyncio
import bisect
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from services.fetcher import metrics
from services.fetcher.planning import Transfer, TransferPhase
from services.fetcher.transfer.progress import Progress
from services.fetcher.transfer.stop import StopFlag, Stopped

_log = structlog.get_logger()


@dataclass(frozen=True)
class Order:
    """What is to be fetched, and on whose behalf the source is asked."""

    root: str
    digest: str
    damaged: tuple[str, ...]
    model_uid: str
    uri: str
    # Of the listing that this model's plan rests on: the manifest's own may be another repository's with equal files.
    source_revision: str
    parameters: tuple[tuple[str, str], ...]
    has_secret: bool
    bytes_total: int
    priority: int


@dataclass(frozen=True)
class Failure:
    """How a transfer ended that did not succeed."""

    digest: str
    error: Exception


@dataclass(eq=False)
class Job:
    """A transfer and the models that wait for it."""

    order: Order
    models: set[str] = field(default_factory=set)
    stop: StopFlag = field(default_factory=StopFlag)
    phase: TransferPhase = TransferPhase.QUEUED
    progress: Progress | None = None
    # Bytes that were there when it began, from an earlier attempt.
    resumed_bytes: int = 0

    @property
    def moving(self) -> bool:
        """Whether it has brought bytes."""
        return self.progress is not None and self.progress.bytes_done > self.resumed_bytes


Fetch = Callable[[Order, StopFlag, Callable[[Progress], None]], Awaitable[None]]


class Downloads:
    """Transfers in a bounded number of slots: larger priority first, then smaller artifacts, then older orders."""

    def __init__(
        self,
        slots: int,
        fetch: Fetch,
        on_change: Callable[[str], None],
    ) -> None:
        """fetch transfers one order and raises Stopped when told to stop; on_change is called for each model whose
        transfer begins or has ended.
        """
        self._slots = slots
        self._fetch = fetch
        self._on_change = on_change
        self._jobs: dict[tuple[str, str], Job] = {}
        self._by_model: dict[str, Job] = {}
        self._failures: dict[str, Failure] = {}
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, int, Job]] = []
        self._running: set[Job] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Run transfers until cancelled, which ends them as well; what they wrote stays for a resume."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._fill()
            # The group ends when it is cancelled, and its transfers with it.
            await asyncio.Event().wait()

    def start(self, order: Order) -> None:
        """Have an artifact fetched for a model, along with others that want it.

        Nothing happens while a transfer of it is stopping: the model is looked at again when it has.
        """
        job = self._jobs.get((order.root, order.digest))
        if job is None:
            job = Job(order)
            self._jobs[order.root, order.digest] = job
            bisect.insort(self._waiting, (-order.priority, order.bytes_total, next(self._numbers), job))
        job.models.add(order.model_uid)
        self._by_model[order.model_uid] = job
        self._fill()

    def give_up(self, model_uid: str) -> None:
        """End a model's interest in its transfer; the last one's end stops it."""
        self._failures.pop(model_uid, None)
        job = self._by_model.get(model_uid)
        if job is None:
            return
        if len(job.models) > 1 or job.phase is TransferPhase.QUEUED:
            del self._by_model[model_uid]
            job.models.discard(model_uid)
            self._on_change(model_uid)
        if not job.models:
            self._waiting = [entry for entry in self._waiting if entry[3] is not job]
            del self._jobs[job.order.root, job.order.digest]
        elif job.models == {model_uid}:
            # It stays on the books until it has stopped: nobody may say that nothing is left while bytes are written.
            job.phase = TransferPhase.STOPPING
            job.stop.set()

    def get(self, model_uid: str) -> Transfer | None:
        """The transfer of a model, if it has one."""
        job = self._by_model.get(model_uid)
        if job is None:
            return None
        bytes_done = job.progress.bytes_done if job.progress else 0
        return Transfer(job.order.root, job.order.digest, job.phase, bytes_done, job.moving)

    def take_failure(self, model_uid: str) -> Failure | None:
        """How the last transfer of a model failed; told once."""
        return self._failures.pop(model_uid, None)

    def progress(self) -> list[tuple[frozenset[str], Progress]]:
        """Models and progress of every transfer that runs."""
        return [(frozenset(job.models), job.progress) for job in self._running if job.progress]

    def _fill(self) -> None:
        while self._group and self._waiting and len(self._running) < self._slots:
            job = self._waiting.pop(0)[3]
            job.phase = TransferPhase.RUNNING
            self._running.add(job)
            self._group.create_task(self._work(job))
            self._tell(job)

    async def _work(self, job: Job) -> None:
        order = job.order
        log = _log.bind(model=order.model_uid, root=order.root, digest=order.digest)
        loop = asyncio.get_running_loop()
        started = loop.time()
        metrics.TRANSFERS_RUNNING.inc()
        error: Exception | None = None

        def note(progress: Progress) -> None:
            """Called by the transfer's thread."""
            moved = job.moving
            if job.progress is None:
                job.resumed_bytes = progress.bytes_done
            job.progress = progress
            if job.moving and not moved and progress.bytes_done < progress.bytes_total:
                loop.call_soon_threadsafe(self._tell, job)

        try:
            await self._fetch(order, job.stop, note)
        except Stopped:
            log.info("transfer_stopped")
            metrics.TRANSFERS.labels(result="Stopped").inc()
        except Exception as failure:  # The work item's boundary: the reconcile reports it and decides about a retry.
            error = failure
            metrics.TRANSFERS.labels(result=getattr(failure, "reason", "Internal")).inc()
        else:
            seconds = loop.time() - started
            log.info("transfer_done", bytes=order.bytes_total, seconds=round(seconds, 3))
            metrics.TRANSFERS.labels(result="Ok").inc()
            metrics.TRANSFERRED_BYTES.inc(order.bytes_total)
            metrics.TRANSFER_SECONDS.observe(seconds)
        finally:
            metrics.TRANSFERS_RUNNING.dec()
            self._running.discard(job)
        if error is not None and job.phase is not TransferPhase.STOPPING:
            self._failures.update(dict.fromkeys(job.models, Failure(order.digest, error)))
        del self._jobs[order.root, order.digest]
        for model_uid in job.models:
            del self._by_model[model_uid]
        self._tell(job)
        self._fill()

    def _tell(self, job: Job) -> None:
        for model_uid in job.models:
            self._on_change(model_uid)
