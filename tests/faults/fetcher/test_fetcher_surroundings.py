"""What a fetcher shares with others fails: its root, its name server, its disk's mount."""

import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_UNAVAILABLE,
    Artifact,
)
from tests.integration.fetcher.ground import NODE, URI, fetched_bytes, hold_and_wait
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub
from tests.support.nats_server import NatsServer


@pytest.fixture
async def other(tmp_path: Path, server: NatsServer, hub: Hub, node: FetcherNode) -> AsyncIterator[FetcherNode]:
    """A second process for the same node, as in the middle of a rollout."""
    other = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint, "OME_RECHECK_SECONDS": "0.3"})
    try:
        yield other
    finally:
        await other.stop()
        print(other.log)


async def test_two_fetchers_on_one_root_do_not_contradict_each_other_and_the_second_takes_over(
    driver: Driver, node: FetcherNode, other: FetcherNode, hub: Hub
) -> None:
    await node.start()
    artifact = await hold_and_wait(driver, "a", "/models/a")
    await other.launch(OME_RETRY_MAX_SECONDS="60")
    await other.unready("another fetcher already keeps the models below /models")
    # What is asked for last is answered last, by both.
    await driver.hold("b", URI, artifact, "/models/b")
    await driver.state("b", NODE_PHASE_READY)
    await driver.heartbeats(4)
    assert NODE_PHASE_FAILED not in driver.phases("a") + driver.phases("b")

    assert await node.stop() == 0
    await other.ready()
    await driver.state("c", NODE_PHASE_READY, await driver.hold("c", URI, artifact, "/models/c"))

    assert NODE_PHASE_FAILED not in driver.phases("a") + driver.phases("b") + driver.phases("c")
    assert fetched_bytes(hub, "*/model-00001-*") == fetched_bytes(hub, "*/model-00002-*")
    assert len(list(node.path("/models/.ome/artifacts").iterdir())) == 1


async def test_a_root_that_another_process_keeps_for_good_fails_its_models_with_a_reason(
    driver: Driver, node: FetcherNode
) -> None:
    node.path("/models/.ome").mkdir(parents=True)
    with node.path("/models/.ome/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await node.launch()
        artifact = Artifact(digest="sha256:" + "0" * 64, bytes=1, files=1)
        await driver.hold("a", URI, artifact, "/models/a")
        state = await driver.state("a", NODE_PHASE_FAILED)
    assert "another fetcher already keeps the models below /models" in state.problem.message


async def test_a_name_that_cannot_be_looked_up_is_unavailable_for_the_listing_and_for_the_download(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    nowhere = {"endpoint": "http://hub.invalid"}
    await node.start()
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/a", parameters=nowhere)
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_UNAVAILABLE
    assert "cannot connect to hub.invalid" in state.problem.message
    assert state.problem.HasField("retry_at")

    revision = await driver.hold("a", URI, artifact, "/models/a")
    await driver.state("a", NODE_PHASE_READY, revision)
    await node.stop()

    await node.start(HF_ENDPOINT="http://hub.invalid")
    resolution = await driver.resolve(URI, uid="another")
    assert resolution.problem.reason == REASON_UNAVAILABLE
    assert "hub.invalid" in resolution.problem.message
