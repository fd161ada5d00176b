"""Shows the logs of a cluster with the failure of a test that used one, and leaves out what needs real nodes."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from libs.chassis.tasks import keep_cancellations
from tools.localcluster import addresses
from tools.node.configuration import RUN

# `make e2e` runs these, in a machine of their own.
collect_ignore = [] if RUN in os.environ else ["e2e"]


# How fast examples are made says more about the machine and its other work than about the test.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    # As every service does when it begins.
    keep_cancellations()
    # A port that was found free is bound a moment later: processes that look side by side look among different ones.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    addresses.PORTS = addresses.PORTS[worker % workers :: workers]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for fixture in item.funcargs.values():
            # A cluster itself, or something built around one.
            cluster = getattr(fixture, "cluster", fixture)
            if callable(diagnostics := getattr(cluster, "diagnostics", None)):
                report.sections.append(("local cluster", diagnostics()))
    return report
