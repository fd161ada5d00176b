"""Which nodes get a model that match its selectors: taints, and nodes on which no fetcher runs."""

from dataclasses import replace

from libs.model.tolerations import Taint
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.planning import Held, NodeView, Observed, Plan, Report, plan
from tests.unit.controller.test_planning import NOW, RULES, item, observe, resolved

TAINT = Taint("gpu", "", "NoSchedule")
PLAIN, TAINTED = NodeView("n1", {}, True, None), NodeView("n2", {}, True, None, taints=(TAINT,))
SILENT = NodeView("n2", {"kubernetes.io/hostname": "n2"}, True, unreachable_since=NOW - 10)
GONE = replace(SILENT, unreachable_since=NOW - 301)


def reported(decided: Plan) -> fetch_pb2.ModelPlan:
    return next(action.plan for action in decided.actions if isinstance(action, Report))


def desired(observed: Observed) -> list[str]:
    return list(reported(plan(observed, RULES, NOW)).desired_nodes)


def tolerant(*tolerations: dict[str, str]) -> dict[str, object]:
    return item({"storageUri": "hf://org/model", "tolerations": list(tolerations)})


def test_taints_count_only_for_a_model_with_tolerations() -> None:
    assert desired(observe(item(), PLAIN, TAINTED)) == ["n1", "n2"]
    assert desired(observe(tolerant(), PLAIN, TAINTED)) == ["n1"]
    assert desired(observe(tolerant({"key": "gpu", "operator": "Exists"}), PLAIN, TAINTED)) == ["n1", "n2"]


def test_a_node_that_is_tainted_later_keeps_what_it_has() -> None:
    held = {"n2": Held(1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD))}
    assert desired(observe(tolerant(), PLAIN, TAINTED, held=held)) == ["n1", "n2"]


def test_a_model_that_every_node_keeps_away_says_by_which_taint() -> None:
    problem = reported(plan(observe(tolerant(), TAINTED), RULES, NOW)).problem
    assert problem.reason == model_pb2.REASON_NO_MATCHING_NODE
    assert problem.message == "node n2 has the taint gpu:NoSchedule, which storage.tolerations does not tolerate"


def test_a_node_without_a_fetcher_is_waited_for_as_long_as_a_node_may_be_unreachable_and_then_not_counted() -> None:
    early = plan(resolved(observe(item(), PLAIN, SILENT)), RULES, NOW)
    assert list(reported(early).desired_nodes) == ["n1", "n2"]
    assert early.look_again_seconds == 290
    assert desired(observe(item(), PLAIN, GONE)) == ["n1"]


def test_a_silent_node_that_the_plan_did_not_count_on_is_not_counted_before_its_fetcher_is_heard_of() -> None:
    before = reported(plan(observe(item(), PLAIN), RULES, NOW))
    seen = resolved(observe(item(), PLAIN, SILENT, plan=before))
    assert desired(seen) == ["n1"]
    heard = replace(seen, nodes={"n1": PLAIN, "n2": replace(SILENT, unreachable_since=None)})
    assert desired(heard) == ["n1", "n2"]


def test_a_node_that_has_said_something_of_the_model_is_counted_however_long_it_is_silent() -> None:
    states = {"n2": fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY)}
    assert desired(observe(item(), PLAIN, GONE, states=states)) == ["n1", "n2"]


def test_a_node_that_the_model_names_is_counted_whether_or_not_a_fetcher_runs_there() -> None:
    by_label = {"storageUri": "hf://org/model", "nodeSelector": {"kubernetes.io/hostname": "n2"}}
    fields = [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]
    terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
    by_name = {
        "storageUri": "hf://org/model",
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms},
    }
    assert desired(observe(item(by_label), PLAIN, GONE)) == ["n2"]
    assert desired(observe(item(by_name), PLAIN, GONE)) == ["n2"]


def test_a_model_that_matches_nodes_without_fetchers_only_says_so() -> None:
    problem = reported(plan(observe(item(), GONE), RULES, NOW)).problem
    assert problem.reason == model_pb2.REASON_NO_MATCHING_NODE
    assert problem.message == "no fetcher reports from node n2, which matches"
    other = replace(GONE, name="n3")
    message = reported(plan(observe(item(), GONE, other), RULES, NOW)).problem.message
    assert message == "no fetcher reports from the 2 nodes that match, such as n2"
