"""NetworkPolicies as rules of nftables: who is let through, and that the rest is dropped."""

from typing import Any

import pytest

from tools.node import policies

Object = dict[str, Any]


def pod(name: str, address: str, namespace: str = "ome", ports: Object | None = None, **status: str) -> Object:
    listed = [{"name": port, "containerPort": number} for port, number in (ports or {}).items()]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"ports": listed}]},
        "status": {"podIP": address, "phase": "Running", **status},
    }


def policy(app: str, **rules: Any) -> Object:
    kinds = [kind.capitalize() for kind in rules]
    return {
        "metadata": {"name": app, "namespace": "ome"},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": kinds, **rules},
    }


def app(name: str) -> Object:
    return {"podSelector": {"matchLabels": {"app": name}}}


PARSER = pod("parser", "10.200.1.2", ports={"grpc": 9090})
FETCHER = pod("fetcher", "10.200.1.3")
STRANGER = pod("fetcher", "10.200.1.4", namespace="default")
PODS = [PARSER, FETCHER, STRANGER]


def chain(text: str, name: str) -> list[str] | None:
    """The lines of a chain; None when there is none."""
    _, found, rest = text.partition(f" chain {name} {{\n")
    return [line.strip() for line in rest.partition("\n }")[0].splitlines()] if found else None


def test_a_pod_without_a_policy_is_not_filtered() -> None:
    assert "jump" not in policies.ruleset([], PODS, [])


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({"from": [app("fetcher")], "ports": [{"port": "grpc"}]}, ["ip saddr { 10.200.1.3 } tcp dport 9090 return"]),
        ({"from": [app("nobody")]}, []),
        ({"ports": [{"port": 53, "protocol": "UDP"}]}, ["udp dport 53 return"]),
        ({"ports": [{"port": 80, "endPort": 90}]}, ["tcp dport 80-90 return"]),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, ["ip saddr 10.0.0.0/8 return"]),
        ({"from": [{"ipBlock": {"cidr": "::/0"}}]}, []),
        ({}, ["return"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_rule_lets_through_what_it_names_and_the_rest_is_dropped(rule: Object, lines: list[str]) -> None:
    text = policies.ruleset([policy("parser", ingress=[rule])], PODS, [])
    assert chain(text, "in-10-200-1-2") == [*lines, "drop"]
    assert "ip daddr 10.200.1.2 jump in-10-200-1-2" in text


def test_a_block_spares_its_exceptions() -> None:
    everything = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}
    both = policy("fetcher", egress=[{"to": [everything]}], ingress=[{"from": [everything]}])
    text = policies.ruleset([both], PODS, [])
    words = "ip {0} 0.0.0.0/0 ip {0} != {{ 10.1.0.0/16, 10.2.0.0/16 }} return"
    assert chain(text, "out-10-200-1-3") == [words.format("daddr"), "drop"]
    assert chain(text, "in-10-200-1-3") == [words.format("saddr"), "drop"]
    assert chain(text, "out-10-200-1-4") is None


def test_no_rule_lets_nothing_through() -> None:
    text = policies.ruleset([policy("parser", ingress=[], egress=[])], PODS, [])
    assert chain(text, "in-10-200-1-2") == chain(text, "out-10-200-1-2") == ["drop"]


def test_pods_of_selected_namespaces_are_peers() -> None:
    namespaces: list[Object] = [
        {"metadata": {"name": "default", "labels": {"team": "a"}}},
        {"metadata": {"name": "ome"}},
    ]
    peer = {"namespaceSelector": {"matchLabels": {"team": "a"}}, **app("fetcher")}
    text = policies.ruleset([policy("parser", ingress=[{"from": [peer]}])], PODS, namespaces)
    assert chain(text, "in-10-200-1-2") == ["ip saddr { 10.200.1.4 } return", "drop"]


def test_a_pod_that_has_ended_lends_its_address_to_nobody() -> None:
    ended = pod("fetcher", "10.200.1.9", phase="Succeeded")
    text = policies.ruleset([policy("parser", ingress=[{"from": [app("fetcher")]}])], [PARSER, ended], [])
    assert chain(text, "in-10-200-1-2") == ["drop"]


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "app", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "app", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "tier", "operator": "DoesNotExist"}, True),
        ({"key": "tier", "operator": "In", "values": ["a"]}, False),
    ],
    ids=str,
)
def test_expressions_of_selectors(expression: Object, matches: bool) -> None:
    assert policies.selects({"matchExpressions": [expression]}, {"app": "a"}) == matches
