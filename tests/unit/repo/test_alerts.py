"""Alert rules and the dashboard: expressions that Prometheus reads, of metrics that services export, with runbooks."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from tests.alerts.scenarios import SCENARIOS, SCRAPED
from tests.unit.repo.checkout import ROOT
from tests.unit.repo.test_pages import metrics_of_code

FILES = ROOT / "deploy" / "helm" / "status" / "files"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((FILES / "dashboard.json").read_text())["panels"]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{panel["title"]: target["expr"] for panel in PANELS for target in panel["targets"]},
}
# What Prometheus makes of a histogram.
_OF_HISTOGRAMS = re.compile(r"_(bucket|count|sum)$")
_SERIES = re.compile(r"(\w+)\{(.*)\}")


def selectors(node: Any) -> Iterator[Any]:
    """The selectors of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from selectors(part)
    for part in getattr(node, "args", None) or ():
        yield from selectors(part)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_an_expression_is_of_metrics_that_a_service_exports(expression: str) -> None:
    found = [each.name for each in selectors(promql_parser.parse(expression))]
    assert found
    exported = metrics_of_code()
    assert not {name for name in found if name not in exported and _OF_HISTOGRAMS.sub("", name) not in exported}


def test_every_alert_has_a_summary_a_severity_and_a_part_of_the_page_of_troubleshooting() -> None:
    page = (ROOT / "docs" / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (Ome\w+)$", page, re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_alert_has_a_scenario_in_which_it_fires_with_its_severity() -> None:
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in RULES}
    assert {scenario.alert: scenario.severity for scenario in SCENARIOS} == severities
    assert all(scenario.alerts for scenario in SCENARIOS)


def test_scenarios_have_series_with_the_names_and_labels_that_services_export() -> None:
    exported = metrics_of_code()
    for scenario in SCENARIOS:
        for series in scenario.series:
            found = _SERIES.fullmatch(series)
            assert found
            name = found[1] if found[1] in exported else _OF_HISTOGRAMS.sub("", found[1])
            labels = set(re.findall(r'(\w+)="', found[2])) - set(SCRAPED)
            assert labels - {"le"} == exported[name], f"{scenario.name}: {series}"


def test_panels_have_places_and_names_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len({panel["title"] for panel in PANELS}) == len({panel["id"] for panel in PANELS})
    assert len(places) == len(PANELS)
