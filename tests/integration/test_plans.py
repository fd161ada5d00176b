"""What would come of a manifest, asked before it is applied: of a whole cluster, as its users ask."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import ROOM_VERDICT_FITS, ROOM_VERDICT_HELD, Forecast
from ome_models import Denied, Models, ModelsError, Refused, Unavailable
from tests.support.fleet import Fleet, Object, model, secret
from tests.support.hub import Fault, generated_model
from tests.support.programs import ROOT, programs
from tools.localcluster.status_client import AUDIENCE

pytestmark = pytest.mark.cluster

GOOD = "hf_" + "g" * 34
SMALL = {"README.md": "# small\n", "training.log": "left out?\n"}
H100 = {"gpu": "H100"}
LLAMA = json.dumps(
    {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
)


@pytest.fixture(scope="module", autouse=True)
def accounts(fleet: Fleet) -> None:
    """An operator, who may make models and read nodes, and a tenant, who may make models of one namespace."""
    for namespace in ("team-a", "team-b"):
        fleet.cluster.kubectl("create", "namespace", namespace)
    for account in ("operator", "tenant"):
        fleet.cluster.kubectl("create", "serviceaccount", account, "-n", "team-a")
    models = "--resource=basemodels.ome.io,clusterbasemodels.ome.io,finetunedweights.ome.io"
    for what in (
        ("clusterrole", "operator", models, "--verb=create,update,list"),
        ("clusterrole", "reads-nodes", "--resource=nodes", "--verb=list"),
        ("clusterrolebinding", "operator", "--clusterrole=operator", "--serviceaccount=team-a:operator"),
        ("clusterrolebinding", "reads-nodes", "--clusterrole=reads-nodes", "--serviceaccount=team-a:operator"),
        ("role", "tenant", "-n", "team-a", "--resource=basemodels.ome.io", "--verb=create"),
        ("rolebinding", "tenant", "-n", "team-a", "--role=tenant", "--serviceaccount=team-a:tenant"),
    ):
        fleet.cluster.kubectl("create", *what)


@pytest.fixture(autouse=True)
def sources(fleet: Fleet) -> Iterator[None]:
    fleet.hub.add_model("org/small", SMALL, generated=generated_model(2 << 20, shards=2))
    fleet.hub.add_model("org/broken", SMALL, generated=generated_model(2 << 20, shards=2)[:1])
    fleet.hub.add_model("org/private", SMALL, generated=generated_model(1 << 20), private=True)
    fleet.hub.add_token(GOOD, ["org/private"])
    yield
    fleet.hub.clear_faults()


def client(fleet: Fleet, account: str = "operator", address: str = "") -> Models:
    token = fleet.cluster.kubectl("create", "token", account, "-n", "team-a", f"--audience={AUDIENCE}").strip()
    address = address or fleet.cluster.service_address("ome-status", 9090)
    return Models(address, token=token, ca_file=fleet.cluster.status_authority)


def plan(fleet: Fleet, manifest: Object, account: str = "operator", address: str = "") -> Forecast:
    with client(fleet, account, address) as models:

        def answered() -> Forecast | None:
            try:
                return models.plan(manifest)
            except Unavailable as error:
                # Before the first controller has read everything, or sooner than one may ask again.
                return None if error.reason in ("Unavailable", "RateLimited") else pytest.fail(str(error))

        found: Forecast = fleet.until("a plan is made", answered)
        return found


def nothing_was_made(fleet: Fleet) -> bool:
    kinds = "basemodels.ome.io,clusterbasemodels.ome.io"
    return not json.loads(fleet.cluster.kubectl("get", kinds, "-A", "-o", "json"))["items"]


def test_a_plan_tells_what_would_be_fetched_where_it_fits_and_what_it_costs(fleet: Fleet) -> None:
    told = plan(fleet, model("small", "hf://org/small", nodeSelector=H100))
    assert (told.reason, told.message) == (model_pb2.REASON_UNSPECIFIED, "")
    assert told.listed
    assert not told.exists
    assert (told.source, told.credentials) == ("hf://org/small", "no Secret")
    assert told.artifact.source_revision
    assert told.artifact.bytes > 1 << 20
    assert told.files[0].path == "model-00001-of-00002.safetensors"
    [node] = told.nodes
    assert (node.node, node.room, node.seconds) == ("node-1", ROOM_VERDICT_FITS, 0), "no rate was seen yet"
    assert node.free_bytes > told.disk_bytes > told.artifact.bytes
    assert (told.node_count, told.fetching_nodes, told.egress_bytes) == (1, 1, told.artifact.bytes)
    assert any("node-2 and node-3 lack gpu=H100 (node node-2 has gpu=A100)" in miss for miss in told.misses)
    assert nothing_was_made(fleet)


def test_a_plan_tells_what_the_model_is_by_its_configuration_and_headers(fleet: Fleet) -> None:
    fleet.hub.add_model("org/described", {**SMALL, "config.json": LLAMA}, generated=generated_model(8 << 20))
    told = plan(fleet, model("described", "hf://org/described", nodeSelector=H100))
    assert told.facts.problem == ""
    assert (told.facts.architecture, told.facts.context_length) == ("LlamaForCausalLM", 2048)
    assert told.facts.parameters
    assert list(told.facts.capabilities) == ["TEXT_GENERATION"]
    sent = sum(request.bytes_sent for request in fleet.hub.requests("*/org/described/*.safetensors"))
    assert sent < 1 << 20, "headers are read, and no weights"
    assert nothing_was_made(fleet)


def test_a_configuration_that_cannot_be_parsed_fails_no_plan(fleet: Fleet) -> None:
    fleet.hub.add_model("org/broken-config", {"config.json": "{"}, generated=generated_model(1 << 20))
    told = plan(fleet, model("broken", "hf://org/broken-config", nodeSelector=H100))
    assert told.listed
    assert (told.reason, told.facts.architecture) == (model_pb2.REASON_UNSPECIFIED, "")
    assert "config.json" in told.facts.problem


def test_what_is_there_already_costs_nothing(fleet: Fleet) -> None:
    manifest = model("held", "hf://org/small", nodeSelector=H100)
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})
    try:
        told = plan(fleet, manifest)
        assert told.exists
        assert [node.room for node in told.nodes] == [ROOM_VERDICT_HELD]
        assert (told.fetching_nodes, told.egress_bytes) == (0, 0)
        more = plan(fleet, model("held", "hf://org/small"))
        assert (more.node_count, more.fetching_nodes) == (3, 2)
    finally:
        fleet.delete(manifest)
        fleet.await_gone(manifest)


def test_how_long_it_takes_is_told_by_a_replica_that_has_seen_no_download(fleet: Fleet) -> None:
    fleet.hub.add_model("org/timed", SMALL, generated=generated_model(6 << 20))
    fleet.hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=1 << 20))
    labels = '{backend="hf",result="Ok"}'
    figures = (f"ome_fetcher_transferred_bytes_total{labels}", f"ome_fetcher_transfer_seconds_sum{labels}")
    before = [fleet.metric("ome-fetcher", figure) for figure in figures]
    manifest = model("timed", "hf://org/timed", nodeSelector=H100)
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})
    moved, took = (fleet.metric("ome-fetcher", figure) - was for figure, was in zip(figures, before, strict=True))
    fleet.delete(manifest)
    fleet.await_gone(manifest)
    fleet.hub.clear_faults()

    earlier = {pod.name for pod in fleet.cluster.pods("ome-status")}
    fleet.cluster.kubectl("rollout", "restart", "-n", "ome", "deployment/ome-status")
    fleet.cluster.kubectl("rollout", "status", "-n", "ome", "deployment/ome-status", "--timeout=90s")
    # A Pod that ends still has its process for a while.
    fleet.until(
        "earlier replicas are gone", lambda: not earlier & {pod.name for pod in fleet.cluster.pods("ome-status")}
    )
    for pod in fleet.cluster.pods("ome-status"):

        def timed(address: str = f"{pod.address}:9090") -> Forecast | None:
            told = plan(fleet, model("small", "hf://org/small", nodeSelector=H100), address=address)
            # A node says it with its next heartbeat.
            return told if told.nodes[0].bytes_per_second == pytest.approx(moved / took, rel=0.02) else None

        told = fleet.until("the plan is made by the rate of the last download", timed)
        [node] = told.nodes
        assert node.seconds == max(1, told.artifact.bytes // node.bytes_per_second)


def test_a_model_for_which_there_is_no_node_is_told_which_came_near(fleet: Fleet) -> None:
    told = plan(fleet, model("nowhere", "hf://org/small", nodeSelector={"gpu": "B200"}))
    assert told.reason == model_pb2.REASON_NO_MATCHING_NODE
    assert "node-1 has gpu=H100" in told.message
    assert told.listed, "the source is looked at nevertheless"
    assert told.node_count == told.egress_bytes == 0


@pytest.mark.parametrize(
    ("storage", "reason", "sentence"),
    [
        ({"parameters": {"endpoint": "http://127.0.0.2:9"}}, "REASON_EGRESS_REFUSED", "127.0.0.2"),
        ({"storageKey": "absent"}, "REASON_SECRET_NOT_FOUND", "Secret ome/absent does not exist or may not be read"),
        ({"storageUri": "hf://org/absent"}, "REASON_NOT_FOUND", "org/absent"),
        ({"storageUri": "hf://org/private"}, "REASON_NOT_FOUND", "org/private"),
        ({"storageUri": "hf://org/broken"}, "REASON_INCOMPLETE", "model-00002-of-00002.safetensors"),
        ({"storageUri": "nonsense"}, "REASON_INVALID_URI", "nonsense"),
        ({"path": "/models/.ome/x"}, "REASON_INVALID_PATH", ".ome"),
        ({"storageUri": "hf://org/small", "parameters": {"password": "x"}}, "REASON_INVALID_PARAMETER", "password"),
    ],
)
def test_what_would_fail_is_told_with_the_words_of_the_failure(
    fleet: Fleet, storage: Object, reason: str, sentence: str
) -> None:
    manifest = model("failing", "hf://org/small", nodeSelector=H100)
    manifest["spec"]["storage"] |= storage
    told = plan(fleet, manifest)
    assert told.reason == model_pb2.Reason.Value(reason), told
    assert sentence in told.message
    assert not told.listed
    assert told.egress_bytes == 0


def test_a_source_that_refuses_the_token_is_told_so(fleet: Fleet) -> None:
    fleet.apply(secret("bad", "ome", token="hf_" + "b" * 34), secret("good", "ome", token=GOOD))
    refused = plan(fleet, model("private", "hf://org/private", storageKey="bad", nodeSelector=H100))
    assert refused.credentials == "Secret ome/bad, key token"
    assert refused.reason in (model_pb2.REASON_FORBIDDEN, model_pb2.REASON_NOT_FOUND)
    assert refused.source_message
    assert GOOD not in str(refused)
    fleet.hub.inject(Fault("status", path="/api/models/*", status=403))
    assert plan(fleet, model("small", "hf://org/small", nodeSelector=H100)).reason == model_pb2.REASON_FORBIDDEN
    fleet.hub.clear_faults()
    allowed = plan(fleet, model("private", "hf://org/private", storageKey="good", nodeSelector=H100))
    assert allowed.listed
    assert GOOD not in str(allowed)


def test_a_tenant_is_told_of_its_own_namespace_and_nothing_of_nodes(fleet: Fleet) -> None:
    fleet.apply(secret("hf", "team-a", token=GOOD), secret("hf", "team-b", token=GOOD))
    own = model("own", "hf://org/private", "BaseModel", "team-a", storageKey="hf", nodeSelector=H100)
    told = plan(fleet, own, "tenant")
    assert told.listed
    assert told.credentials == "Secret team-a/hf, key token"
    [node] = told.nodes
    assert (node.room, node.free_bytes, node.total_bytes, len(told.misses)) == (ROOM_VERDICT_FITS, 0, 0, 0)
    foreign = model("own", "hf://org/private", "BaseModel", "team-a", storageKey="hf", nodeSelector=H100)
    foreign["spec"]["storage"]["parameters"] = {"secretNamespace": "team-b"}
    refused = plan(fleet, foreign, "tenant")
    assert refused.reason == model_pb2.REASON_INVALID_PARAMETER
    assert not refused.listed
    listings = len(fleet.hub.requests("/api/models/*"))
    with client(fleet, "tenant") as models:
        for manifest in (
            model("theirs", "hf://org/private", "BaseModel", "team-b", storageKey="hf"),
            model("theirs", "hf://org/private", storageKey="hf"),
        ):
            with pytest.raises(Denied):
                models.plan(manifest)
    assert len(fleet.hub.requests("/api/models/*")) == listings, "nothing was listed for who may not ask"


def test_what_is_no_manifest_is_refused_and_harms_nobody(fleet: Fleet) -> None:
    with client(fleet) as models:
        for wrong in (
            {},
            {"kind": "Pod", "metadata": {"name": "x"}},
            {**model("x", "hf://o/m"), "apiVersion": "v1"},
            {**model("x", "hf://o/m"), "spec": {"disabled": True, "storage": {"storageUri": 5}}},
            {**model("x", "hf://o/m"), "spec": [1]},
            {**model("x", "hf://o/m"), "spec": {"x": "y" * (49 << 10)}},
        ):
            with pytest.raises(Refused):
                models.plan(wrong)
    assert plan(fleet, model("small", "hf://org/small", nodeSelector=H100)).listed


def test_one_namespace_has_one_plan_at_a_time(fleet: Fleet) -> None:
    fleet.hub.inject(Fault("delay", path="/api/models/*", seconds=5))
    both_connected = threading.Barrier(2, timeout=60)
    manifest = model("slow", "hf://org/small", "BaseModel", "team-a", nodeSelector=H100)

    def ask(account: str) -> str:
        with client(fleet, account) as models:
            both_connected.wait()
            try:
                return "listed" if models.plan(manifest).listed else "failed"
            except ModelsError as error:
                return error.reason

    with ThreadPoolExecutor(2) as executor:
        answers = sorted(executor.map(ask, ("operator", "tenant")))
    assert answers == ["RateLimited", "listed"]


@pytest.fixture(scope="module")
def plugin(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The plugin as a user runs it; a manifest is piped to it."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "kubectl").symlink_to(programs()["kubectl"])
    script = folder / "kubectl-ome_models"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clients.kubectl "$@"\n')
    script.chmod(0o755)
    environ = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "KUBECONFIG": str(fleet.cluster.kubeconfig),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "OME_STATUS": f"https://{fleet.cluster.service_address('ome-status', 8443)}",
    }

    def run(manifest: Object, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [str(folder / "kubectl"), "ome-models", "plan", "-f", "-", *arguments]
        text = json.dumps(manifest)
        return subprocess.run(
            command, input=text, env=environ | more, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_the_plugin_shows_a_plan_and_ends_with_a_code_for_scripts(
    fleet: Fleet, plugin: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    small = model("small", "hf://org/small")
    account = "--account=team-a/operator"
    assert plan(fleet, small).listed
    works = plugin(small, account)
    assert works.returncode == 0, works.stderr + works.stdout
    assert works.stdout.startswith("ClusterBaseModel small would be created. Works.\n")
    assert "hf://org/small, asked with no Secret; listed a moment ago" in works.stdout
    assert sum(line.startswith("node-") and "fits" in line for line in works.stdout.splitlines()) == 3
    [row] = json.loads(plugin(small, account, "-o", "json").stdout)
    assert (row["verdict"], row["egressBytes"]) == ("works", 3 * row["bytes"])
    assert "- id: " in plugin(small, account, "-o", "yaml").stdout
    assert plugin(small, account, "-o", "name").stdout == "clusterbasemodel.ome.io/small\n"
    fails = plugin(model("failing", "hf://org/absent"), account)
    assert fails.returncode == 1, fails.stderr + fails.stdout
    assert "NotFound: " in fails.stdout
    refused = plugin(model("wrong", "http://org/small"), account)
    assert refused.returncode == 1, refused.stderr + refused.stdout
    assert "storageUri" in refused.stdout
    assert plugin(small, "--account=team-a/tenant").returncode == 4
    assert plugin(small).returncode == 2
    assert plugin(small, OME_STATUS="").returncode == 3
    assert plugin(small, account, OME_STATUS="https://127.0.0.1:1").returncode == 4
    assert plugin(small, account, "--as=somebody").returncode == 4
    assert nothing_was_made(fleet)
