"""Memory that the charts request for a process and limit it to, for what measures it."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.programs import CHARTS

# The chart with the values of a process, and where in them.
_RESOURCES = {
    "controller": ("controller", "resources"),
    "gateway": ("controller", "gatewayResources"),
    "status": ("status", "resources"),
    "parser": ("parser", "resources"),
    "fetcher": ("fetcher", "resources"),
    "resolver": ("fetcher", "resolver.resources"),
    "nats": ("nats", "resources"),
}


@dataclass(frozen=True)
class Memory:
    """Both in bytes."""

    request: int
    limit: int


def charted_memory(process: str) -> Memory:
    """What the chart of a process gives it by default."""
    chart, path = _RESOURCES[process]
    values: Any = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    for key in path.split("."):
        values = values[key]
    return Memory(_bytes(values["requests"]["memory"]), _bytes(values["limits"]["memory"]))


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert found, f"{quantity} is no number of Mi or Gi"
    return int(found[1]) << {"Mi": 20, "Gi": 30}[found[2]]
