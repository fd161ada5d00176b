"""The status service is taken over: whoever has its token may lie about models, and change nothing that nodes act upon.

Each attack is a request to a real API server with a real token of the service's own account.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from deploy.crd.models import base_model_spec, fine_tuned_weight_spec
from libs.chassis.errors import Missing, ServiceError
from libs.chassis.kube import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, KubeClient
from libs.model.kinds import GROUP_VERSION, KINDS, kind_named
from services.status.facts import FACT_FIELDS
from services.status.labels import CONFIG_MAP_LABEL
from tests.support.apiserver import ApiServer, policies_enforced, running_api_server
from tests.support.programs import CHARTS, image_values, run

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

Object = dict[str, Any]

_DEADLINE_SECONDS = 20
_UID = "0b6f7f1e-2f0a-4a55-9b3c-3f3d6f4b6a11"
_NODE = "/api/v1/nodes/node-1"
_CONFIG_MAPS = "/api/v1/namespaces/ome/configmaps"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/ome/leases"
_OURS = {CONFIG_MAP_LABEL: "true", "app.kubernetes.io/part-of": "ome"}
_ENTRY = {"clusterbasemodel.llama": '{"state": "Ready"}'}

# What stands in the model that is attacked; of it the service wrote nothing.
_SPEC: Object = {
    "vendor": "meta",
    "modelFormat": {"name": "safetensors", "operator": "Equal"},
    "storage": {"storageUri": "hf://meta/llama", "storageKey": "hf-token", "parameters": {"revision": "main"}},
}
_WEIGHTS: Object = {"baseModelRef": {"name": "llama"}, "modelType": "LoRA", "storage": _SPEC["storage"]}

# Another value for each field of a spec that is no fact.
_OTHER_VALUES: Object = {
    "vendor": "theirs",
    "version": "9",
    "disabled": True,
    "displayName": "theirs",
    "compartmentID": "theirs",
    "apiCapabilities": ["OPENAI_V1_CHAT_COMPLETIONS"],
    "servingMode": ["Dedicated"],
    "diffusionPipeline": {"className": "Theirs"},
    "modelConfiguration": {"auto_map": "theirs"},
    "additionalMetadata": {"a": "b"},
    "storage": {"parameters": {"endpoint": "https://theirs.example.com"}},
    "baseModelRef": {"name": "theirs"},
    "hyperParameters": {"r": 8},
    "configuration": {"a": "b"},
    "trainingJobRef": {"name": "theirs"},
}
_OTHER_STORAGE: Object = {
    "storageUri": "hf://theirs/llama",
    "path": "/models/theirs",
    "downloadPriority": "High",
    "schemaPath": "theirs.json",
    "storageKey": "another-secret",
    "key": "another-secret",
    "parameters": {"endpoint": "https://theirs.example.com"},
    "nodeSelector": {"gpu": "true"},
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
        }
    },
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "downloadPolicy": "AlwaysDownload",
    "residency": "Evictable",
    "revisionPolicy": "Follow",
    "revisionHistoryLimit": 2,
    "followIntervalSeconds": 60,
    "rollout": {"canary": 1},
}
# What has to change with a field, so that nothing but the policy refuses the change.
_BESIDE: Object = {"key": {"storageKey": None}, "followIntervalSeconds": {"revisionPolicy": "Follow"}}
_OTHER_FACTS: Object = {
    "modelType": "other",
    "modelArchitecture": "Other",
    "modelParameterSize": "1B",
    "maxTokens": 1,
    "modelCapabilities": ["other"],
    "modelFormat": {"name": "onnx", "version": "1"},
    "modelFramework": {"name": "onnx", "version": "1"},
    "quantization": "int4",
}


def path_of(kind: str) -> str:
    scope = "/namespaces/team-a" if kind == "BaseModel" else ""
    return f"/apis/{GROUP_VERSION}{scope}/{kind_named(kind).plural}"


def spec_fields(kind: str) -> Object:
    """The fields of a kind's spec as its definition has them."""
    weights = kind == "FineTunedWeight"
    schema = fine_tuned_weight_spec() if weights else base_model_spec(cluster_scoped=kind == "ClusterBaseModel")
    fields: Object = schema["properties"]
    return fields


def attacks_on_the_spec() -> Iterator[tuple[str, str, Object]]:
    """Each field of each kind that is no fact, with another value, and without its value where it has one."""
    for kind in KINDS:
        facts = {} if kind.name == "FineTunedWeight" else _OTHER_FACTS
        for field in spec_fields(kind.name):
            if field not in facts:
                yield kind.name, field, {field: _OTHER_VALUES.get(field, "other")}
        for field in spec_fields(kind.name)["storage"]["properties"]:
            extra = _BESIDE.get(field, {})
            yield kind.name, f"storage.{field}", {"storage": {field: _OTHER_STORAGE[field], **extra}}
        yield kind.name, "without storage", {"storage": None}
        for field in ("modelConfiguration", "additionalMetadata", "diffusionPipeline", "hyperParameters"):
            if field in spec_fields(kind.name):
                yield kind.name, f"an empty {field}", {field: {}}
        yield kind.name, "without storageKey", {"storage": {"storageKey": None}}
        yield kind.name, "without vendor", {"vendor": None}
        if facts:
            yield kind.name, "modelFormat.operator", {"modelFormat": {"operator": "GreaterThan"}}
            yield kind.name, "modelFormat.weight", {"modelFormat": {"weight": 7}}
            yield kind.name, "without modelFormat", {"modelFormat": None}
            yield kind.name, "modelFramework.weight", {"modelFramework": {"weight": 7}}
            yield kind.name, "a fact beside another field", {"modelType": "other", "vendor": "theirs"}


def model(kind: str) -> Object:
    metadata = {
        "name": "llama",
        "labels": {"team": "a"},
        "annotations": {"models.ome.io/priority": "1"},
        "finalizers": ["models.ome.io/finalizer"],
    }
    spec = _WEIGHTS | {"vendor": "meta"} if kind == "FineTunedWeight" else _SPEC
    return {"apiVersion": GROUP_VERSION, "kind": kind, "metadata": metadata, "spec": copy.deepcopy(spec)}


async def refusal(
    kube: KubeClient, method: str, path: str, body: Object | list[Object] | None, content_type: str = MERGE_PATCH
) -> str:
    """What the API server says against a request, which changes nothing; empty when it would have carried it out."""
    query = {"dryRun": "All"}
    if content_type == APPLY_PATCH:
        query |= {"fieldManager": "thief", "force": "true"}
    try:
        await kube.request(method, path, body, query, content_type)
    except ServiceError as error:
        return error.message
    return ""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        for name in ("ome", "team-a"):
            await running.kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        drivers = '{"acme": {"driver": "preprovisioned"}}'
        for chart, *values in (["crds"], ["status"], ["fetcher", "--set-json", f"vendorDrivers={drivers}"]):
            arguments = ("install", f"ome-{chart}", str(CHARTS / chart), "--namespace", "ome", *image_values(chart))
            await asyncio.to_thread(run, "helm", *arguments, *values, KUBECONFIG=str(running.kubeconfig))
        labels = {"gpu": "true", "models.ome.io/storage-tier": "slow", f"models.ome/{_UID}": "Ready"}
        await running.kube.request("POST", "/api/v1/nodes", {"metadata": {"name": "node-1", "labels": labels}})
        for kind in KINDS:
            await running.kube.request("POST", path_of(kind.name), model(kind.name))
        for name, label, data in (
            ("node-1", _OURS, _ENTRY | {"added-by": "somebody"}),
            ("theirs", {}, {"index": "https://ours"}),
            ("empty", {}, {}),
            ("relabelled", {}, _ENTRY),
        ):
            metadata = {"name": name, "labels": label}
            await running.kube.request("POST", _CONFIG_MAPS, {"metadata": metadata, "data": data})
        await policies_enforced(running.kube)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def thief(server: ApiServer) -> AsyncIterator[KubeClient]:
    """Has the token of the status service, once the API server enforces the policies."""
    async with server.as_account("ome-status") as kube, asyncio.timeout(_DEADLINE_SECONDS):
        attempts: list[tuple[Any, ...]] = [
            ("PATCH", f"{path_of('ClusterBaseModel')}/llama", {"metadata": {"labels": {"a": "b"}}}),
            ("PATCH", _NODE, {"metadata": {"labels": {"a": "b"}}}),
            ("POST", _CONFIG_MAPS, {"metadata": {"name": "node-2"}}, JSON),
            ("POST", _LEASES, {"metadata": {"name": "ome-controller"}}, JSON),
        ]
        for attempt in attempts:
            while "denied request" not in await refusal(kube, *attempt):
                await asyncio.sleep(0.1)
        yield kube


@pytest.mark.parametrize(
    ("kind", "spec"), [pytest.param(kind, spec, id=f"{kind} {what}") for kind, what, spec in attacks_on_the_spec()]
)
async def test_no_field_of_a_spec_but_the_facts_can_be_changed(kind: str, spec: Object, thief: KubeClient) -> None:
    assert "denied request: the status service" in await refusal(
        thief, "PATCH", f"{path_of(kind)}/llama", {"spec": spec}
    )


async def test_nor_by_another_form_of_patch(thief: KubeClient) -> None:
    path = f"{path_of('BaseModel')}/llama"
    forms: list[tuple[str, Object | list[Object]]] = [
        (JSON_PATCH, [{"op": "replace", "path": "/spec/storage/storageUri", "value": "hf://theirs/llama"}]),
        (JSON_PATCH, [{"op": "move", "from": "/spec/vendor", "path": "/spec/version"}]),
        (APPLY_PATCH, model("BaseModel") | {"spec": {"storage": {"storageUri": "hf://theirs/llama"}}}),
    ]
    for content_type, body in forms:
        assert "denied request: the status service" in await refusal(thief, "PATCH", path, body, content_type)


async def test_every_field_of_a_spec_is_attacked() -> None:
    for kind in KINDS:
        facts = set() if kind.name == "FineTunedWeight" else {path[0] for path in FACT_FIELDS}
        assert spec_fields(kind.name).keys() - facts <= _OTHER_VALUES.keys() | {"modelType"}
        assert spec_fields(kind.name)["storage"]["properties"].keys() == _OTHER_STORAGE.keys()
    assert _OTHER_FACTS.keys() == {path[0] for path in FACT_FIELDS}


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"team": "b"}},
        {"labels": None},
        {"annotations": {"models.ome.io/priority": "999"}},
        {"annotations": None},
        {"finalizers": []},
        {"finalizers": ["models.ome.io/finalizer", "example.com/for-ever"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": _UID}]},
    ],
    ids=str,
)
async def test_no_metadata_of_a_model_can_be_changed(kind: str, metadata: Object, thief: KubeClient) -> None:
    path = f"{path_of(kind)}/llama"
    assert "denied request: the status service" in await refusal(thief, "PATCH", path, {"metadata": metadata})


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
async def test_the_status_of_a_model_is_no_way_to_its_spec(kind: str, server: ApiServer, thief: KubeClient) -> None:
    path = f"{path_of(kind)}/llama"
    before = await server.kube.get(path)
    body = {"metadata": {"labels": {"team": "b"}, "finalizers": []}, "spec": {"vendor": "theirs"}}
    written = await thief.request("PATCH", f"{path}/status", body, content_type=MERGE_PATCH)
    after = await server.kube.get(path)

    for item in (written, after):
        assert item["spec"] == before["spec"]
        assert all(item["metadata"][key] == before["metadata"][key] for key in ("labels", "finalizers", "annotations"))


@pytest.mark.parametrize("kind", ["BaseModel", "ClusterBaseModel"])
async def test_facts_can_be_written(kind: str, thief: KubeClient) -> None:
    path = f"{path_of(kind)}/llama"
    body = model(kind) | {"metadata": {"name": "llama"}, "spec": _OTHER_FACTS}

    assert await refusal(thief, "PATCH", path, {"spec": _OTHER_FACTS}) == ""
    assert await refusal(thief, "PATCH", path, body, APPLY_PATCH) == ""
    for fact in FACT_FIELDS:
        assert await refusal(thief, "PATCH", path, {"spec": {fact[0]: _OTHER_FACTS[fact[0]]}}) == ""


@pytest.mark.parametrize(
    "change",
    [
        # By such a label people choose the nodes of a model.
        {"metadata": {"labels": {"models.ome.io/storage-tier": "fast"}}},
        {"metadata": {"labels": {"models.ome.io/storage-tier": None}}},
        {"metadata": {"labels": {"models.ome/pool": "a"}}},
        {"metadata": {"labels": {"gpu": None}}},
        {"metadata": {"labels": {"kubernetes.io/hostname": "node-2"}}},
        {"metadata": {"labels": {f"models.ome/{_UID}": "anything"}}},
        {"metadata": {"labels": {f"models.ome/{_UID}": "592Gi"}}},
        {"metadata": {"labels": {"models.ome.io/available-storage": "Ready"}}},
        {"metadata": {"labels": {"models.ome.io/available-storage": "gpu"}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"finalizers": ["example.com/for-ever"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": _UID}]}},
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
        {"spec": {"podCIDR": "10.0.0.0/24"}},
        {"spec": {"providerID": "theirs"}},
    ],
    ids=str,
)
async def test_nothing_of_a_node_can_be_changed_but_labels_of_models(change: Object, thief: KubeClient) -> None:
    assert "denied request: the status service" in await refusal(thief, "PATCH", _NODE, change)


async def test_nor_is_the_status_of_a_node_changed(server: ApiServer, thief: KubeClient) -> None:
    change = {"status": {"conditions": [{"type": "Ready", "status": "False"}], "capacity": {"cpu": "0"}}}
    before = await server.kube.get(_NODE)
    await thief.request("PATCH", _NODE, change, content_type=MERGE_PATCH)
    assert (await server.kube.get(_NODE)).get("status") == before.get("status")
    with pytest.raises(Missing):
        await thief.request("PATCH", f"{_NODE}/status", change, content_type=MERGE_PATCH)


@pytest.mark.parametrize(
    "labels",
    [
        {f"models.ome/{_UID}": "Failed", "models.ome.io/clusterbasemodel.llama": "Updating"},
        {f"models.ome/{_UID}": None},
        {"models.ome.io/team-a.basemodel.llama": "Ready", "models.ome.io/finetunedweight.lora": "Ready"},
        {"models.ome.io/available-storage": "592Gi", "models.ome.io/reserved-storage": "0Gi"},
        {"models.ome.io/available-storage": None, "models.ome.io/reserved-storage": None},
    ],
    ids=str,
)
async def test_labels_of_models_can_be_written(labels: Object, thief: KubeClient) -> None:
    assert await refusal(thief, "PATCH", _NODE, {"metadata": {"labels": labels}}) == ""


async def test_the_drivers_of_vendors_can_neither_be_changed_nor_deleted(thief: KubeClient) -> None:
    for name in ("ome-fetcher-vendor-drivers", "theirs", "empty"):
        path = f"{_CONFIG_MAPS}/{name}"
        drivers = {"data": {"drivers.json": "{}"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": _OURS}, "data": _ENTRY}
        attempts = [
            await refusal(thief, "PATCH", path, drivers),
            await refusal(thief, "PATCH", path, {"metadata": {"labels": _OURS}}),
            await refusal(thief, "PATCH", path, {"metadata": {"labels": _OURS}, "data": {"index": None, **_ENTRY}}),
            await refusal(thief, "PATCH", path, body, APPLY_PATCH),
            await refusal(thief, "DELETE", path, None, JSON),
        ]
        assert ["denied request: the status service" in said for said in attempts] == [True] * 5


@pytest.mark.parametrize(
    "config_map",
    [
        {"metadata": {"name": "node-2"}, "data": _ENTRY},
        {"metadata": {"name": "node-2", "labels": {CONFIG_MAP_LABEL: "false"}}, "data": _ENTRY},
        # What somebody mounts is found by the names of its keys, or by its own.
        {"metadata": {"name": "node-2", "labels": _OURS}, "data": {"drivers.json": "{}"}},
        {"metadata": {"name": "node-2", "labels": _OURS}, "data": {**_ENTRY, "index": "https://theirs"}},
        {"metadata": {"name": "node-2", "labels": _OURS}, "data": {"clusterbasemodel.llama": "no JSON"}},
        {"metadata": {"name": "node-2", "labels": _OURS}, "binaryData": {"drivers.json": "e30="}},
        {"metadata": {"name": "node-2", "labels": _OURS}, "data": _ENTRY, "immutable": True},
        {"metadata": {"name": "node-2", "labels": {**_OURS, "sidecar": "load-me"}}, "data": _ENTRY},
        {"metadata": {"name": "node-2", "labels": _OURS, "annotations": {"a": "b"}}, "data": _ENTRY},
        {"metadata": {"name": "node-2", "labels": _OURS, "finalizers": ["example.com/a"]}, "data": _ENTRY},
        *(
            {"metadata": {"name": name, "labels": _OURS}, "data": _ENTRY}
            for name in ("ome-fetcher-drivers", "ome-controller", "ome-status-x", "ome-parser", "ome-resolver")
        ),
    ],
    ids=str,
)
async def test_no_config_map_can_be_created_that_is_not_a_nodes(config_map: Object, thief: KubeClient) -> None:
    assert "denied request: the status service" in await refusal(thief, "POST", _CONFIG_MAPS, config_map, JSON)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"drivers.json": "{}"}},
        {"data": {"added-by": "us"}},
        {"data": {"added-by": None}},
        {"data": {"clusterbasemodel.llama": "no JSON"}},
        {"binaryData": {"drivers.json": "e30="}},
        {"metadata": {"labels": {CONFIG_MAP_LABEL: None}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"immutable": True},
    ],
    ids=str,
)
async def test_nor_can_that_of_a_node_be_turned_into_another(change: Object, thief: KubeClient) -> None:
    path = f"{_CONFIG_MAPS}/node-1"
    assert "denied request: the status service" in await refusal(thief, "PATCH", path, change)


async def test_the_config_map_of_a_node_can_be_written_and_deleted(thief: KubeClient) -> None:
    applied = {"apiVersion": "v1", "kind": "ConfigMap"}
    for name in ("node-1", "node-2.example.com", "relabelled"):
        body = applied | {"metadata": {"name": name, "labels": _OURS}, "data": {**_ENTRY, "team-a.basemodel.x": "{}"}}
        assert await refusal(thief, "PATCH", f"{_CONFIG_MAPS}/{name}", body, APPLY_PATCH) == ""
    assert await refusal(thief, "PATCH", f"{_CONFIG_MAPS}/node-1", {"data": dict.fromkeys(_ENTRY)}) == ""
    assert await refusal(thief, "DELETE", f"{_CONFIG_MAPS}/node-1", None, JSON) == ""


async def test_the_lease_of_another_service_cannot_be_taken_before_it_exists(thief: KubeClient) -> None:
    lease = {"metadata": {"name": "ome-controller"}, "spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}}
    assert "denied request: the status service" in await refusal(thief, "POST", _LEASES, lease, JSON)
    assert await refusal(thief, "POST", _LEASES, lease | {"metadata": {"name": "ome-status"}}, JSON) == ""


def _event(**changes: Any) -> Object:
    about = {"apiVersion": GROUP_VERSION, "kind": "BaseModel", "name": "llama", "namespace": "team-a"}
    said = {"reportingController": "ome.io/status", "reportingInstance": "status-a", "action": "Report"}
    event = {"metadata": {"name": "llama.1", "namespace": "team-a"}, "eventTime": "2026-01-01T00:00:00.000000Z"}
    return event | said | {"type": "Normal", "reason": "Ready", "note": "n", "regarding": about} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"regarding": {"apiVersion": "v1", "kind": "Pod", "name": "theirs", "namespace": "team-a"}},
        {"reportingController": "kubelet"},
    ],
    ids=str,
)
async def test_events_tell_of_models_alone_and_in_the_name_of_the_service(changes: Object, thief: KubeClient) -> None:
    path = "/apis/events.k8s.io/v1/namespaces/team-a/events"
    assert "denied request: the status service" in await refusal(thief, "POST", path, _event(**changes), JSON)
    assert await refusal(thief, "POST", path, _event(), JSON) == ""
