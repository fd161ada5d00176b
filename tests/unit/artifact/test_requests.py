"""What annotations ask of single nodes, whatever a person writes there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.requests import (
    EVICTED_NODES_ANNOTATION,
    PULLED_NODES_ANNOTATION,
    VERIFY_ANNOTATION,
    VERIFY_NODE_ANNOTATION,
    NodeRequests,
    read_requests,
    short_word,
)
from libs.artifact.wording import one_line
from libs.model.bounds import WORD_CHARACTERS

NAMES = (VERIFY_ANNOTATION, VERIFY_NODE_ANNOTATION, EVICTED_NODES_ANNOTATION, PULLED_NODES_ANNOTATION)


def test_a_model_without_annotations_asks_nothing_of_any_node() -> None:
    assert read_requests({}) == NodeRequests()
    assert NodeRequests().verify_on("n1") == ""
    assert NodeRequests().demand_on("n1", "d") == "d"


def test_a_request_to_verify_goes_to_the_node_that_it_names_and_to_all_without_a_name() -> None:
    everywhere = read_requests({VERIFY_ANNOTATION: " noon "})
    assert [everywhere.verify_on(node) for node in ("n1", "n2")] == ["noon", "noon"]
    there = read_requests({VERIFY_ANNOTATION: "noon", VERIFY_NODE_ANNOTATION: "n2"})
    assert [there.verify_on(node) for node in ("n1", "n2")] == ["", "noon"]


def test_nodes_are_named_with_commas_and_spaces_between_them() -> None:
    requests = read_requests({EVICTED_NODES_ANNOTATION: "n1, n2,,", PULLED_NODES_ANNOTATION: "n3 = noon,n4"})
    assert requests.evicted == {"n1", "n2"}
    assert requests.pulled == {"n3": "noon", "n4": ""}
    assert requests.demand_on("n3", "all") == "all+noon"
    assert requests.demand_on("n1", "all") == "all"


@pytest.mark.parametrize("word", ["noon\tand  dusk", "a\u202eb", "x" * 200, "\u200bnoon"])
def test_a_request_comes_back_from_a_node_as_it_went_there(word: str) -> None:
    asked = read_requests({VERIFY_ANNOTATION: word}).verify
    # As the gateway takes what nodes say.
    assert one_line(asked, WORD_CHARACTERS) == asked != ""


@given(st.dictionaries(st.sampled_from(NAMES), st.text()), st.text(), st.text())
def test_whatever_is_written_each_node_is_told_something_short(
    annotations: dict[str, str], node: str, demand: str
) -> None:
    requests = read_requests(annotations)
    assert len(requests.verify_on(node).encode()) <= 64
    assert len(requests.demand_on(node, short_word(demand)).encode()) <= 64


def test_a_fleet_is_not_named_node_by_node() -> None:
    names = ",".join(f"node-{number}" for number in range(5000))
    assert len(read_requests({EVICTED_NODES_ANNOTATION: names}).evicted) == 1000
