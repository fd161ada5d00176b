"""Every process is killed in the middle of a download; every server goes away and comes back."""

import json
import shutil
import signal
from collections.abc import Iterator

import pytest

from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tests.support.fleet import Fleet, Object, model
from tests.support.hub import Fault, generated_model

pytestmark = pytest.mark.cluster

SHARDS = 4
SHARD_BYTES = 8 << 20
NODE = "node-1"


@pytest.fixture
def stalled(fleet: Fleet) -> Iterator[Object]:
    """A model whose download on one node hangs in its second shard, after the first has arrived."""
    fleet.hub.clear_faults()
    fleet.hub.add_model("org/large", generated=generated_model(SHARDS * SHARD_BYTES, shards=SHARDS))
    fleet.hub.forget_requests()
    fault = fleet.hub.inject(Fault("stall", path="*/model-00002*", port="cdn", count=1, after_bytes=1 << 20))
    manifest = model("large", "hf://org/large", path="/models/large", nodeSelector={"kubernetes.io/hostname": NODE})
    fleet.apply(manifest)
    fault.wait_fired(seconds=30)
    fleet.until("the first shard has been sent", lambda: sent_bytes(fleet, "*/model-00001*") >= SHARD_BYTES)
    yield manifest
    fleet.hub.clear_faults()
    fleet.delete(manifest)
    fleet.await_gone(manifest)
    fleet.until("nothing is left", lambda: not fleet.leftovers(NODE))


def assert_complete(fleet: Fleet, manifest: Object) -> None:
    item = fleet.await_state(manifest, "Ready", {NODE})
    files = fleet.files(NODE, "/models/large")
    assert len(files) == item["status"]["artifact"]["files"]
    published = fleet.published_weights("org/large")
    assert len(published) == SHARDS
    assert {name: files[name] for name in published} == published


@pytest.mark.parametrize("service", ["controller", "status", "parser"])
def test_service_that_is_killed_during_a_download_costs_no_byte(fleet: Fleet, stalled: Object, service: str) -> None:
    assert fleet.cluster.kill_pod_process(service, number=signal.SIGKILL) >= 1
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    assert sent_bytes(fleet, "*/model-0000*") == SHARDS * SHARD_BYTES


def test_fetcher_that_is_killed_during_a_download_fetches_nothing_again_that_it_had_verified(
    fleet: Fleet, stalled: Object
) -> None:
    done = fleet.until("the first shard is verified", lambda: bytes_done(fleet) >= SHARD_BYTES and bytes_done(fleet))
    assert fleet.cluster.kill_pod_process("fetcher", node=NODE, number=signal.SIGKILL) == 1
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    assert sent_bytes(fleet, "*/model-00001*") == SHARD_BYTES
    assert done >= SHARD_BYTES


def sent_bytes(fleet: Fleet, path: str) -> int:
    """Bytes of weights that the CDN has sent; the hub's redirects to it have bodies too."""
    return sum(request.bytes_sent for request in fleet.hub.requests(path, port="cdn"))


def test_services_that_are_rolled_out_anew_keep_every_model_ready(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    kubectl = fleet.cluster.kubectl
    workloads = ("deployment/ome-controller", "deployment/ome-parser", "deployment/ome-status", "daemonset/ome-fetcher")
    kubectl("rollout", "restart", "-n", "ome", *workloads)
    for workload in workloads:
        kubectl("rollout", "status", "-n", "ome", workload, "--timeout=90s")
    stalled["spec"]["displayName"] = "seen by the new ones"
    fleet.apply(stalled)
    assert_complete(fleet, stalled)
    assert sent_bytes(fleet, "*/model-0000*") == SHARDS * SHARD_BYTES


def bytes_done(fleet: Fleet) -> int:
    with fleet.status_service() as status:
        request = status_pb2.GetModelRequest(kind=model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL, name="large")
        nodes = status.GetModel(request).model.nodes
        return max((node.bytes_done for node in nodes), default=0)


def test_restarted_fetcher_keeps_its_models_ready(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    kind = model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL
    before = fleet.cluster.pods("fetcher", node=NODE)[0].restarts
    with fleet.status_service() as status:
        watch = status.WatchModels(status_pb2.WatchModelsRequest(kind=kind, name="large"), timeout=170)
        fleet.cluster.kill_pod_process("fetcher", node=NODE, number=signal.SIGKILL)
        fleet.until(
            "the fetcher is ready again",
            lambda: (pod := fleet.cluster.pods("fetcher", node=NODE)[0]).restarts > before and pod.ready,
        )
        stalled["spec"]["displayName"] = "marks the end of the watch"
        fleet.apply(stalled)
        generation = fleet.await_state(stalled, "Ready", {NODE})["metadata"]["generation"]
        for event in watch:
            if event.WhichOneof("event") != "updated":
                continue
            assert event.updated.state == status_pb2.MODEL_STATE_READY
            assert [node.phase for node in event.updated.nodes] == [model_pb2.NODE_PHASE_READY]
            if event.updated.observed_generation == generation:
                break
    assert sent_bytes(fleet, "*/model-0000*") == SHARDS * SHARD_BYTES


@pytest.mark.parametrize("server", ["nats", "apiserver"])
def test_server_that_is_killed_and_comes_back_finds_everything_converging(
    fleet: Fleet, stalled: Object, server: str
) -> None:
    fleet.cluster.kill(server)
    fleet.hub.clear_faults()
    fleet.cluster.restart(server)
    assert_complete(fleet, stalled)
    assert sent_bytes(fleet, "*/model-0000*") == SHARDS * SHARD_BYTES


def test_nats_that_comes_back_with_nothing_is_filled_again_and_costs_no_byte(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    before = assignments(fleet)
    fleet.cluster.kill("nats")
    shutil.rmtree(fleet.cluster.state_dir / "nats")
    fleet.cluster.restart("nats")
    fleet.until("the model is assigned again", lambda: assignments(fleet) > before)
    stalled["spec"]["displayName"] = "seen by those who have lost everything"
    fleet.apply(stalled)
    # The node's word that it is Ready may come a moment before the controller's on what the model consists of.
    fleet.await_state(stalled, "Ready", {NODE})
    fleet.until("its artifact is told again", lambda: "artifact" in (fleet.get(stalled) or {})["status"])
    assert_complete(fleet, stalled)
    assert sent_bytes(fleet, "*/model-0000*") == SHARDS * SHARD_BYTES


def assignments(fleet: Fleet) -> int:
    return fleet.cluster.logs("controller", lines=100_000).count("Assign: the node must hold the model")


def test_model_is_deleted_while_it_is_downloaded(fleet: Fleet, stalled: Object) -> None:
    fleet.delete(stalled)
    fleet.await_gone(stalled, seconds=30)
    fleet.until("nothing is left on the node", lambda: not fleet.leftovers(NODE), seconds=30)
    fleet.apply(stalled)


def test_deletion_does_not_wait_for_a_node_that_has_vanished(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    fleet.cluster.add_node("node-9", {})
    everywhere = model("everywhere", "hf://org/large")
    fleet.apply(everywhere)
    fleet.await_state(everywhere, "Ready", {"node-1", "node-2", "node-3", "node-9"})
    fleet.cluster.remove_node("node-9")
    fleet.delete(everywhere)
    fleet.await_gone(everywhere, seconds=20)


def test_deletion_waits_only_so_long_for_a_node_that_is_switched_off(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    assert_complete(fleet, stalled)
    fleet.cluster.add_node("node-8", {})
    everywhere = model("everywhere", "hf://org/large")
    fleet.apply(everywhere)
    fleet.await_state(everywhere, "Ready", {"node-1", "node-2", "node-3", "node-8"})
    fleet.cluster.stop_node("node-8")
    fleet.delete(everywhere)
    fleet.await_gone(everywhere, seconds=90)
    fleet.cluster.kubectl("delete", "node", "node-8")


def test_model_that_names_no_path_crashes_no_fetcher_and_can_be_deleted(fleet: Fleet, stalled: Object) -> None:
    fleet.hub.clear_faults()
    restarts = [pod.restarts for pod in fleet.cluster.pods("fetcher")]
    nowhere = model("nowhere", "hf://org/does-not-exist")
    fleet.apply(nowhere)
    fleet.await_failure(nowhere, "NotFound")
    fleet.delete(nowhere)
    fleet.await_gone(nowhere)
    assert_complete(fleet, stalled)
    assert [pod.restarts for pod in fleet.cluster.pods("fetcher")] == restarts
    assert "Traceback" not in json.dumps(fleet.cluster.logs("fetcher"))
