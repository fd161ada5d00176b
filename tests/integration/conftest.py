"""Fixtures of the tests that run the whole system in a local cluster."""

from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, started_fleet


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
