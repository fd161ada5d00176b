"""When the labels and the ConfigMap of each node are written, by a model clock: labels first, of all nodes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from libs.chassis.work import KeyedQueue
from ome.fetch.v1.fetch_pb2 import NodeModelState
from ome.model.v1.model_pb2 import REASON_INSUFFICIENT_DISK
from services.status.node_loop import NodeLoop
from tests.support.model_time import ModelLoop, pass_time
from tests.unit.status.samples import UID, a_model, failed, ready

Object = dict[str, Any]

# The API server takes labels just as fast as models become Ready, and nothing besides.
SECONDS_BETWEEN, WRITE_SECONDS = 0.005, 0.01


class Api:
    """Takes what is written, each in its time, and remembers when."""

    def __init__(self, cluster: "FakeCluster") -> None:
        self._cluster = cluster
        self._free = asyncio.Semaphore(2)
        self.written: list[tuple[float, str, str]] = []

    async def label(self, collection: str, name: str, uid: str, changes: Mapping[str, str | None]) -> Object:
        await self._take("labels", name)
        node = self._cluster.known[name]
        return {"metadata": node["metadata"] | {"labels": dict(changes)}}

    async def apply(self, collection: str, body: Object, force: bool = False) -> Object:
        await self._take("data", body["metadata"]["name"])
        return body

    async def _take(self, what: str, name: str) -> None:
        async with self._free:
            await pass_time(WRITE_SECONDS)
        self.written.append((asyncio.get_running_loop().time(), what, name))

    def last(self, what: str) -> float:
        return max(at for at, each, _ in self.written if each == what)


class FakeCluster:
    def __init__(self, nodes: int) -> None:
        self.known = {
            f"node-{n}": {"metadata": {"name": f"node-{n}", "uid": str(n), "labels": {}}} for n in range(nodes)
        }
        self.models = {UID: a_model()}
        self._config_maps: dict[str, Object] = {}

    @property
    def nodes(self) -> int:
        return len(self.known)

    def node(self, name: str) -> Object | None:
        return self.known.get(name)

    def config_map(self, name: str) -> Object | None:
        return self._config_maps.get(name)

    def absorb_node(self, node: Object) -> None:
        self.known[node["metadata"]["name"]] = node

    def absorb_config_map(self, config_map: Object) -> None:
        self._config_maps[config_map["metadata"]["name"]] = config_map


async def ready_everywhere(nodes: int) -> Api:
    """What was written after a model became Ready on all nodes of a quiet fleet, one after the other."""
    cluster = FakeCluster(nodes)
    async with reported(cluster, lambda name: {UID: ready()}) as (api, queue):
        for name in cluster.known:
            queue.add(name)
            await pass_time(SECONDS_BETWEEN)
        await pass_time(300)
    return api


async def changing_always(nodes: int, seconds: float) -> Api:
    """What was written in an hour in which another model fails or comes, each so many seconds, on one of the nodes."""
    cluster, other = FakeCluster(nodes), a_model()
    other["metadata"] = {"name": "other", "uid": "other", "generation": 1}
    cluster.models["other"] = other
    states = {UID: ready(), "other": ready()}
    async with reported(cluster, lambda name: states) as (api, queue):
        for number in range(int(3600 / seconds)):
            states[UID] = failed(REASON_INSUFFICIENT_DISK) if number % 2 else ready()
            states["other"] = ready()
            states["other"].artifact.digest = f"sha256:{number:064x}"
            queue.add("node-0")
            await pass_time(seconds)
    return api


@asynccontextmanager
async def reported(
    cluster: FakeCluster, states_of_node: Callable[[str], dict[str, NodeModelState]]
) -> AsyncIterator[tuple[Api, KeyedQueue[str]]]:
    api = Api(cluster)
    observations = SimpleNamespace(
        states_of_node=states_of_node, awaits_models=lambda name: False, room=lambda name: None
    )
    loop = NodeLoop(api, cluster, observations, lambda: True, "ome")  # type: ignore[arg-type]
    queue: KeyedQueue[str] = KeyedQueue("nodes")
    working = asyncio.ensure_future(queue.run(loop.reconcile, workers=8))
    yield api, queue
    working.cancel()
    await asyncio.wait([working])


def by_model_clock(work: Callable[[], Coroutine[Any, Any, Api]]) -> Api:
    with asyncio.Runner(loop_factory=lambda: ModelLoop(lambda: None, lambda: None)) as runner:
        return runner.run(work())


@pytest.mark.parametrize("nodes", [1, 50, 1000])
def test_every_node_is_written_once(nodes: int) -> None:
    api = by_model_clock(lambda: ready_everywhere(nodes))

    assert sorted((what, name) for _, what, name in api.written) == sorted(
        (what, f"node-{n}") for n in range(nodes) for what in ("labels", "data")
    )


def test_in_a_large_fleet_the_labels_of_all_nodes_come_before_the_first_config_map() -> None:
    api = by_model_clock(lambda: ready_everywhere(1000))

    assert api.last("labels") < min(at for at, what, _ in api.written if what == "data")
    assert api.last("labels") == pytest.approx(1000 * SECONDS_BETWEEN, abs=0.1)


@pytest.mark.parametrize(("nodes", "seconds"), [(1000, 8.0), (4000, 20.0), (4000, 1.0)])
def test_labels_that_change_always_hold_no_config_map_up(nodes: int, seconds: float) -> None:
    api = by_model_clock(lambda: changing_always(nodes, seconds))
    written = [0.0, *(at for at, what, _ in api.written if what == "data"), 3600.0]

    assert max(after - before for before, after in itertools.pairwise(written)) < 0.01 * nodes + 2 * seconds + 1


def test_in_a_small_fleet_nothing_waits_that_long() -> None:
    api = by_model_clock(lambda: ready_everywhere(3))

    assert api.last("data") < 1
