"""Files of somebody else among those of a model: a deletion says whose they are, and ends as soon as it can."""

import os

import pytest

from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_FAILED, NODE_PHASE_READY, REASON_DISK_ERROR
from tests.integration.fetcher.ground import URI
from tests.support.fetcher_node import Driver, FetcherNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")

AS_IN_ITS_CONTAINER = "tests.support.without_override"
STRANGER = 4711


async def hold(driver: Driver, node: FetcherNode) -> str:
    """A model that is Ready; the name of its artifact."""
    await node.start(AS_IN_ITS_CONTAINER)
    artifact = await driver.artifact(URI)
    await driver.state("a", NODE_PHASE_READY, await driver.hold("a", URI, artifact, "/models/a"))
    return artifact.digest.replace(":", "-")


async def test_an_artifact_that_was_given_to_somebody_else_is_named_until_it_can_be_removed(
    driver: Driver, node: FetcherNode
) -> None:
    name = await hold(driver, node)
    artifact = node.path(f"/models/.ome/artifacts/{name}")
    os.chown(artifact, STRANGER, STRANGER)

    revision = await driver.drop("a")
    state = await driver.state("a", NODE_PHASE_FAILED, revision)
    assert state.problem.reason == REASON_DISK_ERROR
    assert f"/models/.ome/artifacts/{name} belongs to uid {STRANGER}" in state.problem.message
    assert str(node.host) not in state.problem.message
    assert not os.path.lexists(node.path("/models/a")), "readers are told at once"
    assert artifact.exists()

    os.chown(artifact, os.geteuid(), -1)
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert node.leftovers() == []


async def test_a_cache_that_a_consumer_left_in_a_model_is_named_and_holds_no_deletion_up(
    driver: Driver, node: FetcherNode
) -> None:
    name = await hold(driver, node)
    cache = node.path(f"/models/.ome/artifacts/{name}/cache")
    cache.mkdir()
    (cache / "compiled").write_text("x")
    os.chown(cache, STRANGER, STRANGER)

    revision = await driver.drop("a")
    state = await driver.state("a", NODE_PHASE_FAILED, revision)
    assert state.problem.reason == REASON_DISK_ERROR
    assert f"/cache belongs to uid {STRANGER}" in state.problem.message
    assert "/models/.ome/trash/" in state.problem.message
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert [path.rpartition("/")[2] for path in node.leftovers()] == ["compiled"], "all that is ours is gone"

    os.chown(next(node.path("/models/.ome/trash").glob("*/cache")), os.geteuid(), -1)
    await node.stop()
    await node.start(AS_IN_ITS_CONTAINER)
    assert node.leftovers() == []
