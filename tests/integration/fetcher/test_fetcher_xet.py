"""The fetcher with models that come through Xet storage: what the operator sets, and how such a download ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, NODE_PHASE_READY
from tests.integration.fetcher.ground import NODE, SHARD, URI, shards
from tests.support.child_processes import child_processes
from tests.support.fetcher_node import Driver, FetcherNode, running_node
from tests.support.hub import Fault, Hub, generated_model
from tests.support.nats_server import NatsServer


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    hub.configure(xet=True)
    environ = {"HF_ENDPOINT": hub.endpoint, "OME_HF_TRANSPORT": "xet"}
    async with running_node(tmp_path, server.url, NODE, environ) as node:
        yield node
    hub.configure(xet=False)


async def test_a_gated_model_comes_over_xet_and_its_token_is_not_logged(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/gated", {"config.json": "{}"}, generated=generated_model(2 * SHARD, 2), gated=True)
    hub.add_token("hf_secret_token", ["org/gated"])
    driver.secrets["a"] = {"token": b"hf_secret_token"}

    await driver.hold("a", "hf://org/gated", await driver.artifact("hf://org/gated", uid="a"), "/models/a")
    await driver.state("a", NODE_PHASE_READY)

    assert len(shards(node, "/models/a")) == 2
    assert hub.sent_bytes("/xorbs/*") > 2 * SHARD
    assert hub.requests(port="cdn") == []
    assert "hf_secret_token" not in node.log
    assert child_processes(node.pid) == []


async def test_deletion_ends_a_download_over_xet_that_hangs(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    stall = hub.inject(Fault("stall", path="/xorbs/*", port="cas"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    assert len(child_processes(node.pid)) == 1

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision, seconds=15)

    assert node.leftovers() == []
    assert child_processes(node.pid) == []


async def test_a_fetcher_that_is_stopped_ends_its_download_over_xet(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    stall = hub.inject(Fault("stall", path="/xorbs/*", port="cas"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    (process,) = child_processes(node.pid)

    assert await node.stop() == 0

    assert not Path(f"/proc/{process}").exists()
    stall.release()
    await node.start()
    await driver.state("a", NODE_PHASE_READY)
