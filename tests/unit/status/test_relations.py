"""What the status of weights says of their base, and that of a base of its weights."""

from typing import Any

from ome.model.v1.model_pb2 import REASON_BASE_NOT_FOUND
from ome.parser.v1.parser_pb2 import Adapter, ModelFacts
from services.status.folding import StatusView, fold
from services.status.relations import Relations, matters_to_weights
from tests.unit.status.samples import NOW, a_model, a_plan, a_problem, conditions, message, ready

WEIGHT = a_model("hf://org/lora", "FineTunedWeight", baseModelRef={"name": "llama"})
BASE = a_model("hf://org/base")
LORA = ModelFacts(adapter=Adapter(type="LORA", rank=8, base_model="org/base"))


def folded(
    model: dict[str, Any], relations: Relations, previous: dict[str, Any] | None = None, **plan: Any
) -> StatusView:
    return fold(
        model, a_plan(model, "a", **plan), {"a": ready(facts=LORA)}, {"a": True}, {}, previous or {}, NOW, relations
    )


def deleting(model: dict[str, Any]) -> dict[str, Any]:
    return {**model, "metadata": {**model["metadata"], "deletionTimestamp": "2026-03-01T11:00:00Z"}}


def test_weights_say_which_base_they_adapt_and_what_they_are() -> None:
    view = folded(WEIGHT, Relations(base=BASE))
    assert conditions(view)["BaseFound"] == ("True", "Found")
    assert conditions(view)["Compatible"] == ("True", "BaseNamed")
    assert view.status["base"] == {"kind": "ClusterBaseModel", "name": "minilm"}
    assert view.status["weights"] == "Adapter"


def test_a_base_that_is_missing_is_said_before_anything_else_and_once() -> None:
    problem = a_problem(REASON_BASE_NOT_FOUND, "ClusterBaseModel llama does not exist")
    view = folded(WEIGHT, Relations(), problem=problem)
    assert view.status["reason"] == "BaseNotFound"
    assert conditions(view)["BaseFound"] == ("False", "BaseNotFound")
    assert conditions(view)["Compatible"] == ("Unknown", "Pending")
    assert conditions(view)["Degraded"][0] == "False"
    assert [event.reason for event in view.events].count("BaseNotFound") == 1
    assert not folded(WEIGHT, Relations(), view.status, problem=problem).events


def test_weights_that_select_their_own_nodes_are_ready_without_their_base_and_say_that_it_is_missing() -> None:
    view = folded(WEIGHT, Relations())
    assert (view.status["state"], view.status["reason"]) == ("Ready", "BaseNotFound")


def test_weights_of_another_base_are_fetched_and_say_so() -> None:
    view = folded(WEIGHT, Relations(base={**BASE, "status": {"metadata": {"adapter": {"type": "LORA"}}}}))
    assert (view.status["state"], view.status["reason"]) == ("Ready", "IncompatibleBase")
    assert [event.reason for event in view.events] == ["Ready", "IncompatibleBase"]


def test_a_base_names_its_weights_and_has_no_such_condition_without_any() -> None:
    view = folded(BASE, Relations(weights=tuple(f"lora-{n:02}" for n in range(20))))
    assert view.status["fineTunedWeights"]["count"] == 20
    assert len(view.status["fineTunedWeights"]["names"]) == 16
    assert (
        message(view, "Referenced") == "20 FineTunedWeights (lora-00, lora-01, lora-02 and 17 more) adapt this model."
    )
    plain = folded(BASE, Relations())
    assert "Referenced" not in conditions(plain)
    assert "fineTunedWeights" not in plain.status


def test_a_base_that_is_deleted_while_weights_refer_to_it_is_reported_on_both() -> None:
    base = folded(deleting(BASE), Relations(weights=("lora",)))
    assert conditions(base)["Referenced"] == ("True", "Deleting")
    assert "BaseDeleted" in [event.reason for event in base.events]
    weights = folded(WEIGHT, Relations(base=deleting(BASE)))
    assert conditions(weights)["BaseFound"] == ("False", "Deleting")
    assert "ClusterBaseModel minilm, which the weights adapt, is being deleted." in message(weights, "BaseFound")


def test_progress_of_a_base_does_not_matter_to_its_weights() -> None:
    moving = {**BASE, "status": {"progress": {"percent": "3%"}}}
    assert matters_to_weights(BASE) == matters_to_weights(moving)
    assert matters_to_weights(BASE) != matters_to_weights({**BASE, "status": {"metadata": {"modelType": "llama"}}})
    assert matters_to_weights(BASE) != matters_to_weights(deleting(BASE))
