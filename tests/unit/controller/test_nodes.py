"""Which nodes get a model that match its selectors: taints."""

from libs.model.tolerations import Taint
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.planning import Held, NodeView, Observed, Plan, Report, plan
from tests.unit.controller.test_planning import NOW, RULES, item, observe

TAINT = Taint("gpu", "", "NoSchedule")
PLAIN, TAINTED = NodeView("n1", {}, True, None), NodeView("n2", {}, True, None, taints=(TAINT,))


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
