"""From kubectl apply to Ready on the right nodes, and what users see on the way."""

import json
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from functools import partial

import grpc
import pytest

from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tests.support.fleet import LLAMA_CONFIG, QUICK_RETRIES, Fleet, Object, condition, content, model
from tests.support.gguf_files import F32, gguf_file
from tests.support.hub import Fault, generated_model
from tests.support.origin import OriginServer
from tests.support.programs import ROOT
from tests.support.safetensors_files import whole_file

pytestmark = pytest.mark.cluster

CONFIG = LLAMA_CONFIG | {"transformers_version": "4.44.0"}
SMALL = {"config.json": json.dumps(CONFIG).encode(), "README.md": b"# a model\n", "pytorch_model.bin": b"weights"}


@pytest.fixture
def applied(fleet: Fleet) -> Iterator[list[Object]]:
    """Manifests that a test applies; they are deleted afterwards, and nothing of them may stay."""
    manifests: list[Object] = []
    yield manifests
    for manifest in manifests:
        if fleet.get(manifest):
            fleet.delete(manifest)
    for manifest in manifests:
        fleet.await_gone(manifest)
    for node in fleet.cluster.nodes:
        fleet.until(f"{node} holds nothing", partial(holds_nothing, fleet, node))


def holds_nothing(fleet: Fleet, node: str) -> bool:
    return not fleet.leftovers(node)


def shows(fleet: Fleet, node: str, path: str, files: dict[str, str]) -> bool:
    return files.items() <= fleet.files(node, path).items()


def apply(fleet: Fleet, applied: list[Object], *manifests: Object) -> None:
    applied.extend(manifests)
    fleet.apply(*manifests)


def page_of(fleet: Fleet, path: str) -> str:
    """What the web page shows a reader of models."""
    trust = ssl.create_default_context(cafile=fleet.cluster.status_authority)
    # The certificate names the Service.
    trust.check_hostname = False
    address = f"https://{fleet.cluster.service_address('ome-status', 8443)}{path}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {fleet.cluster.status_token}"})
    with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
        return str(answer.read().decode())


def test_models_land_exactly_on_the_nodes_that_selector_and_affinity_name(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    fleet.hub.add_model("org/two", SMALL, generated=generated_model(2 << 20, shards=2))
    terms = [{"matchExpressions": [{"key": "models.ome.io/available-storage", "operator": "Gt", "values": ["500Gi"]}]}]
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    one = model("one", "hf://org/one", path="/models/one", nodeSelector={"gpu": "A100"})
    two = model("two", "hf://org/two", path="/models/two", nodeAffinity=affinity)
    fleet.cluster.kubectl("create", "namespace", "team-a", check=False)
    ours = model("ours", "hf://org/one", "BaseModel", "team-a", nodeSelector={"kubernetes.io/hostname": "node-3"})
    apply(fleet, applied, one, two, ours)
    fleet.await_state(one, "Ready", {"node-2"})
    fleet.await_state(two, "Ready", {"node-1"})
    fleet.await_state(ours, "Ready", {"node-3"})
    assert set(fleet.files("node-1", "/models/two")) == {
        "README.md",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    assert fleet.files("node-2", "/models/one")["config.json"] == content(SMALL)["config.json"]
    assert fleet.files("node-3", "/models/basemodel/team-a/ours")
    for node, path in (("node-1", "/models/one"), ("node-2", "/models/two"), ("node-3", "/models/one")):
        assert not fleet.files(node, path)


def test_a_slow_download_says_how_far_it_is_and_in_the_end_what_it_took(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/slow", SMALL, generated=generated_model(3 << 20))
    throttle = fleet.hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=50_000))
    slow = model("slow", "hf://org/slow", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, slow)
    kubectl = fleet.cluster.kubectl
    throttle.wait_fired()

    def moving() -> Object | None:
        status: Object = (fleet.get(slow) or {}).get("status", {})
        return status if status.get("progress", {}).get("bytesPerSecond") else None

    # Well before the half minute after which a status is written in any case.
    status = fleet.until("the status says how far the download is", moving, 18)
    progress = status["progress"]
    assert 0 < progress["bytes"] < progress["totalBytes"] == status["artifact"]["bytes"]
    assert progress["slowestNode"] == "node-1"
    assert progress["etaSeconds"] > 0
    [file] = progress["nodes"][0]["files"]
    assert (file["path"], 0 < file["bytes"] < file["totalBytes"] < progress["totalBytes"]) == (
        "model.safetensors",
        True,
    )
    assert f"{progress['percent']} fetched (" in condition({"status": status}, "Ready")["message"]
    assert progress["percent"] in kubectl("get", "clusterbasemodel", "slow")
    assert f"Percent:           {progress['percent']}".split() in [
        line.split() for line in kubectl("describe", "clusterbasemodel", "slow").splitlines()
    ]

    throttle.release()
    kubectl("wait", "--for=condition=Ready", "clusterbasemodel/slow", "--timeout=120s")
    status = fleet.await_state(slow, "Ready", {"node-1"})["status"]
    assert "progress" not in status
    assert status["download"]["bytes"] == status["artifact"]["bytes"]
    assert status["download"]["seconds"] >= 3
    listed = page_of(fleet, "/files/models/clusterbasemodels/slow")
    for words in ("model.safetensors", "SHA-256", "README.md", status["artifact"]["digest"]):
        assert words in listed, words
    assert "pytorch_model.bin" not in listed, "the same weights once more are not fetched"
    assert fleet.metric("ome-fetcher", 'ome_fetcher_transfers_total{backend="hf",result="Ok"}') >= 1


def test_files_of_a_deleted_model_stay_with_the_label_until_the_next_is_deleted_without_it(
    fleet: Fleet, applied: list[Object]
) -> None:
    fleet.hub.add_model("org/kept", SMALL, generated=generated_model(1 << 20))
    kept = model("kept", "hf://org/kept", path="/models/kept", nodeSelector={"gpu": "H100"})
    labelled = {**kept, "metadata": {**kept["metadata"], "labels": {"models.ome/reserve-model-artifact": "true"}}}
    apply(fleet, applied, labelled)
    fleet.await_state(kept, "Ready", {"node-1"})
    files = fleet.files("node-1", "/models/kept")
    fleet.delete(labelled)
    fleet.await_gone(labelled)
    assert fleet.files("node-1", "/models/kept") == files

    fleet.hub.forget_requests()
    fleet.apply(kept)
    fleet.await_state(kept, "Ready", {"node-1"})
    assert fleet.files("node-1", "/models/kept") == files
    assert fleet.hub.sent_bytes("*.safetensors") == 0


def test_the_commands_that_users_were_promised_work(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, one)
    item = fleet.await_state(one, "Ready", {"node-1"})
    kubectl, uid = fleet.cluster.kubectl, item["metadata"]["uid"]
    table = kubectl("get", "clusterbasemodels")
    assert "one" in table
    assert "Ready" in table
    fleet.until(
        "the node has its label",
        lambda: "node-1" in kubectl("get", "nodes", "-l", f"models.ome/{uid}=Ready", "-o", "name"),
    )
    assert "node-1" in kubectl("get", "nodes", "-l", "models.ome.io/clusterbasemodel.one=Ready", "-o", "name")
    assert "node-2" not in kubectl("get", "nodes", "-l", f"models.ome/{uid}", "-o", "name")

    def entries() -> dict[str, str]:
        found = kubectl("get", "configmaps", "-n", "ome", "-l", "models.ome/basemodel-status=true", "-o", "json")
        return {key: value for item in json.loads(found)["items"] for key, value in item.get("data", {}).items()}

    fleet.until("the ConfigMap says Ready", lambda: any("Ready" in value for value in entries().values()))
    assert "Ready" in fleet.describe(one)


def test_status_and_spec_tell_what_the_model_is(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", nodeSelector={"gpu": "H100"})
    one["spec"]["modelType"] = "mine"
    apply(fleet, applied, one)
    item = fleet.await_state(one, "Ready", {"node-1"})
    status, spec = item["status"], item["spec"]
    assert status["lifecycle"] == "Ready"
    assert status["nodesFailed"] == []
    assert status["artifact"]["files"] == 3
    assert status["artifact"]["digest"].startswith("sha256:")
    assert status["metadata"]["architecture"] == "LlamaForCausalLM"
    assert condition(item, "Available")["status"] == "True"
    assert condition(item, "Complete")["status"] == "True"
    assert condition(item, "Parsed")["status"] == "True"
    assert spec["modelArchitecture"] == "LlamaForCausalLM"
    assert spec["maxTokens"] == 8192
    assert spec["modelType"] == "mine", "what the user wrote stays"


def test_grpc_clients_are_told_the_same_truth(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", nodeSelector={"gpu": "H100"})
    kind = model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL
    with fleet.status_service() as status:
        watch = status.WatchModels(status_pb2.WatchModelsRequest(kind=kind, name="one"), timeout=170)
        first = next(watch)
        assert first.WhichOneof("event") == "synced"
        apply(fleet, applied, one)
        states = []
        for event in watch:
            states.append(event.updated.state)
            if event.updated.state == status_pb2.MODEL_STATE_READY:
                break
        assert states[0] == status_pb2.MODEL_STATE_CREATING
        item = fleet.await_state(one, "Ready")
        answer = status.GetModel(status_pb2.GetModelRequest(kind=kind, name="one")).model
        assert answer.ref.uid == item["metadata"]["uid"]
        assert [node.node for node in answer.nodes] == item["status"]["nodesReady"]
        assert answer.artifact.digest == item["status"]["artifact"]["digest"]
        listed = status.ListModels(status_pb2.ListModelsRequest(state=status_pb2.MODEL_STATE_READY)).models
        assert "one" in [each.ref.name for each in listed]
        nodes = {node.name: node for node in status.ListNodes(status_pb2.ListNodesRequest()).nodes}
        assert nodes["node-1"].models_ready >= 1
        assert nodes["node-1"].reachable
        fleet.delete(one)
        for event in watch:
            if event.WhichOneof("event") == "deleted":
                break
        with pytest.raises(grpc.RpcError) as refused:
            status.GetModel(status_pb2.GetModelRequest(kind=kind, name="one"))
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_local_model_is_read_in_place_and_survives_its_deletion(fleet: Fleet, applied: list[Object]) -> None:
    place = fleet.cluster.node_root("node-1") / "models" / "ours"
    place.mkdir(parents=True)
    for name, data in SMALL.items():
        (place / name).write_bytes(data)
    here = model("here", "local:///models/ours", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, here)
    item = fleet.await_state(here, "Ready", {"node-1"})
    assert item["status"]["metadata"]["modelType"] == "llama"
    fleet.delete(here)
    fleet.await_gone(here)
    assert fleet.files("node-1", "/models/ours") == content(SMALL)


def test_model_of_a_vendor_is_ready_once_its_own_tools_have_put_it_there(fleet: Fleet, applied: list[Object]) -> None:
    theirs = model("theirs", "vendor://nvidia/models/m", path="/opt/models/theirs", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, theirs)
    fleet.await_failure(theirs, "NotFound")
    place = fleet.cluster.node_root("node-1") / "opt" / "models" / "theirs"
    place.mkdir(parents=True)
    for name, data in SMALL.items():
        (place / name).write_bytes(data)
    item = fleet.await_state(theirs, "Ready", {"node-1"})
    assert item["status"]["metadata"]["modelType"] == "llama"
    fleet.delete(theirs)
    fleet.await_gone(theirs)
    assert fleet.files("node-1", "/opt/models/theirs") == content(SMALL)


def test_model_of_a_vendor_is_downloaded_once_the_operator_has_configured_a_driver(
    fleet: Fleet, applied: list[Object]
) -> None:
    mine = model("mine", "vendor://acme/models/llama", storageKey="acme", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, mine)
    item = fleet.await_failure(mine, "InvalidPath")
    assert "storage.path must name the directory" in condition(item, "Degraded")["message"]
    fleet.cluster.kubectl("create", "secret", "generic", "acme", "-n", "ome", "--from-literal=key=s3cret-key")
    files = [{"path": name, "size": len(data), "sha256": content(SMALL)[name]} for name, data in SMALL.items()]
    with OriginServer() as acme:
        acme.add("/models/llama/index.json", json.dumps({"revision": "v1", "files": files}).encode())
        acme.require("/models/llama/index.json", "X-Api-Key", "s3cret-key")
        for name, data in SMALL.items():
            acme.add(f"/models/llama/v1/{name}", data)
            acme.require(f"/models/llama/v1/{name}", "X-Api-Key", "s3cret-key")
        driver = {
            "driver": "http",
            "index": f"{acme.url}/{{type}}/{{path}}/index.json",
            "file": f"{acme.url}/{{type}}/{{path}}/{{revision}}/{{file}}",
            "headers": {"X-Api-Key": "{secret:key}"},
        }
        values = {**QUICK_RETRIES["fetcher"], "vendorDrivers": {"acme": driver}}
        fleet.cluster.install("fetcher", values={"fetcher": values})
        item = fleet.await_state(mine, "Ready", {"node-1"})
    assert item["status"]["artifact"]["sourceRevision"] == "v1"
    assert item["status"]["metadata"]["modelType"] == "llama"
    assert fleet.files("node-1", item["status"]["path"]) == content(SMALL)
    assert "s3cret" not in fleet.cluster.logs("fetcher", lines=1_000_000)


def test_relabelled_nodes_lose_and_gain_the_model(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", path="/models/one", nodeSelector={"tier": "fast"})
    apply(fleet, applied, one)
    fleet.until(
        "the model says that no node matches",
        lambda: "NoMatchingNode" in json.dumps((fleet.get(one) or {}).get("status", {})),
    )
    fleet.cluster.kubectl("label", "node", "node-1", "tier=fast")
    try:
        fleet.await_state(one, "Ready", {"node-1"})
        fleet.cluster.kubectl("label", "node", "node-1", "tier-")
        fleet.cluster.kubectl("label", "node", "node-3", "tier=fast")
        fleet.await_state(one, "Ready", {"node-3"})
        fleet.until("the first node holds nothing", lambda: not fleet.files("node-1", "/models/one"))
    finally:
        fleet.cluster.kubectl("label", "node", "node-1", "node-3", "tier-")


def test_changed_selector_and_source_take_effect(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    fleet.hub.add_model("org/other", {**SMALL, "README.md": b"# another\n"}, generated=generated_model(1 << 20, seed=7))
    one = model("one", "hf://org/one", path="/models/one", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, one)
    first = fleet.await_state(one, "Ready", {"node-1"})
    one["spec"]["storage"]["nodeSelector"] = {}
    fleet.apply(one)
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    one["spec"]["storage"]["storageUri"] = "hf://org/other"
    fleet.apply(one)
    fleet.until(
        "the new files are everywhere",
        lambda: all(
            fleet.files(node, "/models/one").get("README.md") == content({"": b"# another\n"})[""]
            for node in fleet.cluster.nodes
        ),
    )
    second = fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    assert second["status"]["artifact"]["digest"] != first["status"]["artifact"]["digest"]


def test_going_back_to_the_source_before_takes_no_longer_than_going_to_the_next(
    fleet: Fleet, applied: list[Object]
) -> None:
    fleet.hub.add_model("org/stable", SMALL, generated=generated_model(1 << 20))
    fleet.hub.add_model("org/next", {**SMALL, "README.md": b"# next\n"}, generated=generated_model(1 << 20, seed=8))
    one = model("one", "hf://org/stable", path="/models/one", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, one)
    fleet.await_state(one, "Ready", {"node-1"})
    for repository, readme in (("org/next", b"# next\n"), ("org/stable", SMALL["README.md"])):
        one["spec"]["storage"]["storageUri"] = f"hf://{repository}"
        fleet.apply(one)
        wanted = content({"README.md": readme})
        shown = partial(shows, fleet, "node-1", "/models/one", wanted)
        fleet.until(f"the files are those of {repository}", shown, seconds=30)


def test_model_with_a_pointer_for_weights_is_incomplete_until_it_is_allowed_or_mended(
    fleet: Fleet, applied: list[Object]
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4976698672\n"
    files = {"config.json": json.dumps(CONFIG).encode(), "README.md": b"# broken\n"}
    fleet.hub.add_model("org/broken", {**files, "model.safetensors": pointer})
    broken = model("broken", "hf://org/broken", path="/models/broken", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, broken)
    item = fleet.await_failure(broken, "Incomplete")
    assert condition(item, "Whole")["status"] == "False"
    assert condition(item, "Whole")["message"].startswith("model.safetensors is a Git LFS pointer")
    assert item["status"]["reason"] == "Incomplete"
    assert item["status"]["metadata"]["modelType"] == "llama"
    shown = fleet.cluster.kubectl("get", "clusterbasemodel", "broken", "-o", "wide").split("\n")[1].split()
    assert (shown[1], shown.count("Incomplete")) == ("Incomplete", 2)
    uid = item["metadata"]["uid"]
    assert (
        fleet.cluster.kubectl("get", "nodes", "-l", f"models.ome/{uid}=Failed", "-o", "name").strip() == "node/node-1"
    )
    assert fleet.files("node-1", "/models/broken") == {}

    broken["spec"]["storage"]["parameters"] = {"allowIncomplete": "true"}
    fleet.apply(broken)
    item = fleet.await_state(broken, "Ready", {"node-1"})
    assert (condition(item, "Whole")["status"], item["status"]["reason"]) == ("False", "Incomplete")

    del broken["spec"]["storage"]["parameters"]
    fleet.apply(broken)
    fleet.await_failure(broken, "Incomplete")
    fleet.hub.push("org/broken", {"model.safetensors": whole_file(100_000, b"weights")})
    item = fleet.await_state(broken, "Ready", {"node-1"})
    fleet.until("it is told to be whole", lambda: condition(fleet.get(broken) or {}, "Whole")["status"] == "True")
    assert (fleet.cluster.node_root("node-1") / "models/broken/model.safetensors").stat().st_size == 100_000
    told = fleet.until("describe tells of it", lambda: fleet.describe(broken).partition("Events:")[2])
    assert told.count("Incomplete") >= 1


def test_one_of_several_quantizations_is_fetched_and_the_model_says_so(fleet: Fleet, applied: list[Object]) -> None:
    files = {}
    for name in ("Q2_K", "Q4_K_M", "Q6_K", "Q8_0"):
        path, size, header = gguf_file(f"tiny-{name}.gguf", {"general.architecture": "llama"}, {"a": (2, 2)}, F32)
        files[path] = header + name.encode().ljust(size - len(header), b"0")
    fleet.hub.add_model("org/quantized", files)
    fleet.hub.forget_requests()
    quantized = model("quantized", "hf://org/quantized", path="/models/quantized", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, quantized)
    item = fleet.await_state(quantized, "Ready", {"node-1"})
    assert set(fleet.files("node-1", "/models/quantized")) == {"tiny-Q4_K_M.gguf"}
    [chosen] = [each for each in item["status"]["warnings"] if each["reason"] == "VariantChosen"]
    assert chosen["message"].startswith("Of the quantizations Q4_K_M, Q2_K, Q6_K and Q8_0 in GGUF, Q4_K_M is fetched")
    fleet.until("an event tells of it", lambda: "VariantChosen" in fleet.describe(quantized).partition("Events:")[2])

    quantized["spec"]["storage"]["parameters"] = {"variant": "Q8_0"}
    fleet.apply(quantized)
    fleet.until(
        "the other one is there",
        lambda: set(fleet.files("node-1", "/models/quantized")) == {"tiny-Q8_0.gguf"},
    )
    fleet.until("there is nothing left to tell", lambda: "warnings" not in (fleet.get(quantized) or {})["status"])


def test_edit_that_leaves_the_artifact_the_same_moves_no_bytes(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", path="/models/one")
    apply(fleet, applied, one)
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    fleet.hub.forget_requests()
    one["spec"]["displayName"] = "The One"
    one["spec"]["storage"]["path"] = "/models/moved"
    fleet.apply(one)
    fleet.until(
        "the model has moved everywhere",
        lambda: all(
            fleet.files(node, "/models/moved") and not fleet.files(node, "/models/one") for node in fleet.cluster.nodes
        ),
    )
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    assert fleet.hub.sent_bytes("/org/one/*") == 0


def test_a_thousand_nodes_would_cost_one_listing_and_one_parse(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", {**SMALL, "README.md": b"# parsed once\n"}, generated=generated_model(1 << 20))
    fleet.hub.forget_requests()
    parses = fleet.metric("fetcher", 'ome_fetcher_parses_total{result="Ok"}')
    one = model("one", "hf://org/one")
    apply(fleet, applied, one)
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    assert len(fleet.hub.requests("/api/models/org/one/tree/*")) == 1
    assert fleet.metric("fetcher", 'ome_fetcher_parses_total{result="Ok"}') == parses + 1


def test_equal_files_of_another_repository_are_fetched_from_there(fleet: Fleet, applied: list[Object]) -> None:
    for repository in ("org/one", "org/copy"):
        fleet.hub.add_model(repository, SMALL, generated=generated_model(1 << 20, seed=99))
    fleet.hub.push("org/copy", {"extra": "gone again"})
    fleet.hub.push("org/copy", delete=["extra"])
    one = model("one", "hf://org/one", nodeSelector={"kubernetes.io/hostname": "node-1"})
    copy = model("copy", "hf://org/copy", nodeSelector={"kubernetes.io/hostname": "node-2"})
    apply(fleet, applied, one)
    first = fleet.await_state(one, "Ready", {"node-1"})
    apply(fleet, applied, copy)
    second = fleet.await_state(copy, "Ready", {"node-2"})
    assert second["status"]["artifact"]["digest"] == first["status"]["artifact"]["digest"]
    assert second["status"]["artifact"]["sourceRevision"] != first["status"]["artifact"]["sourceRevision"]


def test_disabled_model_is_not_fetched_and_keeps_what_it_has(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", path="/models/one", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, one)
    fleet.await_state(one, "Ready", {"node-1"})
    one["spec"]["disabled"] = True
    one["spec"]["storage"]["nodeSelector"] = {}
    fleet.apply(one)
    fleet.until("the status says Disabled", lambda: "Disabled" in json.dumps((fleet.get(one) or {}).get("status", {})))
    assert fleet.files("node-1", "/models/one")
    assert not fleet.files("node-2", "/models/one")


def test_model_without_storage_says_that_there_is_nothing_to_fetch(fleet: Fleet, applied: list[Object]) -> None:
    custom: Object = {
        "apiVersion": "ome.io/v1beta1",
        "kind": "ClusterBaseModel",
        "metadata": {"name": "custom", "annotations": {"ome.io/skip-config-parsing": "true"}},
        "spec": {"modelType": "custom", "maxTokens": 4096},
    }
    apply(fleet, applied, custom)
    fleet.until("the status says so", lambda: "NoStorage" in json.dumps((fleet.get(custom) or {}).get("status", {})))


def test_new_node_gets_its_fetcher_and_its_models_by_itself(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/one", SMALL, generated=generated_model(1 << 20))
    one = model("one", "hf://org/one", path="/models/one")
    apply(fleet, applied, one)
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})
    fleet.cluster.add_node("node-4", {})
    try:
        fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3", "node-4"})
    finally:
        fleet.cluster.remove_node("node-4")
    fleet.await_state(one, "Ready", {"node-1", "node-2", "node-3"})


def test_a_node_whose_image_holds_the_files_of_a_model_is_ready_without_a_download(
    fleet: Fleet, applied: list[Object]
) -> None:
    fleet.hub.add_model("org/baked", SMALL, generated=generated_model(1 << 20))
    baked = model("baked", "hf://org/baked", path="/models/baked", nodeSelector={"gpu": "H100"})
    apply(fleet, applied, baked)
    fleet.await_state(baked, "Ready", {"node-1"})
    # As an image is made of the disk of a node that has the model.
    image = fleet.cluster.node_root("node-1") / "models"
    shutil.copytree(image, fleet.cluster.node_root("node-5") / "models", symlinks=True)
    fleet.hub.forget_requests()
    fleet.cluster.add_node("node-5", {"gpu": "H100"})
    try:
        fleet.await_state(baked, "Ready", {"node-1", "node-5"})
        assert fleet.files("node-5", "/models/baked") == fleet.files("node-1", "/models/baked")
        assert fleet.hub.sent_bytes("*.safetensors") == 0
    finally:
        fleet.cluster.remove_node("node-5")
    # A node that is gone is no longer counted, and its object may come back under the same name.
    fleet.await_state(baked, "Ready", {"node-1"})
    fleet.cluster.add_node("node-5", {"gpu": "H100"})
    try:
        fleet.await_state(baked, "Ready", {"node-1", "node-5"})
        assert fleet.hub.sent_bytes("*.safetensors") == 0
    finally:
        fleet.cluster.remove_node("node-5")


def test_a_tainted_node_gets_a_model_only_if_it_tolerates_the_taint(fleet: Fleet, applied: list[Object]) -> None:
    fleet.hub.add_model("org/tainted", SMALL, generated=generated_model(1 << 20))
    wary = model("wary", "hf://org/tainted", tolerations=[])
    tolerant = model("tolerant", "hf://org/tainted", tolerations=[{"key": "gpu", "operator": "Exists"}])
    careless = model("careless", "hf://org/tainted")
    fleet.cluster.kubectl("taint", "node", "node-2", "gpu=yes:NoSchedule")
    try:
        apply(fleet, applied, wary, tolerant, careless)
        fleet.await_state(wary, "Ready", {"node-1", "node-3"})
        for each in (tolerant, careless):
            fleet.await_state(each, "Ready", {"node-1", "node-2", "node-3"})
        assert fleet.get(wary)["status"]["nodes"]["desired"] == 2  # type: ignore[index]
        fleet.cluster.kubectl("taint", "node", "node-1", "gpu=yes:NoSchedule")
        fleet.cluster.kubectl("taint", "node", "node-2", "gpu-")
        # The one that has the model keeps it, the other gets it.
        fleet.await_state(wary, "Ready", {"node-1", "node-2", "node-3"})
    finally:
        for node in ("node-1", "node-2"):
            fleet.cluster.kubectl("taint", "node", node, "gpu-", check=False)


def test_a_team_has_models_by_the_roles_of_kubernetes(fleet: Fleet) -> None:
    sample = ROOT / "deploy" / "samples" / "teams" / "team-b.yaml"
    # No source of this test is the model's: it is nothing but admitted.
    fleet.cluster.kubectl("apply", "-f", "-", input=sample.read_text().replace("kubernetes.io/os: linux", "team: b"))

    def may(verb: str, group: str, kind: str = "basemodels.ome.io") -> bool:
        found = fleet.cluster.kubectl(
            *("auth", "can-i", verb, kind, "-n", "team-b", "--as", "somebody", "--as-group", group), check=False
        )
        return found.strip() == "yes"

    # The controller of Kubernetes adds the rules to its roles.
    fleet.until("developers may create models", partial(may, "create", "team-b-developers"))
    fleet.until("readers may read models", partial(may, "list", "team-b-readers"))
    assert may("delete", "team-b-developers")
    assert not may("create", "team-b-readers")
    assert not may("list", "another")
    assert not may("list", "team-b-developers", "clusterbasemodels.ome.io")
    fleet.cluster.kubectl("delete", "basemodels.ome.io", "--all", "-n", "team-b")
    fleet.cluster.kubectl("delete", "namespace", "team-b", "--wait=false")
