"""Shows the logs of a local cluster with the failure of a test that used one."""

from collections.abc import Generator

import pytest


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
