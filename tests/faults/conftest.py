"""The cluster that the fault tests break, one for each module."""

from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, started_fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three nodes with everything installed."""
    with started_fleet(3) as fleet:
        yield fleet
