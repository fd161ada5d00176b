"""Alert rules as Prometheus evaluates them, and queries as it reads them: by its own promtool."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.promtool import promtool
from tests.alerts.scenarios import SCENARIOS, Scenario
from tests.support.programs import CHARTS, render

pytestmark = pytest.mark.promtool

RUNBOOKS = "https://docs.example.com/troubleshooting/"
_DASHBOARD = CHARTS / "status" / "files" / "dashboard.json"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as the chart installs them, in a file of Prometheus."""
    values = ("--set", "alerts.enabled=true", "--set", f"alerts.runbookUrl={RUNBOOKS}")
    [rule] = [item for item in render("status", *values) if item["kind"] == "PrometheusRule"]
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    return file


def test_prometheus_takes_the_rules_and_finds_nothing_odd_about_them(rules: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_an_alert_fires_while_its_trouble_lasts_and_not_before_or_after(
    rules: Path, scenario: Scenario, tmp_path: Path
) -> None:
    runbook = f"{RUNBOOKS}#{scenario.alert.lower()}"
    document: dict[str, Any] = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": scenario.name,
                "interval": "1m",
                "input_series": scenario.input_series(),
                "alert_rule_test": scenario.expectations(runbook),
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(file))


def test_a_scenario_that_expects_something_else_is_found_out(rules: Path, tmp_path: Path) -> None:
    scenario = SCENARIOS[0]
    wrong = [{**each, "exp_alerts": []} for each in scenario.expectations(RUNBOOKS)]
    tests = [{"interval": "1m", "input_series": scenario.input_series(), "alert_rule_test": wrong}]
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    assert "FAILED" in promtool("test", "rules", str(file), status=1)


def test_prometheus_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """A rule file takes any expression, so that each query is read by the parser of Prometheus itself."""
    queries = [
        target["expr"] for panel in json.loads(_DASHBOARD.read_text())["panels"] for target in panel.get("targets", ())
    ]
    assert len(queries) > 10
    recorded = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", "--lint=none", str(file))
