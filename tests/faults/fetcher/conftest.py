"""A whole fetcher process whose surroundings fail, with its driver, a real nats-server and a local hub."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.fetcher.conftest import driver, hub, server, shared_hub
from tests.integration.fetcher.ground import NODE
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub
from tests.support.nats_server import NatsServer

__all__ = ["driver", "hub", "server", "shared_hub"]


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    """A fetcher that is not started yet, and looks at its disk several times a second."""
    node = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint, "OME_RECHECK_SECONDS": "0.3"})
    try:
        yield node
    finally:
        await node.stop()
        print(node.log)
        assert "Traceback" not in node.log
