"""Two replicas of what decides and of what reports: one of them acts, and the other takes over from one that hangs."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tests.support.fleet import Fleet, model
from tests.support.hub import generated_model

pytestmark = pytest.mark.cluster

SERVICES = ("controller", "status")


@pytest.fixture(scope="module")
def pair(fleet: Fleet) -> Fleet:
    """A fleet with two replicas of controller and status."""
    for service in SERVICES:
        fleet.cluster.kubectl("scale", "-n", "ome", f"deployment/ome-{service}", "--replicas=2")
    fleet.until("two of each are ready", lambda: all(len(ready(fleet, service)) == 2 for service in SERVICES))
    fleet.hub.add_model("org/small", generated=generated_model(1 << 20, shards=1))
    return fleet


@pytest.fixture(params=SERVICES)
def hanging(request: pytest.FixtureRequest, pair: Fleet) -> Iterator[tuple[str, str]]:
    """A service whose leading replica has been stopped in the middle of its term, and that replica's Pod."""
    service = request.param
    leader = holder(pair, service)
    pid = next(pod.pid for pod in pair.cluster.pods(service) if pod.name == leader)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    yield service, leader
    # The kubelet kills what does not answer its probes for long.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def ready(fleet: Fleet, service: str) -> list[str]:
    return [pod.name for pod in fleet.cluster.pods(service) if pod.ready]


def holder(fleet: Fleet, service: str) -> str:
    lease = json.loads(fleet.cluster.kubectl("get", "lease", "-n", "ome", f"ome-{service}", "-o", "json"))
    return str(lease["spec"].get("holderIdentity", ""))


def test_the_other_replica_takes_over_from_one_that_hangs(pair: Fleet, hanging: tuple[str, str]) -> None:
    service, leader = hanging
    manifest = model(f"after-{service}", "hf://org/small")
    pair.apply(manifest)
    pair.await_state(manifest, "Ready", {"node-1", "node-2", "node-3"})
    assert holder(pair, service) not in ("", leader)
    pair.delete(manifest)
    pair.await_gone(manifest)


def test_every_replica_of_status_answers_alike(pair: Fleet) -> None:
    manifest = model("asked-for", "hf://org/small")
    pair.apply(manifest)
    pair.await_state(manifest, "Ready", {"node-1", "node-2", "node-3"})
    answers = [nodes_holding(pair, pod.address, "asked-for") for pod in pair.cluster.pods("status")]
    assert answers == [["node-1", "node-2", "node-3"]] * 2
    pair.delete(manifest)
    pair.await_gone(manifest)


def nodes_holding(fleet: Fleet, address: str, name: str) -> list[str]:
    """The nodes that one replica of the status service says to hold a model, once it knows of them."""
    with fleet.status_service(address) as stub:

        def ready_nodes() -> list[str]:
            models = stub.ListModels(status_pb2.ListModelsRequest()).models
            nodes = [node for each in models if each.ref.name == name for node in each.nodes]
            return [node.node for node in nodes if node.phase == model_pb2.NODE_PHASE_READY]

        nodes: list[str] = fleet.until(f"{address} knows of {name}", lambda: len(ready_nodes()) == 3 and ready_nodes())
        return nodes
