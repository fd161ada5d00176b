"""Placement: nodeSelector and nodeAffinity as the Kubernetes scheduler reads them, plus quantities."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.artifact.labels import AVAILABLE_STORAGE_LABEL
from libs.model.placement import check_placement, is_placed, parse_quantity, selected_keys
from services.controller.placements import Placements

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


_KEYS, _VALUES = ("zone", "gpu", AVAILABLE_STORAGE_LABEL), ("a", "b", "1Gi")
_node_labels = st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES), max_size=3)
_requirements = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from(_KEYS),
        st.sampled_from(("In", "NotIn")),
        st.lists(st.sampled_from(_VALUES), min_size=1, max_size=2),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(_KEYS),
        # The last is none that can be evaluated.
        st.sampled_from(("Exists", "DoesNotExist", "Sometimes")),
    ),
)
_terms = st.builds(
    lambda expressions, names: {
        "matchExpressions": expressions,
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": names}] if names else [],
    },
    st.lists(_requirements, max_size=2),
    st.lists(st.sampled_from(("n1", "n2", "n3")), max_size=2),
)
_storages = st.builds(
    lambda selector, terms: {"nodeSelector": selector} | (affinity(*terms) if terms is not None else {}),
    st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES), max_size=1),
    st.none() | st.lists(_terms, max_size=2),
)
_changes = st.one_of(
    st.tuples(st.just("node"), st.sampled_from(("n1", "n2", "n3")), st.none() | _node_labels),
    st.tuples(st.just("model"), st.sampled_from(("m1", "m2", "m3")), st.none() | _storages),
)


def _placed(storage: dict[str, object], nodes: dict[str, dict[str, str]], holds: bool = False) -> set[str]:
    try:
        check_placement(storage)
    except InvalidValue:
        return set()
    return {node for node, labels in nodes.items() if is_placed(storage, node, labels, holds)}


@given(st.lists(_changes, max_size=30))
def test_kept_placements_are_those_that_looking_at_every_node_would_find(changes: list[tuple[str, str, Any]]) -> None:
    kept = Placements()
    nodes: dict[str, dict[str, str]] = {}
    models: dict[str, dict[str, object]] = {}
    for kind, name, value in changes:
        before = {uid: (_placed(storage, nodes), _placed(storage, nodes, True)) for uid, storage in models.items()}
        (nodes if kind == "node" else models).pop(name, None)
        if value is not None:
            (nodes if kind == "node" else models)[name] = value
        after = {uid: (_placed(storage, nodes), _placed(storage, nodes, True)) for uid, storage in models.items()}
        if kind == "node":
            assert kept.node_changed(name, value) == {uid for uid in models if before[uid] != after[uid]}
        else:
            kept.model_changed(name, value)
        assert {uid: (set(kept.nodes_of(uid)), set(kept.staying_of(uid))) for uid in models} == after


def test_label_that_no_model_selects_by_concerns_none() -> None:
    kept = Placements()
    kept.model_changed("m", {"nodeSelector": {"zone": "a"}})
    kept.node_changed("n", {"zone": "a"})
    assert kept.node_changed("n", {"zone": "a", "models.ome/x": "Ready"}) == set()
    assert selected_keys({"nodeSelector": {"zone": "a"}, **affinity({"matchExpressions": []})}) == {"zone"}


@pytest.mark.parametrize(
    "storage",
    [
        {"nodeSelector": {"models.ome.io/clusterbasemodel.llama": "Ready"}},
        affinity(expression("models.ome.io/team-a.basemodel.llama", "Exists")),
        affinity(expression("models.ome/0c0ffee0-0000-4000-8000-000000000000", "In", "Ready")),
    ],
)
def test_a_selector_by_a_label_that_we_write_is_refused_in_words(storage: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="is a label that OME itself writes") as refused:
        check_placement(storage)
    assert refused.value.reason == "InvalidPlacement"


def test_other_labels_below_our_prefix_belong_to_users() -> None:
    check_placement({"nodeSelector": {"models.ome.io/storage-tier": "fast-ssd"}})


def test_room_decides_whether_a_node_gets_a_model_and_not_whether_it_keeps_it() -> None:
    # The seed's own example, on nodes with 600 GiB of which the model takes 400.
    storage = affinity(
        {
            "matchExpressions": [
                {"key": "gpu", "operator": "In", "values": ["A100", "H100"]},
                {"key": AVAILABLE_STORAGE_LABEL, "operator": "Gt", "values": ["500Gi"]},
            ]
        }
    )
    assert is_placed(storage, "n", {"gpu": "H100", AVAILABLE_STORAGE_LABEL: "592Gi"})
    full = {"gpu": "H100", AVAILABLE_STORAGE_LABEL: "192Gi"}
    assert not is_placed(storage, "n", full)
    assert is_placed(storage, "n", full, holds=True)
    assert not is_placed(storage, "n", {"gpu": "L4", AVAILABLE_STORAGE_LABEL: "592Gi"}, holds=True)
    assert not is_placed(storage, "n", {"gpu": "H100"})


def test_room_of_a_node_concerns_the_models_that_select_by_it_when_they_match_no_longer_or_newly() -> None:
    kept = Placements()
    kept.model_changed("roomy", affinity(expression(AVAILABLE_STORAGE_LABEL, "Gt", "500Gi")))
    kept.model_changed("m", {"nodeSelector": {"zone": "a"}})
    assert kept.node_changed("n", {AVAILABLE_STORAGE_LABEL: "592Gi"}) == {"roomy"}
    assert kept.node_changed("n", {AVAILABLE_STORAGE_LABEL: "512Gi"}) == set()
    assert kept.node_changed("n", {AVAILABLE_STORAGE_LABEL: "192Gi"}) == {"roomy"}
    assert (kept.nodes_of("roomy"), kept.staying_of("roomy")) == (set(), {"n"})
    assert kept.node_changed("n", None) == {"roomy"}
    assert kept.staying_of("roomy") == set()
