"""Lists of models: what they hold, their order, and pages that neither lose nor repeat a model."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.errors import Invalid
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_CLUSTER_BASE_MODEL, Artifact, ModelRef
from ome.status.v1.status_pb2 import (
    MODEL_ORDER_BYTES,
    MODEL_ORDER_CHANGED,
    MODEL_ORDER_STATE,
    MODEL_STATE_CREATING,
    MODEL_STATE_FAILED,
    MODEL_STATE_READY,
    Condition,
    ListModelsRequest,
    Model,
    ModelOrder,
    NodeStatus,
)
from services.status.listing import is_listed, sorted_after, token_after


def model(name: str, kind: int = MODEL_KIND_CLUSTER_BASE_MODEL, namespace: str = "", **fields: object) -> Model:
    ref = ModelRef(kind=kind, namespace=namespace, name=name, uid=f"uid-{namespace}-{name}")  # type: ignore[arg-type]
    return Model(ref=ref, **fields)  # type: ignore[arg-type]


LLAMA = model(
    "llama",
    MODEL_KIND_BASE_MODEL,
    "team-a",
    state=MODEL_STATE_FAILED,
    storage_uri="hf://Meta-Llama/x",
    conditions=[Condition(type="Degraded", reason="Gated")],
    nodes=[NodeStatus(node="n1")],
)
FILTERS = {
    "nothing": (ListModelsRequest(), True),
    "a part of the name": (ListModelsRequest(text="LLA"), True),
    "namespace and name": (ListModelsRequest(text="team-a/ll"), True),
    "a part of the URI": (ListModelsRequest(text="meta-llama"), True),
    "another text": (ListModelsRequest(text="qwen"), False),
    "a reason of a condition": (ListModelsRequest(reason="Gated"), True),
    "another reason": (ListModelsRequest(reason="Queued"), False),
    "a node that holds it": (ListModelsRequest(node="n1"), True),
    "another node": (ListModelsRequest(node="n"), False),
    "the state": (ListModelsRequest(state=MODEL_STATE_FAILED), True),
    "another state": (ListModelsRequest(state=MODEL_STATE_READY), False),
    "two filters of which one fails": (ListModelsRequest(reason="Gated", node="n2"), False),
}


@pytest.mark.parametrize(("request_", "listed"), FILTERS.values(), ids=FILTERS.keys())
def test_a_list_holds_what_matches_all_filters(request_: ListModelsRequest, listed: bool) -> None:
    assert is_listed(LLAMA, request_) is listed


def changed(seconds: int) -> list[Condition]:
    condition = Condition(type="Available")
    condition.last_transition_time.seconds = seconds
    return [condition]


MODELS = [
    model("a", state=MODEL_STATE_READY, artifact=Artifact(bytes=10), conditions=changed(5)),
    model("b", state=MODEL_STATE_FAILED, artifact=Artifact(bytes=30), conditions=changed(1)),
    model("c", state=MODEL_STATE_CREATING, artifact=Artifact(bytes=20), conditions=changed(9)),
    model("d", state=MODEL_STATE_READY, artifact=Artifact(bytes=20)),
]
ORDERS: dict[ModelOrder, str] = {
    ModelOrder.MODEL_ORDER_UNSPECIFIED: "abcd",
    MODEL_ORDER_STATE: "bcad",
    MODEL_ORDER_BYTES: "bcda",
    MODEL_ORDER_CHANGED: "cabd",
}


@pytest.mark.parametrize(("order", "names"), ORDERS.items())
def test_models_come_in_the_order_that_is_asked_for(order: ModelOrder, names: str) -> None:
    assert "".join(each.ref.name for each in sorted_after(reversed(MODELS), order, "")) == names


@given(st.sampled_from(list(ORDERS)), st.integers(1, 5), st.sets(st.integers(0, 3)))
def test_pages_lose_and_repeat_nothing_though_models_go_between_them(
    order: ModelOrder, size: int, going: set[int]
) -> None:
    everything = list(sorted_after(MODELS, order, ""))
    seen: list[Model] = []
    token = ""
    for number in itertools.count():
        # After the first page some of the models are gone, among them perhaps the one that the token names.
        there = everything if number == 0 else [each for place, each in enumerate(everything) if place not in going]
        rest = sorted_after(there, order, token)
        if not rest:
            break
        seen += rest[:size]
        token = token_after(rest[:size][-1], order)
    expected = [each for place, each in enumerate(everything) if place < size or place not in going]
    assert [each.ref.uid for each in seen] == [each.ref.uid for each in expected]


@pytest.mark.parametrize("token", ["nonsense", "AAAA", "ä", "!" * 100, token_after(MODELS[0], MODEL_ORDER_STATE)])
def test_a_token_that_is_not_of_this_list_is_refused(token: str) -> None:
    with pytest.raises(Invalid, match="page_token"):
        sorted_after(MODELS, MODEL_ORDER_BYTES, token)


def test_an_order_that_is_newer_than_this_service_is_refused() -> None:
    with pytest.raises(Invalid, match="order 99"):
        sorted_after(MODELS, 99, "")  # type: ignore[arg-type]
