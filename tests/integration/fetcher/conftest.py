"""A fetcher on a node of its own for each test, with its driver and a real nats-server, and one hub per module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.fetcher.ground import NODE, SHARD
from tests.support.fetcher_node import Driver, FetcherNode, connected_driver, nats_configuration, running_node
from tests.support.hub import Hub, generated_model
from tests.support.nats_server import NatsServer, running_nats


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    with Hub(real_model=False) as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    """A hub with the model org/model, of two shards, and no faults."""
    shared_hub.add_model(
        "org/model", {"config.json": '{"model_type": "llama"}'}, generated=generated_model(2 * SHARD, 2)
    )
    shared_hub.forget_requests()
    yield shared_hub
    shared_hub.clear_faults()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration(NODE)) as server:
        yield server


@pytest.fixture
async def driver(server: NatsServer) -> AsyncIterator[Driver]:
    async with connected_driver(server, NODE) as driver:
        yield driver


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    async with running_node(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint}) as node:
        yield node
    assert "permissions violation" not in node.log.lower()
