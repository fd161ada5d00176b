"""What the fault tests break: a cluster for each module, or an origin and a store for each test of the transfer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.fetcher.store.artifacts import Store
from tests.support.fleet import Fleet, started_fleet
from tests.support.origin import OriginServer
from tests.support.transfers import new_store


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three nodes with everything installed."""
    with started_fleet(3) as fleet:
        yield fleet


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """An origin of files."""
    with OriginServer() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with new_store(tmp_path / "models") as opened:
        yield opened
