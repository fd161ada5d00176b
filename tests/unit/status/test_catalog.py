"""Who is told of which change."""

import asyncio

from ome.model.v1.model_pb2 import MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef
from ome.status.v1.status_pb2 import Model
from services.status.catalog import Catalog


def a_model(name: str, generation: int = 1) -> Model:
    """A model by name."""
    ref = ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name=name, uid=f"uid-{name}")
    return Model(ref=ref, observed_generation=generation)


async def test_a_subscriber_gets_what_exists_and_then_each_change() -> None:
    catalog = Catalog()
    catalog.put(a_model("b"))
    catalog.put(a_model("a"))

    with catalog.subscribe(lambda ref: True) as (subscription, existing):
        assert existing == 2
        assert [(await subscription.next_change()).name for _ in range(2)] == ["a", "b"]
        catalog.put(a_model("c"))
        assert (await subscription.next_change()).name == "c"


async def test_many_changes_of_one_model_are_one_for_a_slow_reader() -> None:
    catalog = Catalog()
    with catalog.subscribe(lambda ref: True) as (subscription, _):
        for generation in range(1000):
            catalog.put(a_model("a", generation))
        catalog.put(a_model("b"))

        assert [(await subscription.next_change()).name for _ in range(2)] == ["a", "b"]


async def test_an_equal_view_is_no_change() -> None:
    catalog = Catalog()
    catalog.put(a_model("a"))
    with catalog.subscribe(lambda ref: ref.name != "a") as (subscription, existing):
        assert existing == 0
        catalog.put(a_model("a", 2))
        catalog.put(a_model("b"))

        assert (await subscription.next_change()).name == "b"


async def test_a_removed_model_is_told_and_found_no_more() -> None:
    catalog = Catalog()
    catalog.put(a_model("a"))
    with catalog.subscribe(lambda ref: True) as (subscription, _):
        await subscription.next_change()
        catalog.remove("uid-a")

        assert (await subscription.next_change()).name == "a"
        assert catalog.get("uid-a") is None


async def test_cancelling_the_wait_loses_no_change() -> None:
    catalog = Catalog()
    with catalog.subscribe(lambda ref: True) as (subscription, _):
        waiting = asyncio.ensure_future(subscription.next_change())
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        catalog.put(a_model("a"))

        assert (await subscription.next_change()).name == "a"
