"""What the programs of a node are told: consistent with each other, and different for each node."""

import tomllib

import pytest

from tools.node import configuration
from tools.node.configuration import NodePlan


def plan(number: int) -> NodePlan:
    return NodePlan(
        name=f"node-{number}",
        number=number,
        run="7",
        folder=f"/state/nodes/node-{number}",
        programs={"kubelet": "/cache/kubelet-1", "kube-proxy": "/cache/kube-proxy-1"},
        userland="/cache/userland",
        archives=("/images/pause.tar",),
        authority="/state/ca.crt",
        kubeconfig="/state/kubeconfig",
        proxy_kubeconfig="/state/proxy.kubeconfig",
        dns_address="10.1.128.10",
    )


def test_a_plan_reaches_the_node_as_it_was() -> None:
    assert NodePlan.from_json(plan(1).to_json()) == plan(1)


@pytest.mark.parametrize("field", ["address", "pod_range", "cgroup", "network_namespace"])
def test_two_nodes_share_no(field: str) -> None:
    assert getattr(plan(1), field) != getattr(plan(2), field)


def test_kubelet_and_containerd_meet_at_one_socket_and_one_pause_image() -> None:
    containerd = tomllib.loads(configuration.containerd(plan(1)))
    kubelet = configuration.kubelet(plan(1))
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{containerd['grpc']['address']}"
    images = containerd["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] == configuration.PAUSE_IMAGE
    runtime = containerd["plugins"]["io.containerd.cri.v1.runtime"]
    options = runtime["containerd"]["runtimes"]["runc"]["options"]
    assert options == {"BinaryName": "/cache/userland/runc", "SystemdCgroup": False}
    assert kubelet["cgroupDriver"] == "cgroupfs"


def test_kubelet_answers_the_api_server_alone() -> None:
    kubelet = configuration.kubelet(plan(1))
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authentication"]["x509"] == {"clientCAFile": "/state/ca.crt"}
    assert kubelet["authorization"] == {"mode": "Webhook"}


def test_pods_of_a_node_have_addresses_of_its_range() -> None:
    [bridge] = configuration.network(plan(2))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": plan(2).pod_range}]]


def test_names_are_served_where_pods_ask() -> None:
    [service] = [item for item in configuration.names("10.1.128.10") if item["kind"] == "Service"]
    assert service["spec"]["clusterIP"] == configuration.kubelet(plan(1))["clusterDNS"][0]
    [deployment] = [item for item in configuration.names("10.1.128.10") if item["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
