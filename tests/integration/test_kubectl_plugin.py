"""The kubectl plugin as users run it: through kubectl, against a real API server, with rights that they have."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ome.fetch.v1.fetch_pb2 import Problem, Verification
from ome.model.v1.model_pb2 import (
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_EVICTED,
    REASON_INSUFFICIENT_DISK,
    Artifact,
)
from tests.support.programs import ROOT, programs
from tests.support.status_process import Object, StatusCluster, eventually, path_of, running_status_cluster
from tools.localcluster.certificates import KeyPair

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

VERIFY = "models.ome.io/verify-requested-at"
ARTIFACT = Artifact(digest="sha256:" + "1" * 64, source_revision="c0ffee", bytes=2**30, files=9)


class Plugin:
    """kubectl with the plugin in its PATH."""

    def __init__(self, folder: Path, cluster: StatusCluster) -> None:
        kubectl = Path(programs()["kubectl"])
        self._folder = folder / "bin"
        self._folder.mkdir()
        (self._folder / "kubectl").symlink_to(kubectl)
        script = self._folder / "kubectl-ome_models"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clients.kubectl "$@"\n')
        script.chmod(0o755)
        keys = cluster.folder / "keys"
        self._kubeconfig = cluster.plane.write_kubeconfig(
            folder / "kubeconfig", KeyPair(keys / "admin.crt", keys / "admin.key")
        )

    def environ(self, **more: str) -> dict[str, str]:
        path = f"{self._folder}:{os.environ['PATH']}"
        return {"PATH": path, "KUBECONFIG": str(self._kubeconfig), "PYTHONPATH": str(ROOT), "HOME": "/nowhere", **more}

    async def __call__(self, *arguments: str, code: int = 0, **environ: str) -> str:
        """What `kubectl ome-models` prints, on stderr if it prints nothing else."""

        def run() -> subprocess.CompletedProcess[str]:
            command = [str(self._folder / "kubectl"), "ome-models", *arguments]
            return subprocess.run(
                command, env=self.environ(**environ), capture_output=True, text=True, timeout=60, check=False
            )

        ended = await asyncio.to_thread(run)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout or ended.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path_factory.mktemp("status")) as running:
        for name, gpu in (("node-1", "H100"), ("node-2", "H100"), ("node-3", "T4")):
            await running.node(name, gpu=gpu)
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            await running.kube.request(
                "PATCH", f"/api/v1/nodes/{name}/status", {"status": ready}, content_type="application/merge-patch+json"
            )
        await running.start_replica("status-a")
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugin(cluster: StatusCluster, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    return Plugin(tmp_path_factory.mktemp("plugin"), cluster)


async def stuck_model(cluster: StatusCluster, name: str) -> Object:
    """A model that is Ready on one node, lacks room on another, and does not choose the third."""
    model = await cluster.model(name, storage={"storageUri": "hf://org/m", "nodeSelector": {"gpu": "H100"}})
    await cluster.plan(model, ["node-1", "node-2"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
    problem = Problem(reason=REASON_INSUFFICIENT_DISK, message="needs 2 GiB, has 1 GiB")
    await cluster.observed(model, "node-2", NODE_PHASE_FAILED, problem=problem)

    async def told() -> bool:
        found = await cluster.get(path_of(model)) or {}
        labels = await cluster.labels("node-2")
        failed = ((found.get("status") or {}).get("nodes") or {}).get("failed") == 1
        entries = await cluster.get("/api/v1/namespaces/ome/configmaps/node-1") or {}
        held = f'"{model["metadata"]["uid"]}"' in json.dumps(entries.get("data", {})).replace("\\", "")
        return failed and held and labels.get(f"models.ome/{model['metadata']['uid']}") == "Failed"

    await eventually(told, "everything is written")
    return model


async def test_a_model_is_found_listed_and_explained(cluster: StatusCluster, plugin: Plugin) -> None:
    await stuck_model(cluster, "stuck")
    listed = await plugin("get")
    assert "ClusterBaseModel" in listed
    assert "InsufficientDisk" in listed
    [row] = json.loads(await plugin("get", "cbm/stuck", "-o", "json"))
    assert (row["state"], row["nodes"], row["source"]) == ("Ready", "1/2", "hf://org/m")
    assert "clusterbasemodel.ome.io/stuck" in (await plugin("get", "-o", "name")).splitlines()
    assert await plugin("why", "cbm/stuck", "-o", "name") == "clusterbasemodel.ome.io/stuck\n"

    why = await plugin("why", "stuck", "--node", "node-3")
    assert why.startswith("Node node-3 is not meant to hold the model: it lacks gpu=H100.")
    why = await plugin("why", "stuck", "--node", "node-2")
    assert "has failed: InsufficientDisk" in why
    assert "Needs 2 GiB, has 1 GiB." in why
    assert "To do, by the cluster's administrator" in why
    why = await plugin("why", "stuck")
    assert why.startswith("1 of 3 nodes holds the model; 2 are chosen by its rules.")
    assert "Not chosen: node node-3 lacks gpu=H100 (node node-3 has gpu=T4)." in why

    assert "node-2  Failed  InsufficientDisk" in await plugin("status", "stuck")
    [told] = json.loads(await plugin("status", "stuck", "-o", "json"))
    assert [(each["node"], each["state"]) for each in told["nodes"]] == [("node-1", "Ready"), ("node-2", "Failed")]
    assert (told["state"], told["reason"]) == ("Ready", "InsufficientDisk")
    assert await plugin("status", "stuck", "-w", "-o", "name") == "clusterbasemodel.ome.io/stuck\n"
    assert "node-1" in await plugin("status", "stuck", "--until", "complete", code=3)
    nodes = {row["name"]: row for row in json.loads(await plugin("nodes", "-o", "json"))}
    assert (nodes["node-1"]["status"], nodes["node-1"]["ready"]) == ("Ready", 1)
    assert "1 GiB" in await plugin("top")
    history = await plugin("history", "stuck")
    assert "Created" in history
    assert "Event InsufficientDisk" in history


async def test_a_model_that_is_watched_ends_the_command_when_it_is_there(
    cluster: StatusCluster, plugin: Plugin
) -> None:
    model = await cluster.model("awaited", storage={"storageUri": "hf://org/awaited"})
    await cluster.plan(model, ["node-1"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_UPDATING, problem=Problem(reason=REASON_DOWNLOADING))

    async def updating() -> Any:
        found = await cluster.get(path_of(model)) or {}
        return ((found.get("status") or {}).get("nodes") or {}).get("updating") == 1

    await eventually(updating, "the model is on its way")
    assert "awaited" in await plugin("status", "awaited", code=3)
    watching = asyncio.create_task(plugin("status", "awaited", "-w"))
    await asyncio.wait([watching], timeout=2)
    assert not watching.done()
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
    assert (await watching).rstrip().splitlines()[0].startswith("clusterbasemodel.ome.io/awaited")


async def test_copies_are_verified_on_request_and_the_command_tells_what_each_node_found(
    cluster: StatusCluster, plugin: Plugin
) -> None:
    model = await held_model(cluster, "verified")
    digest, path = ARTIFACT.digest, path_of(model)

    async def answer(node: str, request: str, **found: Any) -> None:
        verification = Verification(request=request, digest=digest, bytes=2**30, **found)
        verification.finished_at.GetCurrentTime()
        await cluster.observed(model, node, NODE_PHASE_READY, artifact=ARTIFACT, verification=verification)

    async def requested() -> Any:
        return ((await cluster.get(path) or {})["metadata"].get("annotations") or {}).get(VERIFY)

    assert "node-1  has not answered yet" in await plugin("verify", "verified", "--timeout", "0", code=3)
    first = await requested()
    verifying = asyncio.create_task(plugin("verify", "verified", code=1))
    await eventually(lambda: is_new(requested, first), "nodes are asked")
    request = await requested()
    await answer("node-1", request)
    await answer("node-2", request, damaged=1, files=["model.safetensors"])
    assert set((await verifying).splitlines()) == {
        "node-1  Ok  1 GiB read",
        "node-2  Damaged  model.safetensors: the node fetches them again",
    }

    verifying = asyncio.create_task(plugin("verify", "verified", "--node", "node-1"))
    await eventually(lambda: is_new(requested, request), "the node is asked")
    await answer("node-1", await requested())
    assert (await verifying).splitlines() == ["node-1  Ok  1 GiB read"]
    assert "node-9 holds no copy" in await plugin("verify", "verified", "--node", "node-9", code=1)
    status = (await cluster.get(path) or {})["status"]["verification"]
    assert (status["nodes"], status["nodesDone"], status["nodesDamaged"]) == (1, 1, 1)


async def is_new(asked: Callable[[], Awaitable[Any]], before: Any) -> bool:
    """Whether something else is asked than before."""
    return await asked() not in (None, before)


async def test_a_model_is_evicted_and_pulled_by_its_own_rules_with_the_rights_of_the_user(
    cluster: StatusCluster, plugin: Plugin
) -> None:
    await held_model(cluster, "kept")
    assert "its storage.residency is Always" in await plugin("evict", "kept", code=1)
    model = await held_model(cluster, "given", residency="Evictable")

    async def annotations() -> dict[str, str]:
        found: dict[str, str] = (await cluster.get(path_of(model)) or {})["metadata"].get("annotations") or {}
        return found

    assert "no node has given it up" in await plugin("pull", "given", code=1)
    assert "is to leave node node-1" in await plugin("evict", "given", "--node", "node-1")
    assert await annotations() == {"models.ome.io/evicted-nodes": "node-1"}
    problem = Problem(reason=REASON_EVICTED, message="evicted")
    await cluster.observed(model, "node-1", NODE_PHASE_EVICTED, problem=problem)

    async def evicted() -> bool:
        return "nodesEvicted" in ((await cluster.get(path_of(model)) or {}).get("status") or {})

    await eventually(evicted, "the node has given it up")
    assert "comes back to node node-1" in await plugin("pull", "given", "--node", "node-1")
    assert (await annotations())["models.ome.io/pulled-nodes"].startswith("node-1=")
    assert "is to leave all nodes" in await plugin("evict", "given")
    assert (await annotations())["ome.io/artifact-residency"] == "Evicted"
    assert "comes back to all nodes" in await plugin("pull", "given")
    assert list(await annotations()) == ["ome.io/artifact-rehydration-id"]
    assert "forbidden" in (await plugin("evict", "cbm/given", "--as", "nobody", code=4)).lower()


async def held_model(cluster: StatusCluster, name: str, **storage: str) -> Object:
    """A model that two nodes hold."""
    model = await cluster.model(name, storage={"storageUri": "hf://org/m", **storage})
    await cluster.plan(model, ["node-1", "node-2"], ARTIFACT)
    for node in ("node-1", "node-2"):
        await cluster.observed(model, node, NODE_PHASE_READY, artifact=ARTIFACT)

    async def held() -> bool:
        status = (await cluster.get(path_of(model)) or {}).get("status") or {}
        return status.get("nodesReady") == ["node-1", "node-2"]

    await eventually(held, "both nodes hold the model")
    return model


async def test_what_cannot_be_answered_ends_with_a_code_and_a_sentence(cluster: StatusCluster, plugin: Plugin) -> None:
    assert "there is no model absent" in await plugin("get", "absent", code=4)
    assert "is no kind of model" in await plugin("get", "pod/absent", code=2)
    assert "there is no node node-9" in await plugin("why", (await stuck(cluster)), "--node", "node-9", code=4)
    assert "forbidden" in (await plugin("get", "--as", "nobody", code=4)).lower()
    assert "refused" in await plugin("get", "--server", "https://127.0.0.1:1", code=4)
    assert "exec kubectl ome-models __complete" in await plugin("completion")
    assert "stuck" in (await plugin("__complete", "why", "")).splitlines()
    assert "clusterbasemodel.ome.io/stuck" in (await plugin("__complete", "why", "cluster/")).splitlines()


async def stuck(cluster: StatusCluster) -> str:
    """The name of a model that is there."""
    model = await cluster.model("there")
    return f"ClusterBaseModel/{model['metadata']['name']}"
