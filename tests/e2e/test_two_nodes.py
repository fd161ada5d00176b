"""A second node that comes, is drained, forgotten, and loses its power."""

import json
from typing import Any

import pytest

from tests.support.fleet import model
from tests.support.hub import Hub
from tests.support.installation import NAMESPACE, Installation, add_small_model
from tests.support.model_watch import ModelWatch
from tools.node.cluster import Node

# Everything is rolled out more than once, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]

BOTH = ["node-1", "node-2"]
MODEL = "fleet"


@pytest.fixture(scope="module")
def second(ome: Installation, hub: Hub) -> Node:
    """node-2, which has brought the model that was there before it to Ready."""
    add_small_model(hub, "acme/fleet", seed=20)
    wanted = model(MODEL, "hf://acme/fleet", path="/models/fleet")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    node = ome.cluster.add_node("node-2")
    until_ready_on(ome, BOTH)
    return node


def until_ready_on(ome: Installation, nodes: list[str], name: str = MODEL) -> None:
    def placed() -> bool:
        status = ome.model(model(name, "")).get("status", {})
        return status.get("state") == "Ready" and sorted(status.get("nodesReady", ())) == nodes

    ome.cluster.until(f"{name} is Ready on {nodes}", placed, 120)


def test_replicas_are_on_both_nodes_after_a_rollout(ome: Installation, second: Node) -> None:
    services = ("controller", "parser", "resolver", "status")
    for _ in range(2):
        ome.cluster.kubectl("rollout", "restart", "-n", NAMESPACE, *(f"deployment/ome-{name}" for name in services))
        ome.roll_out()
        placed = {
            service: sorted(
                pod["spec"]["nodeName"] for pod in ome.pods(service) if "deletionTimestamp" not in pod["metadata"]
            )
            for service in services
        }
        assert placed == dict.fromkeys(services, BOTH)


def test_a_drained_node_keeps_its_models_and_gets_new_ones_when_it_is_back(
    ome: Installation, hub: Hub, second: Node
) -> None:
    add_small_model(hub, "acme/drained", seed=21)
    with ModelWatch(ome.cluster, MODEL) as watch:
        ome.cluster.kubectl(
            "drain", "node-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"
        )
        ome.cluster.apply(model("drained", "hf://acme/drained", path="/models/drained"))
        until_ready_on(ome, ["node-1"], "drained")
        ome.cluster.kubectl("uncordon", "node-2")
        until_ready_on(ome, BOTH, "drained")
        ome.roll_out()
    assert set(watch.seen) == {f"Ready:{json.dumps(BOTH, separators=(',', ':'))}"}


def test_a_node_that_was_deleted_and_comes_back_downloads_nothing(ome: Installation, hub: Hub, second: Node) -> None:
    sent = hub.sent_bytes("/repos/acme/fleet/*")
    ome.cluster.kubectl("delete", "node", "node-2")
    until_ready_on(ome, ["node-1"])

    second.kill("kubelet")
    ome.cluster.await_ready("node-2")

    until_ready_on(ome, BOTH)
    assert hub.sent_bytes("/repos/acme/fleet/*") == sent


def leader(ome: Installation) -> Object:
    """The Pod of the controller that acts."""
    holder = ome.cluster.get("lease", "ome-controller", "-n", NAMESPACE)["spec"]["holderIdentity"]
    return next((pod for pod in ome.pods("controller") if pod["metadata"]["name"] in holder), {})


def test_another_controller_acts_when_the_node_of_the_first_loses_power(
    ome: Installation, hub: Hub, second: Node
) -> None:
    def leads_on_second() -> bool:
        pod = leader(ome)
        if pod and pod["spec"]["nodeName"] == "node-1":
            ome.cluster.kubectl("delete", "pod", "-n", NAMESPACE, pod["metadata"]["name"])
        return bool(pod) and pod["spec"]["nodeName"] == "node-2"

    ome.cluster.until("the controller on node-2 leads", leads_on_second, 120)
    ome.roll_out()
    sent = hub.sent_bytes("/repos/acme/fleet/*")
    second.power_off()
    add_small_model(hub, "acme/alone", seed=22)
    alone = model("alone", "hf://acme/alone", path="/models/alone", nodeSelector={"kubernetes.io/hostname": "node-1"})
    ome.cluster.apply(alone)

    ome.await_ready(alone)
    ome.cluster.kubectl("delete", "clusterbasemodel", "alone", "--timeout=60s")

    second.power_on()
    ome.cluster.await_ready("node-2")
    until_ready_on(ome, BOTH)
    assert hub.sent_bytes("/repos/acme/fleet/*") == sent
