"""The arrows of the NetworkPolicies, tried from inside of Pods on a network that enforces them."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.consumer import IMAGE, consumer, said
from tests.support.hub import Hub
from tests.support.installation import NAMESPACE, Installation
from tools.node.configuration import MACHINE

Object = dict[str, Any]

# Everything that listens, by the name of what is behind it.
PORTS = {
    "nats": {"clients": 4222, "routes": 6222, "monitoring": 8222},
    "parser": {"grpc": 9090, "http": 8080},
    "status": {"grpc": 9090, "http": 8080},
    "controller": {"http": 8080, "gateway": 8081},
    "fetcher": {"http": 8080},
    "resolver": {"http": 8080},
}
# For everybody in the cluster: metrics, and the status service, which asks for a token.
OPEN = {
    "parser http",
    "status grpc",
    "status http",
    "controller http",
    "controller gateway",
    "fetcher http",
    "resolver http",
}
ARROWS = {
    "controller": {"nats clients", "kubernetes"},
    "status": {"nats clients", "kubernetes"},
    "fetcher": {"nats clients", "parser grpc", "source"},
    "resolver": {"nats clients", "source"},
    "parser": set[str](),
}
# Prints which of the addresses in its argument, a JSON object by name, accept a connection.
_SCRIPT = """
import concurrent.futures, json, socket, sys
def reached(item):
    name, (host, port) = item
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return None
    return name
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps({"reached": [name for name in pool.map(reached, json.loads(sys.argv[1]).items()) if name]}))
"""


@pytest.fixture
def targets(ome: Installation, hub: Hub) -> dict[str, tuple[str, int]]:
    """Address and port of everything that a Pod could call, by name."""
    found: dict[str, tuple[str, int]] = {}
    for service, ports in PORTS.items():
        address = ome.pods(service)[0]["status"]["podIP"]
        found |= {f"{service} {name}": (address, port) for name, port in ports.items()}
    source = urlsplit(hub.endpoint)
    found["source"] = (str(source.hostname), int(source.port or 0))
    found["kubernetes"] = (MACHINE, ome.cluster.api_port)
    return found


@pytest.mark.parametrize("service", ARROWS)
def test_a_service_reaches_what_it_needs_and_nothing_else(
    service: str, ome: Installation, targets: dict[str, tuple[str, int]]
) -> None:
    pod = ome.pods(service)[0]
    address = pod["status"]["podIP"]
    others = {name: target for name, target in targets.items() if target[0] != address}
    command = ("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "python", "-c", _SCRIPT, json.dumps(others))

    answer = json.loads(ome.cluster.kubectl(*command).splitlines()[-1])

    assert set(answer["reached"]) == ARROWS[service]


@pytest.mark.parametrize("namespace", ["default", NAMESPACE])
def test_a_pod_of_nobody_reaches_metrics_and_the_status_service_alone(
    namespace: str, ome: Installation, targets: dict[str, tuple[str, int]]
) -> None:
    pod = consumer("caller", "/models")
    pod["metadata"]["namespace"] = namespace
    ours = {name: target for name, target in targets.items() if name not in ("source", "kubernetes")}
    pod["spec"]["containers"][0] |= {"image": IMAGE, "command": ["python", "-c", _SCRIPT, json.dumps(ours)]}
    ome.cluster.apply(pod)

    [printed] = said(ome.cluster, pod)

    ome.cluster.kubectl("delete", "pod", "caller", "-n", namespace)
    assert set(printed["reached"]) == OPEN
