"""The transfers of this node: which wait, which run, whose they are, and how each ended.

One transfer per artifact, root and trust scope, however many models want it. Must not decide whether a failed one is
tried again.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import structlog

from ome.fetch.v1.fetch_pb2 import DownloadRate
from services.fetcher import metrics
from services.fetcher.model.observed import SourceAddress, Transfer, TransferPhase
from services.fetcher.model.rates import Rates
from services.fetcher.model.shares import Claim, Pace, Rank, Shares
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.scopes import Claimant, claimant_of
from services.fetcher.transfer.progress import Progress

# How often rates are looked at, at the most; a quarter of the time after which a transfer is too slow.
_LOOK_SECONDS = 15.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Order:
    """What is to be fetched, and on whose behalf the source is asked."""

    root: str
    digest: str
    damaged: tuple[str, ...]
    model_uid: str
    # Of the assignment that it comes from.
    revision: int
    uri: str
    # Of the listing that this model's plan rests on: the manifest's own may be another repository's with equal files.
    source_revision: str
    parameters: tuple[tuple[str, str], ...]
    has_secret: bool
    bytes_total: int
    priority: int
    # Of the model, as the assignment has them.
    trust_scopes: tuple[str, ...]
    # Of the model; empty for one of the whole cluster.
    namespace: str = ""

    @property
    def namespaced(self) -> bool:
        """Whether the model is one of a namespace, which may reach less."""
        return bool(self.namespace)

    @property
    def claimant(self) -> Claimant:
        """Whose the bytes are to be."""
        return claimant_of(self.model_uid, self.trust_scopes)

    @property
    def key(self) -> tuple[str, str, str, bool]:
        """What models that wait for one transfer have in common; the last says what they may reach."""
        return self.root, self.digest, self.claimant.scopes[0], self.namespaced

    @property
    def source(self) -> SourceAddress:
        """What is asked, and how."""
        return self.uri, self.parameters


@dataclass(frozen=True)
class Failure:
    """How a transfer ended that did not succeed."""

    order: Order
    error: Exception


@dataclass(frozen=True)
class Slots:
    """How many transfers run at the same time: so many of any size, and one more if it is small.

    So small artifacts have a slot that no large one can take. They take the free ones among the others as well.
    """

    count: int
    # Artifacts below this size are small; 0 takes the additional slot away.
    small_bytes: int = 0

    @property
    def total(self) -> int:
        """Transfers that can run at the same time."""
        return self.count + (self.small_bytes > 0)

    def is_small(self, order: Order) -> bool:
        """Whether an order may have the additional slot."""
        return order.bytes_total < self.small_bytes


@dataclass(eq=False)
class Job:
    """A transfer and the models that wait for it, each with its claim."""

    order: Order
    number: int
    models: dict[str, Claim] = field(default_factory=dict)
    stop: StopFlag = field(default_factory=StopFlag)
    phase: TransferPhase = TransferPhase.QUEUED
    progress: Progress | None = None
    # Bytes that were there when it began, from an earlier attempt.
    resumed_bytes: int = 0
    # When its rate was last looked at, and how far it was; whether that was too slow.
    looked_at: float = 0.0
    looked_bytes: int = 0
    slow: bool = False
    # It has given up its slot because it was slow: others go first until then.
    rests_until: float = 0.0
    # Since when it waits for a slot.
    waits_since: float = 0.0

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Those of the models that wait for it; while it is stopping, that of the one it was ordered for."""
        return tuple(self.models.values()) or (Claim(self.order.namespace, self.order.priority),)

    @property
    def bytes_done(self) -> int:
        """As far as is known."""
        return self.progress.bytes_done if self.progress else 0

    @property
    def moving(self) -> bool:
        """Whether it has brought bytes."""
        return self.progress is not None and self.progress.bytes_done > self.resumed_bytes


Fetch = Callable[[Order, StopFlag, Callable[[Progress], None]], Awaitable[None]]


class Downloads:
    """Transfers in a bounded number of slots, fair between namespaces: see shares.py. Within a namespace the larger
    priority is first, then the smaller artifact, then the older order.

    One that waits makes another make room, which has less of a claim, or is too slow for its slot; that one waits in
    its turn and goes on where it was.
    """

    def __init__(
        self,
        slots: Slots,
        fetch: Fetch,
        on_change: Callable[[str], None],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """fetch transfers one order and raises Stopped when told to stop; on_change is called for each model whose
        transfer begins or has ended. clock tells seconds since some moment.
        """
        self._slots = slots
        self._fetch = fetch
        self._on_change = on_change
        self._pace = pace or Pace()
        self._shares = Shares(self._pace)
        self._clock = clock
        self._jobs: dict[tuple[str, str, str, bool], Job] = {}
        self._by_model: dict[str, Job] = {}
        self._failures: dict[str, Failure] = {}
        self._numbers = itertools.count()
        self._waiting: set[Job] = set()
        self._running: set[Job] = set()
        self._group: asyncio.TaskGroup | None = None
        # How fast transfers go, also those that have ended.
        self._rates = Rates()

    def rates(self) -> list[DownloadRate]:
        """How fast the node has downloaded lately, by kind of source."""
        now = self._clock()
        for job in self._running:
            if job.progress:
                self._rates.saw(_scheme(job), job.progress.bytes_per_second, now)
        return [
            DownloadRate(scheme=scheme, bytes_per_second=rate, age_seconds=age)
            for scheme, rate, age in self._rates.told(now)
        ]

    async def run(self) -> None:
        """Run transfers until cancelled, which ends them as well; what they wrote stays for a resume."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._fill()
            try:
                # The group ends when it is cancelled, and its transfers with it.
                while True:
                    await asyncio.sleep(min(_LOOK_SECONDS, self._pace.slow_seconds / 4))
                    self.look()
            finally:
                # It takes no more then, and a transfer that ends makes room for another.
                self._group = None

    def start(self, order: Order) -> None:
        """Have an artifact fetched for a model, along with others that want it.

        Nothing happens while a transfer of it is stopping: the model is looked at again when it has.
        """
        job = self._jobs.get(order.key)
        if job is None:
            job = Job(order, next(self._numbers), waits_since=self._clock())
            self._jobs[order.key] = job
            self._waiting.add(job)
        job.models[order.model_uid] = Claim(order.namespace, order.priority)
        self._by_model[order.model_uid] = job
        self._fill()

    def prioritize(self, model_uid: str, priority: int) -> None:
        """Change how much a model needs its transfer, if it has one."""
        job = self._by_model.get(model_uid)
        if job is not None:
            job.models[model_uid] = Claim(job.models[model_uid].namespace, priority)
            self._fill()

    def look(self) -> None:
        """Look how fast the transfers are: one that is too slow gives up its slot as soon as another waits for it."""
        now, least = self._clock(), self._pace.least_bytes_per_second
        for job in self._running:
            seconds = now - job.looked_at
            if seconds >= self._pace.slow_seconds:
                # What an earlier attempt has left on the disk was not brought now.
                moved = job.bytes_done - max(job.looked_bytes, job.resumed_bytes)
                job.slow = moved < least * seconds
                job.looked_at, job.looked_bytes = now, job.bytes_done
        self._fill()

    def give_up(self, model_uid: str) -> None:
        """End a model's interest in its transfer; the last one's end stops it."""
        self._failures.pop(model_uid, None)
        job = self._by_model.get(model_uid)
        if job is None:
            return
        if len(job.models) > 1 or job.phase is TransferPhase.QUEUED:
            del self._by_model[model_uid]
            del job.models[model_uid]
            self._on_change(model_uid)
        if not job.models:
            self._waiting.discard(job)
            del self._jobs[job.order.key]
            self._count_waiting()
        elif job.models.keys() == {model_uid}:
            # It stays on the books until it has stopped: nobody may say that nothing is left while bytes are written.
            job.phase = TransferPhase.STOPPING
            job.stop.set()

    def get(self, model_uid: str) -> Transfer | None:
        """The transfer of a model, if it has one."""
        job = self._by_model.get(model_uid)
        if job is None:
            return None
        # A transfer that others wait for as well is not ended because one of them names another source.
        source = job.order.source if job.models.keys() == {job.order.model_uid} else None
        priority = job.models[model_uid].priority
        return Transfer(job.order.root, job.order.digest, job.phase, job.bytes_done, job.moving, priority, source)

    def take_failure(self, model_uid: str) -> Failure | None:
        """How the last transfer of a model failed; told once."""
        return self._failures.pop(model_uid, None)

    def progress(self) -> list[tuple[frozenset[str], Progress]]:
        """Models and progress of every transfer that runs."""
        return [(frozenset(job.models), job.progress) for job in self._running if job.progress]

    def _fill(self) -> None:
        while self._group and (job := self._next()):
            self._waiting.discard(job)
            job.phase = TransferPhase.RUNNING
            job.looked_at, job.looked_bytes, job.slow, job.rests_until = self._clock(), 0, False, 0.0
            self._shares.serve(job.claims)
            self._running.add(job)
            self._group.create_task(self._work(job))
            self._tell(job)
        self._make_room()
        self._count_waiting()

    def _next(self) -> Job | None:
        fitting = (job for job in self._waiting if self._fits(job, self._running))
        return min(fitting, key=self._rank, default=None)

    def _rank(self, job: Job) -> tuple[bool, Rank, int, int]:
        """Of two transfers, the one with the lower rank has the better claim."""
        rank = self._shares.rank(job.claims, [each.claims for each in self._running])
        return self._rests(job), rank, job.order.bytes_total, job.number

    def _rests(self, job: Job) -> bool:
        return job.rests_until > self._clock()

    def _fits(self, job: Job, running: Collection[Job]) -> bool:
        large = sum(1 for each in running if not self._slots.is_small(each.order))
        return len(running) < self._slots.total and (large < self._slots.count or self._slots.is_small(job.order))

    def _make_room(self) -> None:
        """Have a transfer wait again for one with a better claim. What it has verified stays for when it goes on."""
        if any(job.phase is not TransferPhase.RUNNING for job in self._running):
            # One is on its way out: the next look comes with its end.
            return
        running = [each.claims for each in self._running]
        for job in sorted((job for job in self._waiting if not self._rests(job)), key=self._rank):
            useful = [each for each in self._running if self._fits(job, self._running - {each})]
            slow = [each for each in useful if each.slow]
            yielding = slow or [each for each in useful if self._shares.makes_room(each.claims, job.claims, running)]
            last = max(yielding, key=self._rank, default=None)
            if last is not None:
                if last.slow:
                    last.rests_until = self._clock() + self._pace.slow_seconds
                last.phase = TransferPhase.YIELDING
                last.stop.set()
                return

    async def _work(self, job: Job) -> None:
        order = job.order
        log = _log.bind(model=order.model_uid, root=order.root, digest=order.digest)
        loop = asyncio.get_running_loop()
        started = loop.time()
        metrics.TRANSFERS_RUNNING.inc()
        error: Exception | None = None
        stopped, result = False, "Ok"

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
            if job.phase is TransferPhase.YIELDING:
                log.info("transfer_made_room", slow=job.slow)
                result = "MadeRoom"
            else:
                log.info("transfer_stopped")
                result = "Stopped"
            stopped = True
        except Exception as failure:  # The work item's boundary: the reconcile reports it and decides about a retry.
            error = failure
            result = getattr(failure, "reason", "Internal")
        else:
            log.info("transfer_done", bytes=order.bytes_total, seconds=round(loop.time() - started, 3))
        finally:
            seconds = loop.time() - started
            _count_end(job, result, seconds)
            self._rates.saw(_scheme(job), (job.bytes_done - job.resumed_bytes) / max(seconds, 0.001), self._clock())
            metrics.TRANSFERS_RUNNING.dec()
            self._running.discard(job)
        if stopped and job.phase is TransferPhase.YIELDING:
            job.phase, job.stop, job.progress, job.resumed_bytes = TransferPhase.QUEUED, StopFlag(), None, 0
            job.waits_since = self._clock()
            self._waiting.add(job)
            self._tell(job)
            self._fill()
            return
        if error is not None and job.phase is not TransferPhase.STOPPING:
            self._failures.update(dict.fromkeys(job.models, Failure(order, error)))
        del self._jobs[order.key]
        for model_uid in job.models:
            del self._by_model[model_uid]
        self._tell(job)
        self._fill()

    def _tell(self, job: Job) -> None:
        for model_uid in job.models:
            self._on_change(model_uid)

    def _count_waiting(self) -> None:
        namespaces = {claim.namespace for job in self._jobs.values() for claim in job.claims}
        self._shares.forget_all_but(namespaces)
        metrics.TRANSFERS_QUEUED.set(len(self._waiting))
        now = self._clock()
        metrics.QUEUE_AGE_SECONDS.set(max((now - job.waits_since for job in self._waiting), default=0.0))


def _scheme(job: Job) -> str:
    return job.order.uri.partition("://")[0]


def _count_end(job: Job, result: str, seconds: float) -> None:
    labels = {"backend": _scheme(job), "result": str(result)}
    bytes_done = job.progress.bytes_done if job.progress else 0
    metrics.TRANSFERS.labels(**labels).inc()
    metrics.TRANSFERRED_BYTES.labels(**labels).inc(max(0, bytes_done - job.resumed_bytes))
    metrics.TRANSFER_SECONDS.labels(**labels).observe(seconds)
