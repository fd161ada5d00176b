"""Placement: nodeSelector and nodeAffinity as the Kubernetes scheduler reads them, plus quantities."""

from fractions import Fraction

import pytest

from libs.artifact.errors import InvalidValue
from services.controller.placement import check_placement, is_placed, parse_quantity

LABELS = {"zone": "a", "gpu": "H100", "disk": "500Gi", "cores": "64"}


def affinity(*terms: dict[str, object]) -> dict[str, object]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def name_is(name: str) -> dict[str, object]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


CASES = {
    "a model without rules goes everywhere": ({}, True),
    "every label of the selector must match": ({"nodeSelector": {"zone": "a", "gpu": "H100"}}, True),
    "one wrong label of the selector is enough to refuse": ({"nodeSelector": {"zone": "a", "gpu": "A100"}}, False),
    "a selector label that the node lacks refuses": ({"nodeSelector": {"rack": "1"}}, False),
    "In matches one of its values": (affinity(expression("gpu", "In", "A100", "H100")), True),
    "In refuses a missing key": (affinity(expression("rack", "In", "1")), False),
    "NotIn refuses a listed value": (affinity(expression("gpu", "NotIn", "H100")), False),
    "NotIn matches a missing key": (affinity(expression("rack", "NotIn", "1")), True),
    "Exists needs the key": (affinity(expression("rack", "Exists")), False),
    "DoesNotExist matches a missing key": (affinity(expression("rack", "DoesNotExist")), True),
    "Gt compares numbers": (affinity(expression("cores", "Gt", "32")), True),
    "Gt is strict": (affinity(expression("cores", "Gt", "64")), False),
    "Lt compares numbers": (affinity(expression("cores", "Lt", "100")), True),
    "Gt compares quantities by value, not as text": (affinity(expression("disk", "Gt", "1000Mi")), True),
    "80Gi is not more than 500Gi": (affinity(expression("disk", "Gt", "1Ti")), False),
    "Gt refuses a missing key": (affinity(expression("rack", "Gt", "0")), False),
    "Gt refuses a label that is no number": (affinity(expression("gpu", "Gt", "0")), False),
    "terms are alternatives": (affinity(expression("zone", "In", "b"), expression("gpu", "In", "H100")), True),
    "an empty term matches nothing": (affinity({}), False),
    "an empty term does not spoil another": (affinity({}, expression("zone", "In", "a")), True),
    "no term at all matches nothing": (affinity(), False),
    "matchFields tests the node's name": (affinity(name_is("node-1")), True),
    "matchFields refuses another name": (affinity(name_is("node-2")), False),
    "expressions and fields of a term must both hold": (
        affinity({**name_is("node-1"), **expression("zone", "In", "b")}),
        False,
    ),
    "selector and affinity must both hold": (
        {"nodeSelector": {"zone": "b"}, **affinity(expression("gpu", "In", "H100"))},
        False,
    ),
    "preferred rules are no requirement": (
        {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}},
        True,
    ),
}


@pytest.mark.parametrize(("storage", "expected"), CASES.values(), ids=CASES.keys())
def test_placement(storage: dict[str, object], expected: bool) -> None:
    check_placement(storage)
    assert is_placed(storage, "node-1", LABELS) is expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("-3", -3),
        ("1.5", Fraction(3, 2)),
        ("500Gi", 500 * 2**30),
        ("1k", 1000),
        ("2e3", 2000),
        ("1E", 10**18),
        ("5m", Fraction(1, 200)),
    ],
)
def test_quantity_has_the_value_that_kubernetes_gives_it(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1KiB", "0x10", "1e9999", "NaN", "--1"])
def test_text_that_is_no_quantity_has_no_value(text: str) -> None:
    assert parse_quantity(text) is None


REFUSED = {
    "an unknown operator": (expression("zone", "Equals", "a"), "In, NotIn, Exists"),
    "In without values": (expression("zone", "In"), "at least one value"),
    "Exists with values": (expression("zone", "Exists", "a"), "takes no values"),
    "Gt with two values": (expression("zone", "Gt", "1", "2"), "exactly one"),
    "Gt with text": (expression("zone", "Gt", "big"), "such as '500Gi'"),
    "a field other than the name": (
        {"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]},
        "metadata.name",
    ),
}


@pytest.mark.parametrize(("term", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_rule_that_cannot_be_evaluated_is_refused_with_what_to_write(term: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as refused:
        check_placement(affinity(term))
    assert refused.value.reason == "InvalidPlacement"
