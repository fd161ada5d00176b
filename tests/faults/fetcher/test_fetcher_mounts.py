"""The file system of a model root fills, becomes read-only, and goes away and comes back, under a running fetcher."""

import pytest

from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_DISK_ERROR,
    REASON_INSUFFICIENT_DISK,
)
from tests.integration.fetcher.ground import SHARD, URI, hold_and_wait, listed_digests
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub
from tests.support.private_mount import PrivateMount, supported

pytestmark = pytest.mark.skipif(not supported(), reason="user namespaces are not allowed here")


MANY = 10_000


async def start(node: FetcherNode, size: int, files: int = MANY) -> PrivateMount:
    root = node.path("/models")
    await node.start("tests.support.private_mount", str(root), str(size), str(files))
    return PrivateMount(node.pid, root)


async def test_a_disk_that_is_too_small_is_said_with_its_numbers_and_taken_again_when_it_has_grown(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    mount = await start(node, SHARD)
    artifact = await driver.artifact(URI)
    hub.forget_requests()
    await driver.hold("a", URI, artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_INSUFFICIENT_DISK
    assert "/models has 8 MiB free; the model needs 16 MiB" in state.problem.message
    assert hub.requests() == []

    mount.resize(4 * SHARD, MANY)
    await driver.state("a", NODE_PHASE_READY)

    published = mount.path("a")
    assert listed_digests(hub, ["model-00001-of-00002.safetensors"])
    assert sum(path.stat().st_size for path in published.iterdir()) == artifact.bytes


async def test_a_disk_without_room_for_another_file_is_not_called_full(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/many", {f"{number}.json": f"{number}" for number in range(100)})
    mount = await start(node, SHARD, files=60)
    await driver.hold("a", "hf://org/many", await driver.artifact("hf://org/many"), "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_INSUFFICIENT_DISK
    assert "60 inodes" in state.problem.message

    mount.resize(SHARD, MANY)
    await driver.state("a", NODE_PHASE_READY)
    assert len(list(mount.path("a").iterdir())) == 100


async def test_a_root_that_becomes_read_only_keeps_what_is_ready_and_says_why_nothing_comes(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/small", {"config.json": "{}"})
    mount = await start(node, 8 * SHARD)
    await hold_and_wait(driver, "a", "/models/a")
    small = await driver.artifact("hf://org/small")

    mount.make_read_only()
    await driver.hold("b", "hf://org/small", small, "/models/b")
    state = await driver.state("b", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_DISK_ERROR
    assert "Read-only file system" in state.problem.message
    assert "/models/.ome/" in state.problem.message
    assert driver.phases("a")[-1] == NODE_PHASE_READY

    mount.make_writable()
    await driver.state("b", NODE_PHASE_READY)
    assert (mount.path("b") / "config.json").read_text() == "{}"


async def test_a_root_that_is_unmounted_is_not_filled_below_its_mount_point_and_is_whole_when_it_returns(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    root, elsewhere = node.path("/models"), node.host / "elsewhere"
    mount = await start(node, 8 * SHARD)
    await hold_and_wait(driver, "a", "/models/a")
    hub.forget_requests()

    mount.move(root, elsewhere)
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_DISK_ERROR
    assert "/models" in state.problem.message
    assert "unmounted" in state.problem.message
    assert list(root.iterdir()) == [], "what lies below a mount point is somebody else's disk"

    mount.move(elsewhere, root)
    await driver.state("a", NODE_PHASE_READY)
    assert hub.requests() == []
    assert (mount.path("a") / "config.json").exists()
