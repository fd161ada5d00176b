"""How nodes stand to the rules of a model: the same answer as placement's, in words, and bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.model.matching import group_misses, judge_rules, missing_rules, nearest_misses
from libs.model.placement import is_placed

LABELS = {"zone": "a", "gpu": "T4"}


def affinity(*terms: dict[str, object]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def name_is(name: str) -> dict[str, object]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


SAID = {
    "a label of the selector that matches": (
        {"nodeSelector": {"zone": "a"}},
        "storage.nodeSelector asks for zone=a: yes, it has zone=a",
    ),
    "a label of the selector with another value": (
        {"nodeSelector": {"gpu": "H100"}},
        "storage.nodeSelector asks for gpu=H100: no, it has gpu=T4",
    ),
    "a label that is missing": (
        {"nodeSelector": {"rack": "1"}},
        "storage.nodeSelector asks for rack=1: no, it has no label rack",
    ),
    "one of several values": (
        affinity(expression("gpu", "In", "A100", "H100")),
        "storage.nodeAffinity, term 1 asks for gpu in (A100, H100): no, it has gpu=T4",
    ),
    "many values": (
        affinity(expression("gpu", "NotIn", "a", "b", "c", "d", "e", "f")),
        "storage.nodeAffinity, term 1 asks for gpu not in (a, b, c, d and 2 more): yes, it has gpu=T4",
    ),
    "a quantity": (
        affinity(expression("disk", "Gt", "500Gi")),
        "storage.nodeAffinity, term 1 asks for disk > 500Gi: no, it has no label disk",
    ),
    "a label that must not be there": (
        affinity(expression("gpu", "DoesNotExist")),
        "storage.nodeAffinity, term 1 asks for no label gpu: no, it has gpu=T4",
    ),
    "the name of the node": (
        affinity(name_is("n2")),
        "storage.nodeAffinity, term 1 asks for metadata.name=n2: no, its name is n1",
    ),
    "an empty term": (
        affinity({}),
        "storage.nodeAffinity, term 1 asks for nothing, as the term is empty: no, no node matches that",
    ),
    "no term at all": (affinity(), "storage.nodeAffinity, term 1 asks for one of no terms: no, no node matches that"),
}


@pytest.mark.parametrize(("storage", "said"), SAID.values(), ids=SAID.keys())
def test_a_rule_is_told_with_what_the_node_has(storage: dict[str, Any], said: str) -> None:
    assert [str(rule) for rule in judge_rules(storage, "n1", LABELS)] == [said]


def test_of_several_terms_the_one_that_lacks_least_is_what_a_node_misses() -> None:
    far: dict[str, object] = {
        "matchExpressions": [{"key": key, "operator": "In", "values": ["no"]} for key in ("gpu", "zone")]
    }
    near = expression("disk", "Exists")
    missing = missing_rules(judge_rules({"nodeSelector": {"rack": "1"}, **affinity(far, near)}, "n1", LABELS))
    assert [(rule.term, rule.requirement) for rule in missing] == [(0, "rack=1"), (2, "the label disk")]


NODES = [
    *((f"t4-{number:02}", {"gpu": "T4", "zone": "a"}) for number in range(20)),
    ("cpu-1", {"zone": "b"}),
    ("h100-1", {"gpu": "H100", "zone": "b"}),
]


def test_nodes_that_come_nearest_are_named_with_what_they_lack() -> None:
    groups = group_misses({"nodeSelector": {"gpu": "H100", "zone": "a"}}, NODES)
    assert nearest_misses(groups, with_values=True) == (
        "20 nodes, among them t4-00, t4-01, t4-02, lack gpu=H100 (node t4-00 has gpu=T4); "
        "node h100-1 lacks zone=a (node h100-1 has zone=b); "
        "node cpu-1 lacks gpu=H100 and zone=a (node cpu-1 has no label gpu and zone=b)"
    )


def test_what_nodes_have_is_left_out_for_those_who_may_not_know() -> None:
    said = nearest_misses(group_misses({"nodeSelector": {"gpu": "H100", "zone": "a"}}, NODES), with_values=False)
    assert "T4" not in said
    assert "zone=b" not in said


def test_what_is_said_of_a_large_fleet_stays_short() -> None:
    nodes = [
        (f"n{number}", {f"l{other}": "x" for other in range(12) if other != number % 12}) for number in range(5000)
    ]
    selector = {f"l{other}": "x" for other in range(12)} | {"rack": "1", "row": "2", "hall": "3"}
    said = nearest_misses(group_misses({"nodeSelector": selector}, nodes), with_values=True)
    assert said.endswith("more nodes fail other rules")
    assert len(said) < 1000


def test_a_node_that_matches_is_in_no_group() -> None:
    assert group_misses({"nodeSelector": {"gpu": "H100"}}, [("n1", {"gpu": "H100"})]) == ()


_KEYS, _VALUES = ("zone", "gpu", "size"), ("a", "b", "1Gi")
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
        st.sampled_from(("Exists", "DoesNotExist")),
    ),
    st.builds(
        lambda operator, bound: {"key": "size", "operator": operator, "values": [bound]},
        st.sampled_from(("Gt", "Lt")),
        st.sampled_from(("1", "2Gi")),
    ),
)
_terms = st.builds(
    lambda expressions, names: {
        "matchExpressions": expressions,
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": names}] if names else [],
    },
    st.lists(_requirements, max_size=3),
    st.lists(st.sampled_from(("n1", "n2")), max_size=2),
)


@given(
    st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES), max_size=2),
    st.none() | st.lists(_terms, max_size=3),
    st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES), max_size=3),
)
def test_the_rules_together_say_what_placement_says(
    selector: dict[str, str], terms: list[dict[str, object]] | None, labels: dict[str, str]
) -> None:
    storage: dict[str, Any] = {"nodeSelector": selector} | (affinity(*terms) if terms is not None else {})
    assert (not missing_rules(judge_rules(storage, "n1", labels))) is is_placed(storage, "n1", labels)
