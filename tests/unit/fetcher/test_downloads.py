"""Which transfers run, wait, are shared and end, with transfers that the test itself lets end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from libs.chassis.errors import Unavailable
from services.fetcher.downloads import Downloads, Failure, Order
from services.fetcher.planning import TransferPhase
from services.fetcher.transfer.progress import Progress
from services.fetcher.transfer.stop import StopFlag, Stopped

BUSY = Unavailable("Unavailable", "the origin is busy")


def order(model: str, digest: str = "a", size: int = 10, priority: int = 0) -> Order:
    return Order("/models", digest, (), model, "hf://o/m", "c0ffee", (), False, size, priority)


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
        async with asyncio.timeout(2):
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
    downloads = Downloads(1, origin.fetch, origin.changes.put_nowait)
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


async def test_two_models_share_the_transfer_of_one_artifact(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("one"))
    downloads.start(order("two"))
    await asyncio.sleep(0)
    origin.end("a")
    await origin.ended(downloads, "one")

    assert origin.started == ["a"]
    assert downloads.get("two") is None


async def test_waiting_transfers_go_by_priority_then_size_then_age(downloads: Downloads, origin: Origin) -> None:
    downloads.start(order("first", "running"))
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

    failure = Failure("a", BUSY)
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
