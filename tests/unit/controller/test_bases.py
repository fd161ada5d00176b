"""Where a FineTunedWeight goes: where it says or, if it says nothing, where its base goes."""

from dataclasses import replace
from typing import Any

from libs.artifact.specification import FINALIZER
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.bases import placement_of
from services.controller.planning import Assign, NodeView, Observed, Rules, plan
from services.controller.specification import ModelSpec, read_model, source_of

RULES = Rules("ome", node_unreachable_seconds=300, retry_initial_seconds=4, retry_max_seconds=60)
GPU, CPU = NodeView("gpu", {"gpu": "yes"}, True, None), NodeView("cpu", {}, True, None)


def weight(**storage: Any) -> ModelSpec:
    return read_model(
        {
            "kind": "FineTunedWeight",
            "metadata": {"name": "lora", "uid": "w", "generation": 1, "finalizers": [FINALIZER]},
            "spec": {"baseModelRef": {"name": "llama"}, "storage": {"storageUri": "hf://org/lora", **storage}},
        }
    )


def base(uri: str = "hf://org/base", **storage: Any) -> ModelSpec:
    spec = {"storage": {"storageUri": uri, **storage}} if uri else {}
    return read_model({"kind": "ClusterBaseModel", "metadata": {"name": "llama", "uid": "b"}, "spec": spec})


def observed(model: ModelSpec, of: ModelSpec | None) -> Observed:
    source = source_of(model, "ome")
    assert source is not None
    artifact = model_pb2.Artifact(digest="sha256:" + "a" * 64, bytes=5, files=1)
    listed = {source.key: fetch_pb2.Resolution(attempt=1, artifact=artifact)}
    return Observed("w", model, {"gpu": GPU, "cpu": CPU}, {}, {}, listed, {}, None, base=of)


def assigned(seen: Observed) -> list[str]:
    return [action.node for action in plan(seen, RULES, 0.0).actions if isinstance(action, Assign)]


def reported(seen: Observed) -> fetch_pb2.ModelPlan:
    return next(action.plan for action in plan(seen, RULES, 0.0).actions if hasattr(action, "plan"))


def test_weights_without_selectors_go_where_their_base_goes() -> None:
    assert assigned(observed(weight(), base(nodeSelector={"gpu": "yes"}))) == ["gpu"]


def test_weights_with_selectors_go_where_they_say() -> None:
    assert assigned(observed(weight(nodeSelector={"gpu": "yes"}), base())) == ["gpu"]
    assert assigned(observed(weight(nodeSelector={"gpu": "yes"}), None)) == ["gpu"]


def test_weights_of_a_base_that_is_on_no_nodes_go_everywhere() -> None:
    for of in (base(""), base("pvc://ns:claim/llama", nodeSelector={"gpu": "yes"})):
        assert assigned(observed(weight(), of)) == ["cpu", "gpu"]


def test_weights_wait_for_a_base_that_they_follow() -> None:
    seen = observed(weight(), None)
    assert placement_of(weight(), None) is None
    assert assigned(seen) == []
    problem = reported(seen).problem
    assert problem.reason == model_pb2.REASON_BASE_NOT_FOUND
    assert problem.message.startswith("ClusterBaseModel llama, which spec.baseModelRef names, does not exist")


def test_weights_stay_where_they_are_when_their_base_goes() -> None:
    ready = fetch_pb2.NodeModelState(phase=model_pb2.NODE_PHASE_READY)
    seen = replace(observed(weight(), None), states={"gpu": ready})
    actions = [action for action in plan(seen, RULES, 0.0).actions if isinstance(action, Assign)]
    assert [(action.node, action.assignment.goal) for action in actions] == [("gpu", fetch_pb2.GOAL_KEEP)]
    assert list(reported(seen).desired_nodes) == ["gpu"]


def test_another_base_is_another_plan_and_the_digests_of_base_models_stay() -> None:
    one, other = weight(), weight()
    assert one.spec_digest == other.spec_digest
    item = {"kind": "FineTunedWeight", "metadata": {"name": "lora", "uid": "w"}}
    spec = {"baseModelRef": {"name": "mistral"}, "storage": {"storageUri": "hf://org/lora"}}
    assert read_model({**item, "spec": spec}).spec_digest != one.spec_digest
