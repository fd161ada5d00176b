"""Watches that go on where they ended: what was missed is told, and nothing else; a foreign token starts anew."""

import pytest

from ome.model.v1.model_pb2 import MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef
from ome.status.v1.status_pb2 import Model, WatchModelsRequest
from services.status.catalog import Catalog
from services.status.resuming import Tokens

HERE = Tokens("a life")


def a_model(name: str, generation: int = 1) -> Model:
    ref = ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name=name, uid=f"uid-{name}")
    return Model(ref=ref, observed_generation=generation)


async def told(catalog: Catalog, after: int | None) -> tuple[list[str], int]:
    """What a subscriber is told at first, and up to which change that is."""
    with catalog.subscribe(lambda ref: True, after) as (subscription, existing):
        names = [(await subscription.next_change()).name for _ in range(existing)]
        return names, subscription.told_to


async def test_a_subscriber_that_comes_back_is_told_what_changed_and_what_went() -> None:
    catalog = Catalog()
    for name in ("a", "b", "c", "d"):
        catalog.put(a_model(name))
    names, number = await told(catalog, None)
    assert names == ["a", "b", "c", "d"]
    catalog.put(a_model("c", 2))
    catalog.remove("uid-a")
    catalog.put(a_model("b", 2))
    catalog.put(a_model("c", 3))
    assert catalog.remembers(number)
    assert (await told(catalog, number))[0] == ["a", "b", "c"]
    assert await told(catalog, (await told(catalog, number))[1]) == ([], number + 4)


async def test_what_is_pending_is_not_taken_for_told() -> None:
    catalog = Catalog()
    catalog.put(a_model("a"))
    catalog.put(a_model("b"))
    with catalog.subscribe(lambda ref: True) as (subscription, _):
        await subscription.next_change()
        assert subscription.told_to < 0, "b was not told, and nobody knows from which change on"
        await subscription.next_change()
        number = subscription.told_to
        catalog.put(a_model("a", 2))
        catalog.put(a_model("b", 2))
        await subscription.next_change()
        assert subscription.told_to == number + 1
    assert (await told(catalog, number + 1))[0] == ["b"]


async def test_more_models_went_than_are_remembered() -> None:
    catalog = Catalog()
    for number in range(1100):
        catalog.put(a_model(f"m{number}"))
    _, before = await told(catalog, None)
    for number in range(1100):
        catalog.remove(f"uid-m{number}")
    assert not catalog.remembers(before)
    assert catalog.remembers(before + 200)
    assert not catalog.remembers(before + 5000), "a number that this life has not reached"


WATCHES = {
    "another life": (Tokens("another"), WatchModelsRequest()),
    "another namespace": (HERE, WatchModelsRequest(namespace="team-a")),
    "another name": (HERE, WatchModelsRequest(name="llama")),
}


@pytest.mark.parametrize(("tokens", "request_"), WATCHES.values(), ids=WATCHES.keys())
def test_a_token_says_nothing_in(tokens: Tokens, request_: WatchModelsRequest) -> None:
    request_.resume_token = HERE.token(7, WatchModelsRequest())
    assert tokens.number(request_) is None


@pytest.mark.parametrize("token", ["", "x", "ä", "A" * 10_000, "Li4u", "LTc="])
def test_a_token_that_is_none_starts_anew(token: str) -> None:
    assert HERE.number(WatchModelsRequest(resume_token=token)) is None


def test_a_token_says_its_number_in_the_same_watch_of_the_same_life() -> None:
    request = WatchModelsRequest(name="llama", resume_token=HERE.token(7, WatchModelsRequest(name="llama")))
    assert HERE.number(request) == 7
    assert HERE.token(-1, request) == ""
