"""Each Pod may connect to what it needs and nothing else, by the NetworkPolicies that the charts render."""

from typing import Any

import kubernetes_validate
import pytest

from tests.support.programs import render

pytestmark = pytest.mark.cluster

REGISTRY = ("--set", "global.imageRegistry=registry.example.com")
ANYWHERE = "anywhere"

# What a policy permits: (protocol, port, where to). Port 0 is every port.
Arrows = set[tuple[str, int, str]]
NAMES: Arrows = {("UDP", 53, ANYWHERE), ("TCP", 53, ANYWHERE)}
NATS: Arrows = {("TCP", 4222, "ome-nats")}
KUBERNETES: Arrows = {("TCP", 443, ANYWHERE), ("TCP", 6443, ANYWHERE)}
PARSER: Arrows = {("TCP", 9090, "ome-parser")}
SOURCES: Arrows = {("", 0, ANYWHERE)}
# The gateway is a container of the controller's Pod.
ARROWS: dict[str, Arrows] = {
    "ome-controller": NAMES | NATS | KUBERNETES,
    "ome-status": NAMES | NATS | KUBERNETES,
    "ome-fetcher": NAMES | NATS | PARSER | SOURCES,
    "ome-resolver": NAMES | NATS | PARSER | SOURCES,
    "ome-parser": set(),
    "ome-nats": NAMES | {("TCP", 6222, "ome-nats")},
}
RANGES = "ome-fetcher.egress.clusterRanges={10.96.0.0/12,10.0.0.1,fd00::/8}"
ALLOWED = "ome-fetcher.egress.allow={10.96.7.0/24,minio.example.com,192.168.1.9}"


def policies(*arguments: str) -> dict[str, dict[str, Any]]:
    """The policies of a whole installation, by the name of the Pods that they select."""
    found = [item for item in render("ome", *REGISTRY, *arguments) if item["kind"] == "NetworkPolicy"]
    for item in found:
        kubernetes_validate.validate(item, "1.30", strict=True)
    return {item["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: item for item in found}


def arrows(policy: dict[str, Any]) -> Arrows:
    assert "Egress" in policy["spec"]["policyTypes"]
    return {
        (port.get("protocol", "TCP" if port else ""), port.get("port", 0), where)
        for rule in policy["spec"].get("egress") or []
        for port in rule.get("ports") or [{}]
        for where in ([named(peer) for peer in rule["to"]] if "to" in rule else [ANYWHERE])
    }


def named(peer: dict[str, Any]) -> str:
    match peer:
        case {"ipBlock": block}:
            return " ".join([block["cidr"], *(f"-{each}" for each in block.get("except", []))])
        # Without a selector of namespaces: in this one.
        case {"podSelector": {"matchLabels": {"app.kubernetes.io/name": str(name)}}} if len(peer) == 1:
            return name
    raise AssertionError(peer)


@pytest.mark.parametrize("pods", ARROWS)
def test_pods_may_connect_to_what_they_need_and_nothing_else(pods: str) -> None:
    assert arrows(policies()[pods]) == ARROWS[pods]


def test_a_policy_selects_the_pods_of_its_workload() -> None:
    objects = render("ome", *REGISTRY)
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in objects
        if item["kind"] in ("Deployment", "DaemonSet", "StatefulSet")
    }
    chosen = {
        item["metadata"]["name"]: {
            name
            for name, labels in pods.items()
            if item["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        }
        for item in objects
        if item["kind"] == "NetworkPolicy"
    }

    assert set(pods) == set(ARROWS)
    assert chosen == {name: {name} for name in pods}


@pytest.mark.parametrize("pods", ["ome-fetcher", "ome-resolver"])
def test_sources_are_outside_the_networks_of_the_cluster_but_for_what_the_operator_allows(pods: str) -> None:
    found = arrows(policies("--set", RANGES, "--set", ALLOWED)[pods]) - NAMES - NATS - PARSER

    assert found == {
        ("", 0, "0.0.0.0/0 -10.96.0.0/12 -10.0.0.1/32"),
        ("", 0, "::/0 -fd00::/8"),
        ("", 0, "10.96.7.0/24"),
        ("", 0, "192.168.1.9/32"),
    }


def test_an_operator_may_narrow_where_the_api_server_is_and_name_its_port() -> None:
    values = ("networkPolicy.apiServerPorts={16443}", "networkPolicy.apiServerRanges={10.0.0.1/32}")
    arguments = [word for value in values for word in ("--set", f"ome-controller.{value}")]

    assert arrows(policies(*arguments)["ome-controller"]) == NAMES | NATS | {("TCP", 16443, "10.0.0.1/32")}


@pytest.mark.parametrize(
    ("url", "arrow"),
    [
        ("tls://ome-nats:4222", ("TCP", 4222, "ome-nats")),
        ("tls://ome-nats", ("TCP", 4222, "ome-nats")),
        ("tls://nats.messaging:14222", ("TCP", 14222, ANYWHERE)),
        ("wss://nats.example.com:443", ("TCP", 443, ANYWHERE)),
    ],
)
def test_a_nats_server_of_others_is_reached_at_its_port(url: str, arrow: tuple[str, int, str]) -> None:
    assert arrows(policies("--set", f"ome-fetcher.nats.url={url}")["ome-resolver"]) == NAMES | PARSER | SOURCES | {
        arrow
    }


def test_a_parser_elsewhere_is_reached_at_its_port() -> None:
    found = arrows(policies("--set", "ome-fetcher.parserAddress=parser.example.com:9999")["ome-fetcher"])

    assert found == NAMES | NATS | SOURCES | {("TCP", 9999, ANYWHERE)}


@pytest.mark.parametrize("pods", ["ome-controller", "ome-status", "ome-fetcher"])
def test_an_operator_may_add_rules_or_do_without(pods: str) -> None:
    rule = f"{pods}.networkPolicy.extraEgress[0].ports[0].port=3128"

    assert arrows(policies("--set", rule)[pods]) == ARROWS[pods] | {("TCP", 3128, ANYWHERE)}
    assert pods not in policies("--set", f"{pods}.networkPolicy.enabled=false")
