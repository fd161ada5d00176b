"""Files of somebody else among those of a model: a deletion says whose they are, and ends as soon as it can."""

import os
import time

import pytest

from ome.fetch.v1.fetch_pb2 import PodUse
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


async def test_an_artifact_that_was_given_to_somebody_else_is_named_and_holds_no_deletion_up(
    driver: Driver, node: FetcherNode
) -> None:
    name = await hold(driver, node)
    artifact = node.path(f"/models/.ome/artifacts/{name}")
    given = [artifact, *artifact.iterdir()]
    for path in given:
        os.chown(path, STRANGER, STRANGER)

    revision = await driver.drop("a")
    state = await driver.state("a", NODE_PHASE_FAILED, revision)
    assert state.problem.reason == REASON_DISK_ERROR
    assert f"/models/.ome/artifacts/{name}." in state.problem.message
    assert f" belongs to uid {STRANGER}" in state.problem.message
    assert str(node.host) not in state.problem.message
    assert not os.path.lexists(node.path("/models/a")), "readers are told at once"
    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert not artifact.exists()
    [aside] = artifact.parent.iterdir()
    assert len(list(aside.iterdir())) == len(given) - 1

    # The same files can come again beside them.
    await driver.state("a", NODE_PHASE_READY, await driver.hold("a", URI, await driver.artifact(URI), "/models/a"))
    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"))

    os.chown(aside, os.geteuid(), -1)
    await node.stop()
    await node.start(AS_IN_ITS_CONTAINER)
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


async def test_a_cache_in_a_copy_that_a_pod_has_kept_longer_than_its_name_is_told_of_in_the_log(
    driver: Driver, node: FetcherNode
) -> None:
    name = await hold(driver, node)
    cache = node.path(f"/models/.ome/artifacts/{name}/cache")
    cache.mkdir()
    (cache / "compiled").write_text("x")
    os.chown(cache, STRANGER, STRANGER)
    use = PodUse(namespace="serving", name="server")
    use.since.FromSeconds(int(time.time()))
    driver.pods = {"/models/a": [use]}
    revision = await driver.drop("a")
    await driver.state("a", lambda state: any(each.use.pods for each in state.held))

    driver.pods = {}
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert [path.rpartition("/")[2] for path in node.leftovers()] == ["compiled"], "all that is ours is gone"
    told = [line for line in node.log.splitlines() if "foreign_files_kept" in line]
    assert told
    assert all(f"/cache belongs to uid {STRANGER}" in line for line in told)


async def test_a_model_root_of_somebody_else_is_a_fact_about_the_node_and_keeps_no_update_of_fetchers_waiting(
    driver: Driver, node: FetcherNode
) -> None:
    theirs = node.path("/raid/models")
    theirs.mkdir(parents=True)
    os.chown(theirs, STRANGER, STRANGER)
    await hold(driver, node)

    await driver.heartbeats(1)
    problems = {root.root: root.problem for root in (await driver.heartbeat()).roots}
    assert problems["/models"] == ""
    assert f"/raid/models cannot be used for models: it belongs to uid {STRANGER}" in problems["/raid/models"]
    assert (await node.metrics())['ome_fetcher_root_usable{root="/raid/models"}'] == 0
    revision = await driver.hold("b", URI, await driver.artifact(URI), "/raid/models/b")
    state = await driver.state("b", NODE_PHASE_FAILED, revision)
    assert (state.problem.reason, state.problem.message) == (REASON_DISK_ERROR, problems["/raid/models"])

    os.chown(theirs, os.geteuid(), -1)
    await driver.state("b", NODE_PHASE_READY, revision)
    # The first may have looked at the roots before.
    await driver.heartbeats(2)
    assert all(root.problem == "" and root.total_bytes > 0 for root in (await driver.heartbeat()).roots)
