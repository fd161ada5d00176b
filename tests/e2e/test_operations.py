"""What administrators do, and what happens to them, on real nodes: models stay, and none leaves Ready."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ome.status.v1 import status_pb2
from tests.support.fleet import model
from tests.support.hub import Fault, GeneratedFile, Hub
from tests.support.installation import CONFIG, NAMESPACE, Installation, add_small_model, checksums
from tests.support.model_watch import ModelWatch
from tools.localcluster.status_client import reader_token, status_stub

# Everything is rolled out more than once, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]

# What a watch shows of a model that node-1, the only node so far, holds.
READY = 'Ready:["node-1"]'
_MIB = 1 << 20
_BIG = 96 * _MIB


@pytest.fixture(scope="module")
def kept(ome: Installation, hub: Hub) -> Object:
    """A model that is Ready, and to stay so."""
    add_small_model(hub, "acme/kept", seed=10)
    wanted = model("kept", "hf://acme/kept", path="/models/kept")
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)
    return wanted


@contextmanager
def port_forward(ome: Installation, target: str, port: int) -> Iterator[str]:
    """The address at which `kubectl port-forward` serves a port of a Pod or Service."""
    command = [str(ome.cluster.programs["kubectl"]), "port-forward", "-n", NAMESPACE, target, f":{port}"]
    with subprocess.Popen(command, env=ome.cluster.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            # Forwarding from 127.0.0.1:40000 -> 9090
            yield process.stdout.readline().split()[2]
        finally:
            process.terminate()


def fetcher(ome: Installation) -> Object:
    """The fetcher's Pod on node-1."""
    [pod] = [pod for pod in ome.pods("fetcher") if pod["spec"].get("nodeName") == "node-1"]
    return pod


def restarts(pod: Object) -> int:
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])


def test_helm_test_passes(ome: Installation) -> None:
    said = ome.cluster.helm("test", "ome", "-n", NAMESPACE)
    assert "Succeeded" in said


def test_a_port_is_forwarded_to_the_status_service(ome: Installation, kept: Object, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text(ome.cluster.get("configmap", "ome-status-ca", "-n", NAMESPACE)["data"]["ca.crt"])
    token = reader_token(ome.cluster.kubectl)

    with (
        port_forward(ome, "service/ome-status", 9090) as address,
        status_stub(address, authority, token) as stub,
    ):
        found = stub.ListModels(status_pb2.ListModelsRequest(), timeout=20)

    assert "kept" in {each.ref.name for each in found.models}


def test_a_fetcher_that_is_killed_in_a_download_goes_on_where_it_was(ome: Installation, hub: Hub) -> None:
    hub.add_model("acme/resumed", {"config.json": CONFIG}, generated=[GeneratedFile("model.safetensors", _BIG, 11)])
    slow = hub.inject(Fault("throttle", path="*/model.safetensors", bytes_per_second=4 * _MIB))
    wanted = model("resumed", "hf://acme/resumed", path="/models/resumed")
    before = restarts(fetcher(ome))
    ome.cluster.apply(wanted)
    path = "/repos/acme/resumed/*"
    ome.cluster.until("a third is sent", lambda: hub.sent_bytes(path) > _BIG // 3)

    for pid in ome.processes("fetcher"):
        os.kill(pid, signal.SIGKILL)
    slow.remove()
    ome.await_ready(wanted)

    assert restarts(fetcher(ome)) == before + 1
    # What was on disk was not sent again, but for what was in flight.
    assert hub.sent_bytes(path) < _BIG * 1.5
    assert "model.safetensors" in checksums(ome.target("/models/resumed"))


def test_an_oom_kill_of_the_fetcher_costs_nothing(ome: Installation, kept: Object, hub: Hub) -> None:
    hub.add_model("acme/tight", {"config.json": CONFIG}, generated=[GeneratedFile("model.safetensors", _BIG, 12)])
    slow = hub.inject(Fault("throttle", path="*/model.safetensors", bytes_per_second=4 * _MIB))
    wanted = model("tight", "hf://acme/tight", path="/models/tight")
    before = restarts(fetcher(ome))
    ome.cluster.apply(wanted)
    ome.cluster.until("something is sent", lambda: hub.sent_bytes("/repos/acme/tight/*") > _BIG // 4)

    with ModelWatch(ome.cluster, "kept") as watch:
        fill_memory_of(ome, fetcher(ome))
        ome.cluster.until("the fetcher is started again", lambda: restarts(fetcher(ome)) > before, 120)
        slow.remove()
        ome.await_ready(wanted)

    [status] = fetcher(ome)["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert set(watch.seen) == {READY}


def fill_memory_of(ome: Installation, pod: Object) -> None:
    """Use up the memory that a container may have, by processes in it of which each is smaller than the service."""
    script = (
        "import os, time\n"
        "for _ in range(200):\n"
        "    if os.fork() == 0:\n"
        "        kept = bytearray(os.urandom(1 << 20) * 12)\n"
        "        time.sleep(60)\n"
        "        os._exit(0)\n"
        "time.sleep(60)\n"
    )
    ome.cluster.kubectl("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "python", "-c", script, check=False)


def test_a_restart_of_the_kubelet_is_not_noticed(ome: Installation, kept: Object) -> None:
    node = ome.cluster.nodes["node-1"]
    [old] = node.processes("kubelet")
    before = {pod["metadata"]["uid"]: restarts(pod) for pod in ome.pods("status") + ome.pods("fetcher")}
    with ModelWatch(ome.cluster, "kept") as watch:
        node.kill("kubelet")
        ome.cluster.until("another kubelet runs", lambda: node.processes("kubelet") not in ([], [old]))
        ome.cluster.until_reported("node-1", datetime.now(UTC))

    assert {pod["metadata"]["uid"]: restarts(pod) for pod in ome.pods("status") + ome.pods("fetcher")} == before
    assert set(watch.seen) == {READY}


def test_an_upgrade_and_its_rollback_keep_models_ready(ome: Installation, kept: Object, hub: Hub) -> None:
    sent = hub.sent_bytes("/repos/acme/kept/*")
    with ModelWatch(ome.cluster, "kept") as watch:
        ome.upgrade("--set", "ome-fetcher.logLevel=debug,ome-controller.logLevel=debug,ome-status.logLevel=debug")
        ome.cluster.helm("rollback", "ome", "-n", NAMESPACE)
        ome.roll_out()
        add_small_model(hub, "acme/after", seed=13)
        wanted = model("after", "hf://acme/after", path="/models/after")
        ome.cluster.apply(wanted)
        ome.await_ready(wanted)

    assert set(watch.seen) == {READY}
    assert hub.sent_bytes("/repos/acme/kept/*") == sent
    assert json.loads(ome.cluster.helm("history", "ome", "-n", NAMESPACE, "-o", "json"))[-1]["status"] == "deployed"


def test_a_lost_nats_server_is_started_again_and_models_stay_ready(ome: Installation, kept: Object, hub: Hub) -> None:
    with ModelWatch(ome.cluster, "kept") as watch:
        ome.cluster.kubectl("delete", "pod", "ome-nats-0", "-n", NAMESPACE)
        ome.roll_out()
        add_small_model(hub, "acme/renewed", seed=14)
        wanted = model("renewed", "hf://acme/renewed", path="/models/renewed")
        ome.cluster.apply(wanted)
        ome.await_ready(wanted)
    assert set(watch.seen) == {READY}


def test_certificates_are_made_anew_as_the_guide_says(ome: Installation, kept: Object, hub: Hub) -> None:
    names = ("ome-nats-tls", "ome-nats-ca", "ome-parser-tls", "ome-parser-client-tls", "ome-status-tls")
    before = {name: ome.cluster.get("secret", name, "-n", NAMESPACE)["data"]["ca.crt"] for name in names}
    with ModelWatch(ome.cluster, "kept") as watch:
        ome.cluster.kubectl("delete", "secret", *names, "-n", NAMESPACE)
        ome.upgrade()
        deployments = [f"deployment/ome-{name}" for name in ("controller", "status", "resolver")]
        restarted = ("statefulset/ome-nats", "daemonset/ome-fetcher", *deployments)
        ome.cluster.kubectl("rollout", "restart", "-n", NAMESPACE, *restarted)
        ome.roll_out()
        add_small_model(hub, "acme/certified", seed=15)
        wanted = model("certified", "hf://acme/certified", path="/models/certified")
        ome.cluster.apply(wanted)
        # The kubelet brings a changed Secret to the parser's Pods, which nobody restarts, within a minute or so.
        ome.await_ready(wanted, 180)
    after = {name: ome.cluster.get("secret", name, "-n", NAMESPACE)["data"]["ca.crt"] for name in names}
    assert not set(before.values()) & set(after.values())
    assert set(watch.seen) == {READY}


def test_a_root_of_somebody_else_stops_its_models_and_no_upgrade(ome: Installation, kept: Object, hub: Hub) -> None:
    root = ome.on_disk("node-1", "/raid")
    root.mkdir()
    os.chown(root, 4711, 4711)
    add_small_model(hub, "acme/raided", seed=16)
    wanted = model("raided", "hf://acme/raided", path="/raid/raided")
    with ModelWatch(ome.cluster, "kept") as watch:
        ome.upgrade("--set", "ome-fetcher.modelRoots={/models,/raid}")
        ome.cluster.apply(wanted)

        def refused() -> list[Object]:
            failures: list[Object] = ome.model(wanted).get("status", {}).get("failures", [])
            return failures

        [failure] = ome.cluster.until("raided fails", refused)
        assert "/raid" in failure["message"]
        os.chown(root, 0, 0)
        ome.await_ready(wanted)
        ome.cluster.kubectl("delete", "clusterbasemodel", "raided", "--timeout=60s")
        ome.upgrade()
    assert set(watch.seen) == {READY}


def test_idle_services_need_no_more_memory_than_they_request(ome: Installation, kept: Object) -> None:
    over: dict[str, int] = {}
    for service in ("controller", "fetcher", "parser", "resolver", "status"):
        for pod in ome.pods(service):
            requested = sum(
                _bytes(container["resources"]["requests"]["memory"]) for container in pod["spec"]["containers"]
            )
            used = resident_bytes(ome, service, pod)
            if used > requested:
                over[pod["metadata"]["name"]] = used
    assert not over


def _bytes(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity.removesuffix("Mi")) * _MIB


def resident_bytes(ome: Installation, service: str, pod: Object) -> int:
    """Anonymous memory of all processes of a Pod, which no other process shares."""
    total = 0
    for pid in ome.processes(service):
        if f"pod{pod['metadata']['uid']}" in Path(f"/proc/{pid}/cgroup").read_text():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Private_Dirty:"))
    return total
