"""A tenant's models trickle, are many and call themselves urgent: others have their share of a node's slots."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress

import pytest

from services.fetcher.model.downloads import Downloads, Order, Slots
from services.fetcher.model.shares import Pace
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.transfer.progress import Progress

MOST_PRIORITY = 999_999_999


class Node:
    """Transfers that end only when they are told to, and a clock that goes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.running: dict[str, Callable[[Progress], None]] = {}
        self.bytes: Counter[str] = Counter()

    async def fetch(self, order: Order, stop: StopFlag, note: Callable[[Progress], None]) -> None:
        self.running[order.digest] = note
        try:
            while not stop.is_set():
                await asyncio.sleep(0)
        finally:
            del self.running[order.digest]
        raise Stopped

    def pass_time(self, seconds: float, bytes_per_second: float, names: Collection[str]) -> None:
        """Let time pass, in which some transfers bring bytes at a rate."""
        self.seconds += seconds
        for name in names:
            self.bytes[name] += int(seconds * bytes_per_second)
            self.running[name](Progress(self.bytes[name], 1 << 50, 0, 1, 0, 0))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def downloads(node: Node) -> AsyncIterator[Downloads]:
    pace = Pace(least_bytes_per_second=1000, slow_seconds=300)
    downloads = Downloads(Slots(2, small_bytes=50), node.fetch, lambda uid: None, pace, lambda: node.seconds)
    running = asyncio.create_task(downloads.run())
    yield downloads
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def order(name: str, namespace: str, size: int = 100, priority: int = 0) -> Order:
    return Order("/models", name, (), name, 1, "hf://o/m", "c0ffee", (), False, size, priority, (), namespace)


async def settled(node: Node) -> set[str]:
    """Names of what runs when nothing changes any more."""
    before: set[str] | None = None
    for _ in range(200):
        for _ in range(5):
            await asyncio.sleep(0)
        if before == (before := set(node.running)):
            break
    return set(node.running)


async def test_the_most_urgent_models_of_a_tenant_leave_others_a_slot(downloads: Downloads, node: Node) -> None:
    for number in range(20):
        downloads.start(order(f"evil-{number}", "evil", priority=MOST_PRIORITY))
    await settled(node)
    downloads.start(order("good", "good"))
    assert "good" in await settled(node)


async def test_hundreds_of_small_models_leave_the_small_one_of_another_its_turn(
    downloads: Downloads, node: Node
) -> None:
    for number in range(300):
        downloads.start(order(f"evil-{number}", "evil", size=1, priority=MOST_PRIORITY))
    await settled(node)
    downloads.start(order("good", "good", size=49))
    assert "good" in await settled(node)


async def test_transfers_that_trickle_give_up_their_slots_to_those_that_wait_and_go_on_later(
    downloads: Downloads, node: Node
) -> None:
    # Four namespaces of one tenant, two of which have the slots; each keeps its connection alive with some bytes.
    for number in range(4):
        downloads.start(order(f"evil-{number}", f"evil-{number}", priority=MOST_PRIORITY))
    assert await settled(node) == {"evil-0", "evil-1"}
    downloads.start(order("good", "good"))
    assert "good" not in await settled(node)
    ran: list[set[str]] = []
    for _ in range(12):
        running = await settled(node)
        ran.append(running)
        node.pass_time(100, 10, running)
        downloads.look()
    assert any("good" in names for names in ran[:7])
    # Those that gave up their slots have them again when others have had theirs.
    assert {name for names in ran[3:] for name in names} >= {"evil-0", "evil-1", "good"}


async def test_a_slow_transfer_keeps_its_slot_while_nobody_waits_and_gives_it_up_when_somebody_does(
    downloads: Downloads, node: Node
) -> None:
    downloads.start(order("slow", "a"))
    downloads.start(order("fast", "b"))
    for _ in range(10):
        assert await settled(node) == {"slow", "fast"}
        node.pass_time(100, 10, {"slow"})
        node.pass_time(0, 0, {"fast"})
        node.bytes["fast"] += 1_000_000
        node.running["fast"](Progress(node.bytes["fast"], 1 << 50, 0, 1, 0, 0))
        downloads.look()
    downloads.start(order("new", "c"))
    assert await settled(node) == {"fast", "new"}
    # It rests for as long as it was watched, also while a slot is free that others wait for.
    downloads.give_up("fast")
    assert await settled(node) == {"new", "slow"}


async def test_what_was_on_the_disk_already_makes_a_slow_transfer_no_faster(downloads: Downloads, node: Node) -> None:
    node.bytes["slow"] = 1 << 40
    downloads.start(order("slow", "a"))
    downloads.start(order("other", "b", size=1))
    await settled(node)
    node.pass_time(300, 0, {"slow", "other"})
    downloads.look()
    downloads.start(order("new", "c"))
    downloads.start(order("newer", "d"))
    await settled(node)
    assert not {"slow"} & await settled(node)


async def test_a_priority_counts_across_namespaces_only_as_far_as_the_operator_lets_it(node: Node) -> None:
    downloads = Downloads(Slots(1), node.fetch, lambda uid: None, Pace(most_priority_across=10))
    running = asyncio.create_task(downloads.run())
    downloads.start(order("one", "a", priority=MOST_PRIORITY))
    downloads.start(order("two", "b", priority=10))
    assert await settled(node) == {"one"}
    downloads.start(order("operators", "", priority=11))
    assert await settled(node) == {"operators"}
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
