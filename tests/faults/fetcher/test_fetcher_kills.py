"""The whole fetcher is killed at named points; the next one goes on from there."""

import signal

import pytest

from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_READY
from tests.integration.fetcher.ground import SHARD, URI, fetched_bytes, hold_and_wait, listed_digests, shards
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub


@pytest.mark.parametrize(
    "failpoint",
    ["chunk-recorded:3", "file-synced", "manifest-written", "artifact-renamed", "owner-written", "link-renamed"],
)
async def test_a_kill_on_the_way_to_ready_costs_at_most_what_was_not_verified(
    driver: Driver, node: FetcherNode, hub: Hub, failpoint: str
) -> None:
    await node.start(OME_FAILPOINT=failpoint)
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    assert await node.ended() == -signal.SIGKILL
    assert NODE_PHASE_READY not in driver.phases("a")

    await node.start()
    await driver.state("a", NODE_PHASE_READY)

    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")
    assert not list(node.path("/models/.ome/staging").iterdir())
    assert not list(node.path("/models/.ome/trash").iterdir())
    if failpoint in ("manifest-written", "artifact-renamed", "owner-written", "link-renamed"):
        assert fetched_bytes(hub, "*.safetensors") == 2 * SHARD


@pytest.mark.parametrize("failpoint", ["link-removed", "owner-removed", "artifact-trashed"])
async def test_a_kill_in_the_middle_of_a_deletion_ends_in_the_deletion(
    driver: Driver, node: FetcherNode, failpoint: str
) -> None:
    await node.start(OME_FAILPOINT=failpoint)
    await hold_and_wait(driver, "a", "/models/a")
    revision = await driver.drop("a")
    assert await node.ended() == -signal.SIGKILL

    await node.start()
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == []
