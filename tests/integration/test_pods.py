"""What the API server makes of Pods that name a model, and what it leaves alone: nothing of ours runs here."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.chassis.errors import ServiceError
from libs.chassis.kube import JSON_PATCH
from services.controller.gates import GATE, WAITING_LABEL, lifting
from tests.support.apiserver import ApiServer, policies_enforced, running_api_server
from tests.support.programs import CHARTS, image_values, run

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

_DEADLINE_SECONDS = 20
_NAMESPACES = {"team-a": {}, "strict": {"pod-security.kubernetes.io/enforce": "baseline"}}
_ROOTS = ("--set", "podPolicy.modelRoots={/models,/raid/models}")
_PREFIX = "models.ome.io/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        for name, labels in {"ome": {}, **_NAMESPACES}.items():
            await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
            account = {"metadata": {"name": "default"}}
            await running.kube.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
        for chart, values in (("crds", ()), ("controller", _ROOTS)):
            arguments = ("install", f"ome-{chart}", str(CHARTS / chart), "-n", "ome", *image_values(chart), *values)
            await asyncio.to_thread(run, "helm", *arguments, KUBECONFIG=str(running.kubeconfig))
        # A policy is enforced a moment after it was created.
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while not (await admitted(running, pod(model="m", mount="/m")))["spec"].get("volumes"):
                await asyncio.sleep(0.1)
            while not (await admitted(running, pod(model="m")))["spec"].get("affinity"):
                await asyncio.sleep(0.1)
        await policies_enforced(running.kube)
        yield running


def pod(*, labels: dict[str, str] | None = None, of: dict[str, Any] | None = None, **says: str) -> dict[str, Any]:
    """A Pod with two containers and an initializer that says of models what is given."""
    spec = {
        "automountServiceAccountToken": False,
        "initContainers": [{"name": "first", "image": "first"}],
        "containers": [{"name": "one", "image": "one"}, {"name": "two", "image": "two"}],
    }
    metadata = {
        "name": "subject",
        "labels": labels or {},
        "annotations": {f"{_PREFIX}{word}": text for word, text in says.items()},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, **(of or {})}}


async def admitted(server: ApiServer, manifest: dict[str, Any], namespace: str = "team-a") -> dict[str, Any]:
    """The Pod as the API server would store it."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    found: dict[str, Any] = await server.kube.request("POST", path, manifest, {"dryRun": "All"})
    return found


def preferred(found: dict[str, Any]) -> list[tuple[int, str, list[str]]]:
    """Weight, key and values of each preference."""
    node = found["spec"].get("affinity", {}).get("nodeAffinity", {})
    return [
        (each["weight"], expression["key"], expression["values"])
        for each in node.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        for expression in each["preference"]["matchExpressions"]
    ]


def mounts(found: dict[str, Any]) -> dict[str, tuple[list[tuple[str, bool]], str]]:
    """Mounts of the model and MODEL_PATH of each container that has either."""
    result = {}
    for each in (*found["spec"]["containers"], *found["spec"].get("initContainers", [])):
        mounted = [
            (mount["mountPath"], mount.get("readOnly", False))
            for mount in each.get("volumeMounts", [])
            if mount["name"] == "ome-model"
        ]
        path = next((item["value"] for item in each.get("env", []) if item["name"] == "MODEL_PATH"), "")
        if mounted or path:
            result[each["name"]] = mounted, path
    return result


async def warnings(server: ApiServer, manifest: dict[str, Any]) -> str:
    """What kubectl prints beside its answer."""
    arguments = ("create", "--dry-run=server", "-n", "team-a", "-f", "-")
    found = await asyncio.to_thread(
        run, "kubectl", *arguments, stdin=json.dumps(manifest), KUBECONFIG=str(server.kubeconfig)
    )
    return found.stderr


async def test_a_pod_that_names_no_model_is_stored_as_it_was_written(server: ApiServer) -> None:
    for manifest in (pod(), pod(mount="/m", placement="required")):
        found = await admitted(server, manifest)
        assert "affinity" not in found["spec"]
        assert "nodeSelector" not in found["spec"]
        assert "schedulingGates" not in found["spec"]
        assert "volumes" not in found["spec"]
        assert not mounts(found)


async def test_a_pod_prefers_the_nodes_on_which_its_model_is_ready(server: ApiServer) -> None:
    cluster_wide = await admitted(server, pod(model="llama-3-70b"))
    own = await admitted(server, pod(model="team-a/llama"))
    assert preferred(cluster_wide) == [(100, "models.ome.io/clusterbasemodel.llama-3-70b", ["Ready"])]
    assert preferred(own) == [(100, "models.ome.io/team-a.basemodel.llama", ["Ready"])]
    assert "schedulingGates" not in cluster_wide["spec"]


async def test_what_a_pod_says_about_nodes_stays_beside_the_preference(server: ApiServer) -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    affinity = {
        "podAntiAffinity": {},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "preference": zone}],
        },
    }
    found = await admitted(server, pod(model="llama", of={"affinity": affinity}))
    assert preferred(found) == [(7, "zone", ["a"]), (100, "models.ome.io/clusterbasemodel.llama", ["Ready"])]
    required = found["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required == {"nodeSelectorTerms": [zone]}
    again = await admitted(server, pod(model="llama", of={"affinity": found["spec"]["affinity"]}))
    assert again["spec"]["affinity"] == found["spec"]["affinity"]


async def test_a_pod_may_require_its_model_and_waits_behind_a_gate(server: ApiServer) -> None:
    of = {"nodeSelector": {"zone": "a"}, "schedulingGates": [{"name": "example.com/quota"}]}
    found = await admitted(server, pod(labels={"app": "x"}, of=of, model="llama", placement="required"))
    assert found["spec"]["nodeSelector"] == {"zone": "a", "models.ome.io/clusterbasemodel.llama": "Ready"}
    assert found["spec"]["schedulingGates"] == [{"name": "example.com/quota"}, {"name": GATE}]
    assert found["metadata"]["labels"] == {"app": "x", WAITING_LABEL: "true"}
    assert not preferred(found)
    bare = await admitted(server, pod(model="llama", placement="required"))
    assert bare["spec"]["schedulingGates"] == [{"name": GATE}]


async def test_a_pod_that_is_bound_already_gets_no_gate_which_would_be_refused(server: ApiServer) -> None:
    found = await admitted(server, pod(model="llama", placement="required", of={"nodeName": "node-1"}))
    assert "schedulingGates" not in found["spec"]


async def test_a_model_is_mounted_into_every_container_to_be_read_only(server: ApiServer) -> None:
    found = await admitted(server, pod(model="llama", mount="/model"))
    assert found["spec"]["volumes"] == [
        {"name": "ome-model", "hostPath": {"path": "/models/clusterbasemodel/llama", "type": "Directory"}}
    ]
    assert mounts(found) == {name: ([("/model", True)], "/model") for name in ("first", "one", "two")}


async def test_the_place_of_a_model_is_its_default_or_what_the_pod_says(server: ApiServer) -> None:
    own = await admitted(server, pod(model="team-a/llama", mount="/model", of={"initContainers": []}))
    said = await admitted(server, pod(model="llama", mount="/model", path="/raid/models/llama"))
    paths = [found["spec"]["volumes"][0]["hostPath"]["path"] for found in (own, said)]
    assert paths == ["/models/basemodel/team-a/llama", "/raid/models/llama"]


@pytest.mark.parametrize(
    "path",
    ["/etc", "/models", "/models/../etc", "/models/.ome/artifacts/x", "models/llama", "/modelsx/llama", "/models/a:b"],
)
async def test_nothing_but_a_directory_below_a_model_root_is_mounted(path: str, server: ApiServer) -> None:
    manifest = pod(model="llama", mount="/model", path=path)
    found = await admitted(server, manifest)
    assert "volumes" not in found["spec"]
    assert "a directory below /models or /raid/models" in await warnings(server, manifest)


@pytest.mark.parametrize("place", ["", "/", "model", "/a:b"])
async def test_a_place_in_the_container_that_would_be_refused_is_left_out(place: str, server: ApiServer) -> None:
    manifest = pod(model="llama", mount=place)
    assert not mounts(await admitted(server, manifest))
    assert "the model is not mounted" in await warnings(server, manifest)


async def test_names_that_a_pod_uses_itself_stay_its_own(server: ApiServer) -> None:
    volumes = [{"name": "ome-model", "emptyDir": {}}]
    found = await admitted(server, pod(model="llama", mount="/model", of={"volumes": volumes}))
    assert found["spec"]["volumes"] == volumes
    containers = [
        {"name": "one", "image": "one", "volumeMounts": [{"name": "mine", "mountPath": "/model"}]},
        {"name": "two", "image": "two", "env": [{"name": "MODEL_PATH", "value": "/mine"}]},
    ]
    of = {"containers": containers, "volumes": [{"name": "mine", "emptyDir": {}}]}
    found = await admitted(server, pod(model="llama", mount="/model", of=of))
    assert found["spec"]["containers"][0]["volumeMounts"] == [{"name": "mine", "mountPath": "/model"}]
    assert mounts(found)["two"] == ([("/model", True)], "/mine")


async def test_pod_security_judges_the_pod_with_its_volume(server: ApiServer) -> None:
    with pytest.raises(ServiceError, match="hostPath volumes"):
        await admitted(server, pod(model="llama", mount="/model"), "strict")
    assert preferred(await admitted(server, pod(model="llama"), "strict"))


@pytest.mark.parametrize("named", ["team-b/llama", "Llama", "", "a/b/c", "team-a/", "llama'"])
async def test_a_model_that_is_not_for_the_pod_changes_nothing_and_its_author_is_told(
    named: str, server: ApiServer
) -> None:
    manifest = pod(model=named, mount="/model", placement="required")
    found = await admitted(server, manifest)
    assert "nodeSelector" not in found["spec"]
    assert "schedulingGates" not in found["spec"]
    assert "volumes" not in found["spec"]
    assert "team-a/ and the name of a BaseModel of this namespace" in await warnings(server, manifest)


async def test_a_name_too_long_for_a_label_places_nothing_and_its_author_is_told(server: ApiServer) -> None:
    longest, longer = "m" * 46, "m" * 47
    assert preferred(await admitted(server, pod(model=longest)))
    manifest = pod(model=longer, placement="required", mount="/model")
    found = await admitted(server, manifest)
    assert "schedulingGates" not in found["spec"]
    assert mounts(found)
    assert "too long for the label" in await warnings(server, manifest)


async def test_whoever_writes_a_workload_is_told_what_its_pods_will_lack(server: ApiServer) -> None:
    template = {
        "metadata": {
            "labels": {"app": "x"},
            "annotations": {"models.ome.io/model": "x", "models.ome.io/placement": "must"},
        },
        "spec": {"containers": [{"name": "one", "image": "one"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}
    assert "must be preferred or required" in await warnings(server, deployment)
    del template["metadata"]["annotations"]  # type: ignore[attr-defined]
    assert "Warning" not in await warnings(server, deployment)


async def test_the_controller_may_take_its_gate_off_a_pod_and_nothing_else(server: ApiServer) -> None:
    collection = "/api/v1/namespaces/team-a/pods"
    of = {"schedulingGates": [{"name": "example.com/quota"}]}
    manifest = pod(labels={"app": "x"}, of=of, model="llama", placement="required")
    stored = await server.kube.request("POST", collection, manifest)
    path = f"{collection}/subject"
    refused: dict[str, list[dict[str, Any]]] = {
        "its own scheduling gate": [{"op": "replace", "path": "/spec/schedulingGates", "value": []}],
        "change nothing else": [
            *lifting(stored),
            {"op": "add", "path": "/spec/nodeSelector/zone", "value": "b"},
        ],
        "other labels": [*lifting(stored), {"op": "add", "path": "/metadata/labels/app", "value": "y"}],
        "annotations": [*lifting(stored), {"op": "remove", "path": "/metadata/annotations"}],
        "take its own": [{"op": "replace", "path": "/spec/containers/0/image", "value": "evil"}],
    }
    async with server.as_account("ome-controller") as controller:
        for complaint, operations in refused.items():
            with pytest.raises(ServiceError, match=complaint):
                await controller.request("PATCH", path, operations, content_type=JSON_PATCH)
        lifted = await controller.request("PATCH", path, lifting(stored), content_type=JSON_PATCH)
        with pytest.raises(ServiceError, match="422"):
            await controller.request("PATCH", path, lifting(stored), content_type=JSON_PATCH)
    assert lifted["spec"]["schedulingGates"] == [{"name": "example.com/quota"}]
    assert lifted["metadata"]["labels"] == {"app": "x"}
