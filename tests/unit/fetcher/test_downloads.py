"""Which transfers run, wait, are shared and end, with transfers that the test itself lets end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from services.fetcher.model.downloads import Downloads, Failure, Order, Slots
from services.fetcher.model.observed import SourceAddress, TransferPhase
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.transfer.progress import Progress

BUSY = Unavailable(Reason.UNAVAILABLE, "the origin is busy")


def order(model: str, digest: str = "a", size: int = 10, priority: int = 0, scope: str = "all") -> Order:
    scopes = (scope,)
    return Order("/models", digest, (), model, 1, "hf://o/m", "c0ffee", (), False, size, priority, scopes)


class Origin:
    """Transfers that end when the test says so, or when they are told to stop."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.notes: dict[str, Callable[[Progress], None]] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._stops: dict[str, StopFlag] = {}
        self.changes: asyncio.Queue[str] = asyncio.Queue()

    async def fetch(self, order: Order, stop: StopFlag, note: Callable[[Progress], None]) -> None:
        self.started.append(order.digest)
        self.notes[order.digest], self._stops[order.digest] = note, stop
        self._ends[order.digest] = asyncio.get_running_loop().create_future()
        await self._ends[order.digest]

    def end(self, digest: str, error: Exception | None = None) -> None:
        if error:
            self._ends[digest].set_exception(error)
        else:
            self._ends[digest].set_result(None)

    def told_to_stop(self, digest: str) -> bool:
        return self._stops[digest].is_set()

    async def changed(self, model: str) -> None:
        async with asyncio.timeout(10):
            while await self.changes.get() != model:
                pass

    async def ended(self, downloads: Downloads, model: str) -> None:
        while downloads.get(model):
            await self.changed(model)


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
async def downloads(origin: Origin) -> AsyncIterator[Downloads]:
    downloads = Downloads(Slots(1), origin.fetch, origin.changes.put_nowait)
    running = asyncio.create_task(downloads.run())
    await asyncio.sleep(0)
    yield downloads
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def phase(downloads: Downloads, model: str) -> TransferPhase | None:
    transfer = downloads.get(model)
    return transfer.phase if transfer else None


async def test_transfers_beyond_the_slots_wait(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", "a"))
    downloads.start(order("two", "b"))
    assert (phase(downloads, "one"), phase(downloads, "two")) == (TransferPhase.RUNNING, TransferPhase.QUEUED)

    await asyncio.sleep(0)
    origin.end("a")
    await origin.ended(downloads, "one")

    assert phase(downloads, "two") is TransferPhase.RUNNING


async def test_the_age_of_the_queue_is_that_of_its_oldest_transfer(origin: Origin) -> None:
    now = 100.0
    downloads = Downloads(Slots(1), origin.fetch, origin.changes.put_nowait, clock=lambda: now)
    running = asyncio.create_task(downloads.run())
    await asyncio.sleep(0)

    def age() -> float | None:
        downloads.look()
        return REGISTRY.get_sample_value("ome_fetcher_queue_age_seconds")

    downloads.start(order("one", "a"))
    now = 150.0
    assert age() == 0.0, "what runs does not wait"
    downloads.start(order("two", "b"))
    now = 200.0
    downloads.start(order("three", "c"))
    now = 210.0
    assert age() == 60.0
    downloads.give_up("two")
    assert age() == 10.0
    downloads.give_up("three")
    assert age() == 0.0
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_two_models_share_the_transfer_of_one_artifact(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    downloads.start(order("two"))
    await asyncio.sleep(0)
    origin.end("a")
    await origin.ended(downloads, "one")

    assert origin.started == ["a"]
    assert downloads.get("two") is None


async def test_models_of_different_scopes_wait_for_transfers_of_their_own(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", scope="one"))
    downloads.start(order("two", scope="two"))
    await asyncio.sleep(0)
    assert downloads.get("two") is not None
    downloads.give_up("one")
    assert phase(downloads, "two") is not TransferPhase.STOPPING


async def test_a_model_that_may_reach_less_waits_for_no_transfer_of_one_that_may_reach_more(
    downloads: Downloads, origin: Origin
) -> None:
    downloads.start(order("one"))
    downloads.start(replace(order("two"), namespace="team-a"))
    downloads.give_up("one")
    assert phase(downloads, "two") is not TransferPhase.STOPPING


async def test_waiting_transfers_go_by_priority_then_size_then_age(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("first", "running", priority=1))
    downloads.start(order("big", "big", size=100))
    downloads.start(order("small", "small", size=1))
    downloads.start(order("small too", "small too", size=1))
    downloads.start(order("urgent", "urgent", size=1000, priority=1))
    for digest in ("running", "urgent", "small", "small too", "big"):
        while digest not in origin.started:
            await asyncio.sleep(0)
        origin.end(digest)
    await origin.ended(downloads, "big")

    assert origin.started == ["running", "urgent", "small", "small too", "big"]


async def test_a_transfer_runs_on_for_those_who_still_want_it(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    downloads.start(order("two"))
    await asyncio.sleep(0)
    downloads.give_up("one")

    assert downloads.get("one") is None
    assert not origin.told_to_stop("a")
    assert phase(downloads, "two") is TransferPhase.RUNNING


async def test_what_a_transfer_asks_is_for_its_model_to_change_only_while_no_other_waits_for_it(
    downloads: Downloads, origin: Origin
) -> None:
    def source(model: str) -> SourceAddress | None:
        transfer = downloads.get(model)
        assert transfer
        return transfer.source

    downloads.start(order("one"))
    assert source("one") == ("hf://o/m", ())
    downloads.start(order("two"))
    assert (source("one"), source("two")) == (None, None)
    downloads.give_up("one")
    assert source("two") is None


async def test_a_transfer_that_nobody_wants_stops_and_is_on_the_books_until_then(
    downloads: Downloads, origin: Origin
) -> None:
    downloads.start(order("one"))
    await asyncio.sleep(0)
    downloads.give_up("one")

    assert origin.told_to_stop("a")
    assert phase(downloads, "one") is TransferPhase.STOPPING
    origin.end("a", Stopped())
    await origin.ended(downloads, "one")
    assert downloads.take_failure("one") is None


async def test_a_transfer_that_still_waits_is_given_up_at_once(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", "a"))
    downloads.start(order("two", "b"))
    await asyncio.sleep(0)
    downloads.give_up("two")
    assert downloads.get("two") is None

    origin.end("a")
    await origin.ended(downloads, "one")
    assert origin.started == ["a"]


async def test_a_transfer_that_is_stopping_is_not_joined(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    await asyncio.sleep(0)
    downloads.give_up("one")
    downloads.start(order("two"))
    assert phase(downloads, "two") is TransferPhase.STOPPING

    origin.end("a", Stopped())
    await origin.ended(downloads, "two")
    downloads.start(order("two"))

    assert phase(downloads, "two") is TransferPhase.RUNNING


async def test_a_failure_is_told_once_to_each_model(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    downloads.start(order("two"))
    await asyncio.sleep(0)
    origin.end("a", BUSY)
    await origin.ended(downloads, "one")

    failure = Failure(order("one"), BUSY)
    assert [downloads.take_failure(model) for model in ("one", "two", "one")] == [failure, failure, None]


async def test_a_defect_of_one_transfer_leaves_the_others_alone(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", "a"))
    downloads.start(order("two", "b"))
    await asyncio.sleep(0)
    origin.end("a", ZeroDivisionError())
    await origin.ended(downloads, "one")

    failure = downloads.take_failure("one")
    assert failure
    assert isinstance(failure.error, ZeroDivisionError)
    assert phase(downloads, "two") is TransferPhase.RUNNING


async def test_the_first_new_byte_is_news_and_what_was_resumed_is_not(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    await origin.changed("one")
    while "a" not in origin.notes:
        await asyncio.sleep(0)

    origin.notes["a"](Progress(5, 10, 0, 1, 0, 0))
    await asyncio.sleep(0)
    transfer = downloads.get("one")
    assert transfer
    assert not transfer.moving
    assert origin.changes.empty()

    origin.notes["a"](Progress(6, 10, 0, 1, 0, 0))
    await origin.changed("one")
    transfer = downloads.get("one")
    assert transfer
    assert transfer.moving
    assert transfer.bytes_done == 6


@pytest.fixture
async def two_slots(origin: Origin) -> AsyncIterator[Downloads]:
    """Two slots for anything and one more for what is smaller than 50 bytes."""
    downloads = Downloads(Slots(2, small_bytes=50), origin.fetch, origin.changes.put_nowait)
    running = asyncio.create_task(downloads.run())
    await asyncio.sleep(0)
    yield downloads
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_small_transfer_does_not_wait_for_large_ones(two_slots: Downloads) -> None:
    for name in ("big", "big too", "big three"):
        two_slots.start(order(name, name, size=50))
    two_slots.start(order("small", "small", size=49))
    two_slots.start(order("small too", "small too", size=49))

    phases = [phase(two_slots, name) for name in ("big", "big too", "big three", "small", "small too")]
    running, queued = TransferPhase.RUNNING, TransferPhase.QUEUED
    assert phases == [running, running, queued, running, queued]


async def test_small_transfers_take_every_free_slot(two_slots: Downloads) -> None:
    names = ("small", "small too", "small three", "small four")
    for name in names:
        two_slots.start(order(name, name, size=1))
    running, queued = TransferPhase.RUNNING, TransferPhase.QUEUED
    assert [phase(two_slots, name) for name in names] == [running, running, running, queued]


async def test_large_transfers_that_run_keep_their_slots_however_many_small_ones_come(
    two_slots: Downloads, origin: Origin
) -> None:
    for name in ("big", "big too"):
        two_slots.start(order(name, name, size=50))
    for name in ("small", "small too", "small three"):
        two_slots.start(order(name, name, size=1))
        await asyncio.sleep(0)
    origin.end("small")
    await origin.ended(two_slots, "small")

    running, queued = TransferPhase.RUNNING, TransferPhase.QUEUED
    names = ("big", "big too", "small too", "small three")
    assert [phase(two_slots, name) for name in names] == [running, running, running, queued]
    assert not any(origin.told_to_stop(name) for name in ("big", "big too"))


async def test_a_changed_priority_changes_who_is_next(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("first", "running", priority=9))
    downloads.start(order("one", "one"))
    downloads.start(order("two", "two"))
    downloads.prioritize("two", 1)
    transfer = downloads.get("two")
    assert transfer
    assert transfer.priority == 1
    await asyncio.sleep(0)
    origin.end("running")
    await origin.ended(downloads, "first")

    assert phase(downloads, "two") is TransferPhase.RUNNING


async def test_a_transfer_is_as_important_as_the_model_that_needs_it_most(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("first", "running", priority=9))
    downloads.start(order("one", "one"))
    downloads.start(order("two", "two"))
    downloads.start(order("urgent", "two", priority=1))
    await asyncio.sleep(0)
    origin.end("running")
    await origin.ended(downloads, "first")

    assert phase(downloads, "two") is TransferPhase.RUNNING
    assert phase(downloads, "one") is TransferPhase.QUEUED


async def test_a_transfer_makes_room_for_a_more_important_one_and_goes_on_after_it(
    downloads: Downloads, origin: Origin
) -> None:
    downloads.start(order("one", "a"))
    await asyncio.sleep(0)
    downloads.start(order("urgent", "b", priority=1))
    assert origin.told_to_stop("a")
    assert phase(downloads, "one") is TransferPhase.YIELDING
    origin.end("a", Stopped())
    while "b" not in origin.started:
        await asyncio.sleep(0)
    assert phase(downloads, "one") is TransferPhase.QUEUED
    origin.end("b")
    await origin.ended(downloads, "urgent")
    while origin.started != ["a", "b", "a"]:
        await asyncio.sleep(0)

    assert not origin.told_to_stop("a")
    origin.end("a")
    await origin.ended(downloads, "one")
    assert downloads.take_failure("one") is None


async def test_no_transfer_makes_room_for_an_equal_one(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", "a", size=100, priority=1))
    await asyncio.sleep(0)
    downloads.start(order("two", "b", size=1, priority=1))
    assert not origin.told_to_stop("a")


async def test_a_small_transfer_does_not_make_room_where_that_would_not_help(
    two_slots: Downloads, origin: Origin
) -> None:
    two_slots.start(order("small", "small", size=1))
    two_slots.start(order("big", "big", size=100, priority=2))
    two_slots.start(order("big too", "big too", size=100, priority=1))
    await asyncio.sleep(0)
    two_slots.start(order("urgent", "urgent", size=100, priority=3))

    assert not origin.told_to_stop("small")
    assert [origin.told_to_stop(name) for name in ("big", "big too")] == [False, True]


async def test_a_transfer_that_makes_room_and_is_given_up_does_not_come_back(
    downloads: Downloads, origin: Origin
) -> None:
    downloads.start(order("one", "a"))
    await asyncio.sleep(0)
    downloads.start(order("urgent", "b", priority=1))
    downloads.give_up("one")
    origin.end("a", Stopped())
    await origin.ended(downloads, "one")

    assert phase(downloads, "urgent") is TransferPhase.RUNNING
    assert origin.started == ["a"]


async def test_a_transfer_that_ends_while_it_should_make_room_has_ended(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one", "a"))
    await asyncio.sleep(0)
    downloads.start(order("urgent", "b", priority=1))
    origin.end("a")
    await origin.ended(downloads, "one")

    assert phase(downloads, "urgent") is TransferPhase.RUNNING


async def test_what_ends_while_all_of_them_end_makes_room_for_nothing_more() -> None:
    started, ending, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def fetch(order: Order, stop: StopFlag, note: Callable[[Progress], None]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await end.wait()
            raise BUSY

    downloads = Downloads(Slots(1), fetch, lambda uid: None)
    running = asyncio.create_task(downloads.run())
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        downloads.start(order("m"))
        downloads.start(order("waits", digest="b"))
        await started.wait()
        running.cancel()
        await ending.wait()
        downloads.start(order("n", digest="c"))
        end.set()
        await asyncio.wait([running])
    assert running.cancelled()
    assert phase(downloads, "waits") is TransferPhase.QUEUED
