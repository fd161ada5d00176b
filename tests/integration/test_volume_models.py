"""Models in PersistentVolumeClaims: bound by the real controllers, inspected by real Jobs, told of without any node."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tests.support.fleet import LLAMA_CONFIG, Fleet, Object, condition, model, started_fleet

pytestmark = pytest.mark.cluster

TEAM = "team-a"
_NODE = "node-1"
# Where the PersistentVolume of each claim lies on the node.
_VOLUMES = "/volumes"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two nodes, of which only one has the volumes; what is found is looked at again every other second."""
    with started_fleet(2, more_values={"controller": {"volumeInspectSeconds": 2}}) as fleet:
        fleet.cluster.kubectl("create", "namespace", TEAM)
        # The strictest of what namespaces ask of Pods.
        fleet.cluster.kubectl("label", "namespace", TEAM, "pod-security.kubernetes.io/enforce=restricted")
        yield fleet


class Claims:
    """Claims and the volumes behind them, made and removed by a test."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._made: list[tuple[str, ...]] = []

    def add(self, name: str, *, volume: bool = True) -> Path:
        """A claim, bound to a volume of its own unless there is to be none yet; the folder of the volume."""
        claim: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": TEAM},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        self._fleet.apply(claim)
        self._made.append(("pvc", "-n", TEAM, name))
        return self.add_volume(name) if volume else Path()

    def add_volume(self, name: str) -> Path:
        """The volume that the claim of this name waits for."""
        folder = self._fleet.cluster.node_root(_NODE) / _VOLUMES.lstrip("/") / name
        folder.mkdir(parents=True)
        here = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [_NODE]}]}]
        volume: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "local": {"path": f"{_VOLUMES}/{name}"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
            },
        }
        self._fleet.apply(volume)
        self._made.append(("pv", name))
        return folder

    def remove(self) -> None:
        """Everything that was made."""
        for address in self._made:
            self._fleet.cluster.kubectl("delete", *address, "--ignore-not-found")
        shutil.rmtree(self._fleet.cluster.node_root(_NODE) / _VOLUMES.lstrip("/"), ignore_errors=True)


@pytest.fixture
def claims(fleet: Fleet) -> Iterator[Claims]:
    made = Claims(fleet)
    yield made
    made.remove()


@pytest.fixture
def applied(fleet: Fleet, claims: Claims) -> Iterator[list[Object]]:
    """Models that a test applies; they are deleted afterwards, and no Job may stay."""
    manifests: list[Object] = []
    yield manifests
    for manifest in manifests:
        if fleet.get(manifest):
            fleet.delete(manifest)
    for manifest in manifests:
        fleet.await_gone(manifest)
    fleet.until("no Job is left", lambda: not jobs(fleet))


def apply(fleet: Fleet, applied: list[Object], *manifests: Object) -> None:
    applied.extend(manifests)
    fleet.apply(*manifests)


def jobs(fleet: Fleet) -> list[Any]:
    found = json.loads(fleet.cluster.kubectl("get", "jobs", "-A", "-l", "models.ome.io/inspects", "-o", "json"))
    return list(found["items"])


def put_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (folder / "pytorch_model.bin").write_bytes(b"weights")


def test_model_in_a_claim_becomes_ready_with_its_facts_and_without_any_node(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    put_model(claims.add("storage") / "llama" / "8b")
    ours = model("ours", "pvc://storage/llama/8b", "BaseModel", TEAM, path="/local/models/ours")
    apply(fleet, applied, ours)
    item = fleet.await_state(ours, "Ready", set())
    status, spec = item["status"], item["spec"]
    assert status["nodes"] == {"desired": 0, "ready": 0, "updating": 0, "failed": 0, "summary": "-"}
    assert status["metadata"]["architecture"] == "LlamaForCausalLM"
    assert spec["maxTokens"] == 8192
    assert {name: condition(item, name)["status"] for name in ("Available", "Complete", "Parsed", "Degraded")} == {
        "Available": "True",
        "Complete": "True",
        "Parsed": "True",
        "Degraded": "False",
    }
    assert "team-a/storage holds the model" in condition(item, "Available")["message"]
    assert "2 files of" in condition(item, "Resolved")["message"]
    assert "Ready" in fleet.cluster.kubectl("get", "basemodels", "-n", TEAM)
    fleet.until("describe tells of it", lambda: "holds the model" in fleet.describe(ours).partition("Events:")[2])
    uid = item["metadata"]["uid"]
    assert fleet.cluster.kubectl("get", "nodes", "-l", f"models.ome/{uid}", "-o", "name") == ""
    with fleet.status_service() as service:
        kind = model_pb2.MODEL_KIND_BASE_MODEL
        told = service.GetModel(status_pb2.GetModelRequest(kind=kind, namespace=TEAM, name="ours")).model
    assert told.state == status_pb2.MODEL_STATE_READY
    assert told.facts.architecture == "LlamaForCausalLM"
    assert (told.artifact.files, list(told.nodes)) == (2, [])


def test_model_waits_for_its_claim_to_be_bound_and_tells_when_the_claim_goes(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    ours = model("ours", "pvc://storage", "BaseModel", TEAM)
    apply(fleet, applied, ours)
    missing = fleet.await_failure(ours, "VolumeNotReady")
    assert "team-a/storage does not exist" in condition(missing, "Degraded")["message"]
    claims.add("storage", volume=False)
    pending = fleet.await_state(ours, "Creating")
    assert "is Pending" in condition(pending, "Degraded")["message"]
    assert not jobs(fleet)
    put_model(claims.add_volume("storage"))
    fleet.await_state(ours, "Ready")
    fleet.cluster.kubectl("delete", "pvc", "-n", TEAM, "storage")
    gone = fleet.await_failure(ours, "VolumeNotReady")
    assert "metadata" not in gone["status"]


def test_missing_directory_is_told_and_looked_for_until_it_appears_and_again_after_it_vanishes(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    folder = claims.add("storage")
    ours = model("ours", "pvc://storage/llama/8b", "BaseModel", TEAM)
    apply(fleet, applied, ours)
    item = fleet.await_failure(ours, "NotFound")
    assert "the volume has no directory 'llama/8b'" in condition(item, "Degraded")["message"]
    put_model(folder / "llama" / "8b")
    fleet.await_state(ours, "Ready")
    shutil.rmtree(folder / "llama")
    fleet.await_failure(ours, "NotFound")


def test_edited_path_is_inspected_at_once(fleet: Fleet, claims: Claims, applied: list[Object]) -> None:
    folder = claims.add("storage")
    (folder / "raw").mkdir()
    (folder / "raw" / "weights.bin").write_bytes(b"12345")
    ours = model("ours", "pvc://storage/raw", "BaseModel", TEAM)
    apply(fleet, applied, ours)
    item = fleet.await_state(ours, "Ready")
    assert condition(item, "Parsed")["status"] == "False"
    assert condition(item, "Parsed")["reason"] == "NoConfig"
    put_model(folder / "llama")
    ours["spec"]["storage"]["storageUri"] = "pvc://storage/llama"
    fleet.apply(ours)
    fleet.until("the new path is parsed", lambda: (fleet.get(ours) or {})["status"].get("metadata"))


def test_model_of_the_cluster_reads_a_claim_that_it_names_with_its_namespace(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    put_model(claims.add("storage"))
    all_of_it = model("all-of-it", f"pvc://{TEAM}:storage")
    unparsed = model("unparsed", f"pvc://{TEAM}:storage")
    unparsed["metadata"]["annotations"] = {"ome.io/skip-config-parsing": "true"}
    apply(fleet, applied, all_of_it, unparsed)
    assert fleet.await_state(all_of_it, "Ready")["spec"]["modelType"] == "llama"
    item = fleet.await_state(unparsed, "Ready")
    assert condition(item, "Parsed")["reason"] == "ParsingSkipped"
    assert "metadata" not in item["status"]


def test_inspection_that_cannot_be_scheduled_says_so_and_outlives_the_controller(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    put_model(claims.add("storage"))
    ours = model("ours", "pvc://storage", "BaseModel", TEAM)
    fleet.cluster.kubectl("cordon", _NODE)
    try:
        apply(fleet, applied, ours)
        fleet.until("the status says so", lambda: "cannot be scheduled" in fleet.describe(ours))
        [before] = jobs(fleet)
        assert fleet.cluster.kill_pod_process("controller") >= 1
    finally:
        fleet.cluster.kubectl("uncordon", _NODE)
    fleet.until(
        "the Job has ended", lambda: before["metadata"]["uid"] not in [job["metadata"]["uid"] for job in jobs(fleet)]
    )
    fleet.await_state(ours, "Ready")


def test_job_of_somebody_else_in_the_way_is_told_and_gone_around(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    put_model(claims.add("storage"))
    ours = model("ours", "pvc://storage", "BaseModel", TEAM)
    fleet.cluster.kubectl("cordon", _NODE)
    try:
        apply(fleet, applied, ours)
        [job] = fleet.until("there is a Job", lambda: jobs(fleet))
        name = job["metadata"]["name"]
        # Without its label it is none of the controller's any more.
        fleet.cluster.kubectl("label", "job", "-n", TEAM, name, "models.ome.io/inspects-")
        fleet.until("another Job was made", lambda: [one for one in jobs(fleet) if one["metadata"]["name"] != name])
    finally:
        fleet.cluster.kubectl("uncordon", _NODE)
    fleet.await_state(ours, "Ready")
    assert name in fleet.cluster.kubectl("get", "jobs", "-n", TEAM, "-o", "name")


def test_namespace_that_permits_no_jobs_is_told_and_asked_again(
    fleet: Fleet, claims: Claims, applied: list[Object]
) -> None:
    put_model(claims.add("storage"))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-jobs", "namespace": TEAM}}
    fleet.apply({**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})
    try:
        ours = model("ours", "pvc://storage", "BaseModel", TEAM)
        apply(fleet, applied, ours)
        fleet.until("the status says so", lambda: "exceeded quota" in fleet.describe(ours))
    finally:
        fleet.cluster.kubectl("delete", "resourcequota", "-n", TEAM, "no-jobs")
    fleet.await_state(ours, "Ready")
