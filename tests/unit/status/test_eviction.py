"""Models that nodes have given up, in status and labels."""

from ome.model.v1.model_pb2 import NODE_PHASE_EVICTED, REASON_EVICTED, REASON_NOT_FOUND
from services.status.node_report import node_report
from tests.unit.status.samples import (
    UID,
    a_model,
    a_plan,
    a_problem,
    a_state,
    conditions,
    failed,
    folded,
    message,
    ready,
    updating,
)

MODEL = a_model()
WHY = "evicted to make room; it comes back when a Pod uses it"
EVICTED = a_state(NODE_PHASE_EVICTED, a_problem(REASON_EVICTED, WHY))


def test_a_node_that_has_given_a_model_up_is_neither_ready_nor_failed_nor_waited_for() -> None:
    view = folded(MODEL, a_plan(MODEL, "a", "b"), {"a": ready(), "b": EVICTED})
    assert view.status["nodesEvicted"] == ["b"]
    assert view.status["nodes"] == {
        "desired": 2,
        "ready": 1,
        "updating": 0,
        "failed": 0,
        "summary": "1/2",
        "evicted": 1,
    }
    assert view.status["state"] == "Ready"
    assert conditions(view)["Complete"][0] == "True"
    assert conditions(view)["Degraded"][0] == "False"


def test_a_model_that_all_nodes_have_given_up_says_so() -> None:
    view = folded(MODEL, a_plan(MODEL, "a"), {"a": EVICTED})
    assert view.status["state"] == "Creating"
    assert view.status["reason"] == "Evicted"
    assert conditions(view)["Available"] == ("False", "Evicted")
    assert conditions(view)["Complete"] == ("False", "Evicted")
    assert conditions(view)["Stalled"][0] == "False"
    assert message(view, "Complete") == f"a has given up the model: E{WHY[1:]}."


def test_what_others_fetch_or_fail_at_comes_before_what_was_given_up() -> None:
    plan = a_plan(MODEL, "a", "b")
    assert conditions(folded(MODEL, plan, {"a": EVICTED, "b": updating()}))["Complete"] == ("False", "Downloading")
    view = folded(MODEL, plan, {"a": EVICTED, "b": failed(REASON_NOT_FOUND)})
    assert conditions(view)["Complete"] == ("False", "NotFound")


def test_a_model_that_nobody_has_given_up_has_no_such_field() -> None:
    status = folded(MODEL, a_plan(MODEL, "a"), {"a": ready()}).status
    assert "nodesEvicted" not in status
    assert "evicted" not in status["nodes"]


def test_the_label_of_a_node_that_has_given_a_model_up_says_so() -> None:
    assert node_report({UID: MODEL}, {UID: EVICTED}).labels[f"models.ome/{UID}"] == "Evicted"
