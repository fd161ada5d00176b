"""A whole fetcher whose disk is full: models that may go make room for others, and come back when they are needed."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from ome.fetch.v1.fetch_pb2 import RESIDENCY_EVICTABLE, RESIDENCY_EVICTED, PodUse
from ome.model.v1.model_pb2 import (
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_EVICTED,
    REASON_INSUFFICIENT_DISK,
)
from tests.integration.fetcher.ground import NODE, SHARD
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub, generated_model
from tests.support.nats_server import NatsServer
from tests.support.small_disk import small_disk


@pytest_asyncio.fixture
async def full(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    """A node with room for two models of a shard each, without watermarks."""
    node = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint, "OME_HIGH_WATERMARK_PERCENT": "100"})
    node.path("/models").mkdir()
    with small_disk(node.path("/models"), SHARD * 5 // 2):
        try:
            await node.start()
            yield node
        finally:
            await node.stop()


async def hold(driver: Driver, hub: Hub, uid: str, **fields: Any) -> int:
    """Have the node hold a model of a shard; the revision of the assignment."""
    hub.add_model(f"org/{uid}", {"config.json": "{}"}, generated=generated_model(SHARD, seed=sum(uid.encode())))
    artifact = await driver.artifact(f"hf://org/{uid}", uid=f"list-{uid}")
    return await driver.hold(uid, f"hf://org/{uid}", artifact, f"/models/{uid}", **fields)


async def hold_evictable(driver: Driver, hub: Hub, uid: str, **fields: Any) -> None:
    """The same of a model that may go, once it is there."""
    revision = await hold(driver, hub, uid, residency=RESIDENCY_EVICTABLE, **fields)
    await driver.state(uid, NODE_PHASE_READY, revision)


def pod() -> PodUse:
    use = PodUse(namespace="serving", name="llama-0")
    use.since.FromSeconds(int(time.time()) - 60)
    return use


async def test_a_model_that_lacks_room_gets_that_of_the_one_that_was_not_used_for_longest(
    driver: Driver, full: FetcherNode, hub: Hub
) -> None:
    for uid in ("one", "two", "three"):
        await hold_evictable(driver, hub, uid)
    evicted = await driver.state("one", NODE_PHASE_EVICTED)
    assert evicted.problem.reason == REASON_EVICTED
    assert not evicted.artifact.digest
    assert not full.path("/models/one").is_symlink()
    assert (full.path("/models/two") / "config.json").is_file()
    assert NODE_PHASE_FAILED not in driver.phases("three"), "room could be made, so it did not lack any"

    # A restart brings nothing back.
    await full.stop()
    hub.forget_requests()
    await full.start()
    await driver.state("three", NODE_PHASE_READY)
    await driver.state("one", NODE_PHASE_EVICTED)
    assert not list(hub.requests(port="cdn"))

    # Somebody asks for it.
    await hold_evictable(driver, hub, "one", demand="r-1")
    await driver.state("two", NODE_PHASE_EVICTED)
    assert (full.path("/models/one") / "config.json").is_file()


async def test_what_a_pod_uses_makes_no_room_and_the_model_that_lacks_it_says_so(
    driver: Driver, full: FetcherNode, hub: Hub
) -> None:
    await hold_evictable(driver, hub, "one")
    await hold_evictable(driver, hub, "two")
    driver.pods = {"/models/one": [pod()], "/models/two": [pod()]}
    await hold(driver, hub, "three", residency=RESIDENCY_EVICTABLE)
    state = await driver.state("three", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_INSUFFICIENT_DISK

    driver.pods = {"/models/one": [pod()]}
    await driver.state("three", NODE_PHASE_READY)
    await driver.state("two", NODE_PHASE_EVICTED)
    assert (full.path("/models/one") / "config.json").is_file()


async def test_nodes_give_up_a_model_when_they_are_asked_to_and_take_it_back(
    driver: Driver, full: FetcherNode, hub: Hub
) -> None:
    revision = await hold(driver, hub, "one")
    await driver.state("one", NODE_PHASE_READY, revision)
    await hold(driver, hub, "one", residency=RESIDENCY_EVICTED)
    await driver.state("one", NODE_PHASE_EVICTED)
    assert not full.path("/models/one").is_symlink()
    # As OME has it: the intent is taken away, and the asking has a name.
    revision = await hold(driver, hub, "one", demand="rehydrate-1")
    await driver.state("one", NODE_PHASE_READY, revision)
    await driver.drop("one")
    await driver.state("one", lambda state: state.phase not in (NODE_PHASE_READY, NODE_PHASE_EVICTED))
