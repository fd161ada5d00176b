"""Which download of a node comes when: slots, priority, room on the disk, and limits that the downloads share.

And that no deletion waits for any of them.
"""

import re
from pathlib import Path

from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_DOWNLOADING,
    REASON_INSUFFICIENT_DISK,
    REASON_QUEUED,
    Artifact,
    Reason,
)
from tests.integration.fetcher.ground import NODE, SHARD, fetched_bytes, hold_and_wait
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Fault, Hub, generated_model
from tests.support.nats_server import NatsServer
from tests.support.small_disk import small_disk


async def hold_large(driver: Driver, hub: Hub, uid: str, priority: int = 0) -> Artifact:
    """Assign a model of one shard with content of its own."""
    hub.add_model(f"org/{uid}", generated=generated_model(SHARD, seed=sum(uid.encode())))
    artifact = await driver.artifact(f"hf://org/{uid}")
    await driver.hold(uid, f"hf://org/{uid}", artifact, priority=priority)
    return artifact


async def wait_for_reason(driver: Driver, uid: str, reason: Reason, seconds: float = 20) -> None:
    await driver.state(uid, lambda state: state.problem.reason == reason, seconds=seconds)


def fetched_in_order(hub: Hub) -> list[str]:
    """Models by the last request for their weights: what comes after that, as parsing, is done side by side."""
    paths = [request.path for request in hub.requests("/org/*/resolve/*.safetensors")]
    return list(dict.fromkeys(path.split("/")[2] for path in reversed(paths)))[::-1]


async def test_a_small_model_overtakes_large_ones_that_stall_and_no_deletion_waits(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await node.stop()
    await node.start(OME_SMALL_MODEL_BYTES="1000000", OME_CONNECTIONS_PER_ORIGIN="2")
    hub.add_model("org/small", {"config.json": "{}"})
    hub.add_model("org/before", {"config.json": "[]"})
    await hold_and_wait(driver, "before", "/models/before", "hf://org/before")
    stall = hub.inject(Fault("stall", path="*.safetensors"))
    for uid in ("one", "two", "three"):
        await hold_large(driver, hub, uid)
    stall.wait_fired(2)
    await wait_for_reason(driver, "three", REASON_QUEUED)

    await hold_and_wait(driver, "small", "/models/small", "hf://org/small")
    assert fetched_bytes(hub, "*.safetensors") < SHARD, "the large ones stall"
    metrics = await node.metrics()
    assert metrics["ome_fetcher_transfers_queued"] == 1
    assert 0 < metrics[f'ome_fetcher_origin_connections{{origin="{hub.cdn_endpoint}"}}'] <= 2

    for uid in ("before", "three", "one", "two", "small"):
        await driver.state(uid, NODE_PHASE_DELETED, await driver.drop(uid), seconds=15)
    assert node.leftovers() == []


async def test_a_deletion_does_not_wait_for_the_bandwidth(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_BANDWIDTH_BYTES_PER_SECOND="1")
    await hold_large(driver, hub, "one")
    await wait_for_reason(driver, "one", REASON_DOWNLOADING)

    await driver.state("one", NODE_PHASE_DELETED, await driver.drop("one"), seconds=15)

    assert node.leftovers() == []


async def test_a_raised_priority_makes_a_waiting_model_the_next(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_PARALLEL_DOWNLOADS="1", OME_SMALL_MODEL_BYTES="0")
    stall = hub.inject(Fault("stall", path="*.safetensors", after_bytes=1 << 20, count=1))
    await hold_large(driver, hub, "one", priority=5)
    stall.wait_fired()
    await hold_large(driver, hub, "two", priority=3)
    artifact = await hold_large(driver, hub, "three")
    await wait_for_reason(driver, "three", REASON_QUEUED)

    revision = await driver.hold("three", "hf://org/three", artifact, priority=4)
    await driver.state("three", lambda state: state.problem.reason == REASON_QUEUED, revision)
    stall.release()
    for uid in ("one", "two", "three"):
        await driver.state(uid, NODE_PHASE_READY)

    assert fetched_in_order(hub) == ["one", "three", "two"]


async def test_a_download_makes_room_for_a_more_important_one_and_loses_nothing(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await node.stop()
    await node.start(OME_PARALLEL_DOWNLOADS="1", OME_SMALL_MODEL_BYTES="0")
    stall = hub.inject(Fault("stall", path="*.safetensors", skip=2))
    await hold_large(driver, hub, "one")
    stall.wait_fired()
    stall.remove()
    await hold_large(driver, hub, "urgent", priority=1)
    await driver.state("urgent", NODE_PHASE_READY)
    await driver.state("one", NODE_PHASE_READY)

    assert fetched_in_order(hub) == ["urgent", "one"]
    assert "transfer_made_room" in node.log
    assert NODE_PHASE_FAILED not in driver.phases("one")


async def test_a_model_that_lacks_room_is_fetched_as_soon_as_another_is_removed(
    tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub
) -> None:
    patient = {"OME_RETRY_INITIAL_SECONDS": "600", "OME_RETRY_MAX_SECONDS": "600"}
    node = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint, **patient})
    node.path("/models").mkdir()
    with small_disk(node.path("/models"), SHARD * 3 // 2):
        try:
            await node.start()
            await hold_large(driver, hub, "one")
            await driver.state("one", NODE_PHASE_READY)
            await hold_large(driver, hub, "two")
            state = await driver.state("two", NODE_PHASE_FAILED)
            assert state.problem.reason == REASON_INSUFFICIENT_DISK
            assert re.search(r"has [\d.]+ MiB free.*; the model needs [\d.]+ MiB", state.problem.message)

            await driver.drop("one")
            await driver.state("two", NODE_PHASE_READY)
        finally:
            await node.stop()
