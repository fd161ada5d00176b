"""What the services export: names and units as Prometheus asks for them, and the series that scenarios have."""

import re
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.alerts.promtool import promtool
from tests.alerts.scenarios import SCENARIOS, SCRAPED
from tests.support.fleet import Fleet, model
from tests.support.hub import generated_model

pytestmark = [pytest.mark.cluster, pytest.mark.promtool]

SERVICES = ("ome-controller", "ome-fetcher", "ome-resolver", "ome-parser", "ome-status")
_SERIES = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\}")
_LABEL = re.compile(r'(\w+)="')


@pytest.fixture(scope="module")
def exported(fleet: Fleet) -> dict[str, str]:
    """What a Pod of each service exports after a model has come, another was not found, and nodes have refused one."""
    fleet.hub.add_model("org/small", {"README.md": "# small\n"}, generated=generated_model(1 << 20))
    good, bad = model("good", "hf://org/small"), model("bad", "hf://org/absent")
    refused = model("refused", "hf://org/small", path="/elsewhere/small")
    fleet.apply(good, bad, refused)
    fleet.await_state(good, "Ready", {"node-1", "node-2"})
    fleet.await_failure(bad, "NotFound")
    fleet.await_failure(refused, "InvalidPath")
    pages = {}
    for service in SERVICES:
        pod = next(iter(fleet.cluster.pods(service)))
        for port in (8080, 8081) if service == "ome-controller" else (8080,):
            with urllib.request.urlopen(f"http://{pod.address}:{port}/metrics") as answer:
                pages[f"{service}:{port}"] = answer.read().decode()
    return pages


@pytest.mark.parametrize("page", ["ome-controller:8080", "ome-controller:8081", *(f"{s}:8080" for s in SERVICES[1:])])
def test_prometheus_finds_nothing_odd_about_what_a_service_exports(exported: dict[str, str], page: str) -> None:
    promtool("check", "metrics", stdin=_ours(exported[page]))


def test_scenarios_have_the_names_and_labels_of_real_series(exported: dict[str, str]) -> None:
    real: dict[str, set[frozenset[str]]] = {}
    for page in exported.values():
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                real.setdefault(sample.name, set()).add(frozenset(sample.labels))
    for scenario in SCENARIOS:
        for series in scenario.series:
            parts = _SERIES.fullmatch(series)
            assert parts
            labels = frozenset(_LABEL.findall(parts["labels"])) - set(SCRAPED)
            assert real.get(parts["name"]) == {labels}, f"{scenario.name}: {series}"


def _ours(page: str) -> str:
    """The lines of our own metrics: Python's client has names of its own for the process and times of creation."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: str) -> Iterator[str]:
    for line in page.splitlines():
        name = line.split()[2] if line.startswith("#") else re.split(r"[{ ]", line)[0]
        if name.startswith("ome_") and not name.endswith("_created"):
            yield line
