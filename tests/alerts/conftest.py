"""Fixtures of the tests of alert rules and metrics."""

from collections.abc import Iterator

import pytest

from tests.alerts.promtool import program
from tests.support.fleet import Fleet, started_fleet


@pytest.fixture(scope="session", autouse=True)
def built(request: pytest.FixtureRequest) -> None:
    """promtool, before a test begins: its build takes longer than a test may."""
    program()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two nodes with everything installed."""
    with started_fleet({"node-1": {}, "node-2": {}}) as fleet:
        yield fleet
