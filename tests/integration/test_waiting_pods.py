"""Pods that name a model, on a whole cluster: where the scheduler puts them, when, and what they read there."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.controller.gates import GATE, WAITING_LABEL
from tests.support.fleet import Fleet, Object, content, model, started_fleet
from tests.support.hub.client import generated_model

pytestmark = pytest.mark.cluster

CONFIG = b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
FILES = {"config.json": CONFIG}
# Names the files that a Pod sees where it was told that its model is, and shows one of them.
_READ = (
    "import hashlib, os, pathlib; "
    "folder = pathlib.Path(os.environ['MODEL_PATH']); "
    "print(sorted(path.name for path in folder.iterdir())); "
    "print(hashlib.sha256((folder / 'config.json').read_bytes()).hexdigest())"
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    nodes = {"node-1": {"gpu": "A100"}, "node-2": {"gpu": "H100"}, "node-3": {"gpu": "none"}}
    folder: Path = tmp_path_factory.mktemp("fleet")
    with started_fleet(nodes, state_dir=folder, images={"test/reader": ("python", "-c", _READ)}) as started:
        yield started


def pod(name: str, **says: str) -> Object:
    """A Pod that reads its model once, and says of it what is given."""
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    annotations = {f"models.ome.io/{word}": text for word, text in says.items()}
    spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "reader", "image": "test/reader", "imagePullPolicy": "IfNotPresent"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "annotations": annotations}, "spec": spec}


def seen(fleet: Fleet, name: str) -> Object:
    output = fleet.cluster.kubectl("get", "pod", name, "-n", "default", "-o", "json")
    found: Object = json.loads(output)
    return found


def create(fleet: Fleet, manifest: Object) -> None:
    fleet.cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))


def is_gated(fleet: Fleet, name: str) -> bool:
    conditions = seen(fleet, name).get("status", {}).get("conditions", [])
    return any(each.get("reason") == "SchedulingGated" for each in conditions)


def has_ended(fleet: Fleet, name: str) -> bool:
    return bool(seen(fleet, name)["status"].get("phase") == "Succeeded")


def node_of(fleet: Fleet, name: str) -> str:
    return str(seen(fleet, name)["spec"].get("nodeName", ""))


def test_a_pod_that_requires_its_model_waits_for_it_and_then_reads_it(fleet: Fleet) -> None:
    create(fleet, pod("early", model="awaited", placement="required", mount="/model"))
    fleet.until("the Pod waits behind its gate", partial(is_gated, fleet, "early"))
    assert seen(fleet, "early")["metadata"]["labels"][WAITING_LABEL] == "true"

    fleet.hub.add_model("org/awaited", FILES, generated=generated_model(1 << 20))
    fleet.apply(model("awaited", "hf://org/awaited", nodeSelector={"gpu": "H100"}))

    fleet.until("the Pod has read its model", partial(has_ended, fleet, "early"))
    found = seen(fleet, "early")
    assert found["spec"]["nodeName"] == "node-2"
    assert GATE not in json.dumps(found["spec"].get("schedulingGates", []))
    assert WAITING_LABEL not in found["metadata"].get("labels", {})
    log = fleet.cluster.kubectl("logs", "early", "-n", "default")
    assert "model.safetensors" in log
    assert content(FILES)["config.json"] in log


def told(fleet: Fleet, name: str) -> dict[str, str]:
    """What a Pod was told by Events of ours, by reason."""
    output = fleet.cluster.kubectl("get", "events.events.k8s.io", "-n", "default", "-o", "json")
    found = [each for each in json.loads(output)["items"] if each.get("regarding", {}).get("name") == name]
    return {each["reason"]: each["note"] for each in found if each.get("reportingController") == "ome.io/controller"}


def test_a_pod_that_waits_is_told_why_and_when_it_no_longer_does(fleet: Fleet) -> None:
    create(fleet, pod("curious", model="late", placement="required"))
    create(fleet, pod("mistaken", model="team-b/other", placement="required"))
    fleet.until("the Pod is told what it waits for", lambda: "ModelNotFound" in told(fleet, "curious"))
    assert told(fleet, "curious") == {"ModelNotFound": "waits for ClusterBaseModel late, which does not exist"}
    assert "ModelNotFound" in fleet.cluster.kubectl("describe", "pod", "curious", "-n", "default")

    fleet.hub.add_model("org/late", FILES, generated=generated_model(1 << 20))
    fleet.apply(model("late", "hf://org/late", nodeSelector={"gpu": "H100"}))
    fleet.until("the Pod is told that its model is there", lambda: "ModelReady" in told(fleet, "curious"))
    assert "is Ready on 1 node: the Pod may be scheduled" in told(fleet, "curious")["ModelReady"]


def test_a_pod_that_requires_a_model_in_a_claim_is_told_that_it_waits_for_ever(fleet: Fleet) -> None:
    fleet.apply(model("claimed", "pvc://default:nowhere/model"))
    create(fleet, pod("hopeless", model="claimed", placement="required"))
    fleet.until("the Pod is told so", lambda: "ModelOnNoNode" in told(fleet, "hopeless"))
    assert "make it anew without models.ome.io/placement" in told(fleet, "hopeless")["ModelOnNoNode"]
    assert is_gated(fleet, "hopeless")


def test_a_pod_goes_to_the_node_that_holds_its_model_without_asking_for_it(fleet: Fleet) -> None:
    fleet.hub.add_model("org/placed", FILES, generated=generated_model(1 << 20))
    placed = model("placed", "hf://org/placed", path="/raid/models/placed", nodeSelector={"gpu": "none"})
    fleet.apply(placed)
    fleet.await_state(placed, "Ready", {"node-3"})
    for number in range(3):
        # The label follows the status by a moment.
        fleet.until("the node says so", partial(is_labelled, fleet, "node-3", "placed"))
        create(fleet, pod(f"near-{number}", model="placed", mount="/model", path="/raid/models/placed"))
        fleet.until("the Pod has read its model", partial(has_ended, fleet, f"near-{number}"))
    assert {node_of(fleet, f"near-{number}") for number in range(3)} == {"node-3"}


def is_labelled(fleet: Fleet, node: str, name: str) -> bool:
    found = json.loads(fleet.cluster.kubectl("get", "node", node, "-o", "json"))
    return bool(found["metadata"]["labels"].get(f"models.ome.io/clusterbasemodel.{name}") == "Ready")


def test_pods_are_created_and_scheduled_while_nothing_of_ours_runs(fleet: Fleet) -> None:
    fleet.cluster.kubectl("scale", "deployment", "ome-controller", "ome-status", "-n", "ome", "--replicas=0")
    try:
        create(fleet, pod("plain"))
        create(fleet, pod("preferring", model="nowhere"))
        create(fleet, pod("requiring", model="nowhere", placement="required"))
        for name in ("plain", "preferring"):
            fleet.until(f"{name} is scheduled", partial(node_of, fleet, name))
        fleet.until("only the one that asked for it waits", partial(is_gated, fleet, "requiring"))
        assert "affinity" not in seen(fleet, "plain")["spec"]
    finally:
        fleet.cluster.kubectl("scale", "deployment", "ome-controller", "ome-status", "-n", "ome", "--replicas=1")
