"""Fixtures of the tests that run the whole system in a local cluster, or a server of NATS alone."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from tests.support.fleet import Fleet, started_fleet
from tests.support.nats_server import NatsServer, running_nats


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three nodes with everything installed; node-1 and node-2 have GPUs, their disks differ."""
    nodes = {
        "node-1": {"gpu": "H100", "models.ome.io/available-storage": "2Ti"},
        "node-2": {"gpu": "A100", "models.ome.io/available-storage": "80Gi"},
        "node-3": {},
    }
    with started_fleet(nodes) as fleet:
        yield fleet


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of NATS in which everybody may do everything."""
    async with running_nats(tmp_path) as server:
        yield server


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    """A connection as services have it."""
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        yield client
