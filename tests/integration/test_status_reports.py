"""What users see of models: .status, facts in the spec, labels of nodes, ConfigMaps, events, and StatusService."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from libs.artifact.labels import AVAILABLE_STORAGE_LABEL, RESERVED_STORAGE_LABEL
from libs.artifact.names import progress_subject
from ome.fetch.v1.fetch_pb2 import Problem, Progress, RootCapacity
from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_INSUFFICIENT_DISK,
    Artifact,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from ome.status.v1.status_pb2 import (
    MODEL_STATE_READY,
    GetModelRequest,
    ListModelsRequest,
    ListNodesRequest,
    WatchModelsRequest,
)
from tests.support.mounted_secret import usual_sides
from tests.support.status_process import Object, StatusCluster, eventually, path_of, running_status_cluster, stub

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

NODES = ["node-1", "node-2", "node-3.example.com"]
FIRST = Artifact(digest="sha256:" + "1" * 64, source_revision="c0ffee", bytes=91_000_000, files=9)
SECOND = Artifact(digest="sha256:" + "2" * 64, source_revision="decaf", bytes=92_000_000, files=9)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path_factory.mktemp("status")) as running:
        for node in NODES:
            await running.node(node)
        await running.kube.request(
            "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
        )
        await running.start_replica("status-a")
        yield running


async def ready_on(cluster: StatusCluster, model: Object, *nodes: str, **more: Any) -> None:
    """Have nodes say that they hold a model."""
    for node in nodes:
        await cluster.observed(model, node, NODE_PHASE_READY, **more)


async def status_of(cluster: StatusCluster, model: Object) -> Object:
    """The .status of a model."""
    found = await cluster.get(path_of(model)) or {}
    status: Object = found.get("status") or {}
    return status


def condition(status: Object, name: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = {item["type"]: (item["status"], item["reason"]) for item in status.get("conditions", [])}
    return found.get(name, ("", ""))


async def until_status(cluster: StatusCluster, model: Object, what: str, *path: str, equals: Any) -> Object:
    """Wait until a field of .status has a value; returns the whole .status."""

    async def reached() -> Object | None:
        status = await status_of(cluster, model)
        value: Any = status
        for part in path:
            value = (value or {}).get(part)
        return status if value == equals else None

    found: Object = await eventually(reached, what)
    return found


async def until_label(cluster: StatusCluster, node: str, label: str, value: str | None) -> None:
    """Wait until a label of a node has a value."""

    async def reached() -> bool:
        return (await cluster.labels(node)).get(label) == value

    await eventually(reached, f"{label}={value} on {node}")


@asynccontextmanager
async def client(cluster: StatusCluster) -> AsyncIterator[Any]:
    """A client of the first replica, once that answers."""
    async with stub(cluster.replicas[0], await cluster.reader_token()) as service:

        async def answers() -> bool:
            try:
                await service.ListNodes(ListNodesRequest())
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(answers, "StatusService answers")
        yield service


async def test_a_model_on_three_nodes_is_ready_in_status_labels_config_maps_and_events(cluster: StatusCluster) -> None:
    model = await cluster.model("everywhere")
    await cluster.plan(model, NODES)
    await ready_on(cluster, model, *NODES)
    uid = model["metadata"]["uid"]

    status = await until_status(cluster, model, "all nodes are ready", "nodesReady", equals=NODES)

    assert (status["state"], status["lifecycle"], status["nodesFailed"]) == ("Ready", "Ready", [])
    assert condition(status, "Complete") == ("True", "AllNodesReady")
    assert status["observedGeneration"] == model["metadata"]["generation"]
    for node in NODES:
        await until_label(cluster, node, f"models.ome/{uid}", "Ready")
        await until_label(cluster, node, "models.ome.io/clusterbasemodel.everywhere", "Ready")
    selected = await cluster.kube.get("/api/v1/nodes", {"labelSelector": f"models.ome/{uid}=Ready"})
    assert [node["metadata"]["name"] for node in selected["items"]] == NODES

    async def listed() -> bool:
        selector = {"labelSelector": "models.ome/basemodel-status=true"}
        found = await cluster.kube.get("/api/v1/namespaces/ome/configmaps", selector)
        entries = {item["metadata"]["name"]: item.get("data", {}) for item in found["items"]}
        return sorted(entries) == NODES and all("clusterbasemodel.everywhere" in data for data in entries.values())

    await eventually(listed, "every node's ConfigMap lists the model")

    async def told() -> bool:
        return [event["reason"] for event in await cluster.events(model)] == ["Ready"]

    await eventually(told, "one event says Ready")


async def test_weights_and_their_base_tell_of_each_other(cluster: StatusCluster) -> None:
    weights = await cluster.model("lora", "finetunedweights", baseModelRef={"name": "adapted"})
    await cluster.plan(weights, NODES[:1])
    await ready_on(cluster, weights, NODES[0])
    status = await until_status(cluster, weights, "the base is missed", "reason", equals="BaseNotFound")
    assert condition(status, "BaseFound") == ("False", "BaseNotFound")

    base = await cluster.model("adapted")
    named = {"kind": "ClusterBaseModel", "name": "adapted"}
    status = await until_status(cluster, weights, "the base is found", "base", equals=named)
    assert condition(status, "BaseFound") == ("True", "Found")
    counted = {"count": 1, "names": ["lora"]}
    status = await until_status(cluster, base, "the base names its weights", "fineTunedWeights", equals=counted)
    assert condition(status, "Referenced") == ("True", "WeightsRefer")

    await cluster.kube.request("DELETE", path_of(weights))
    await until_status(cluster, base, "the base names no weights", "fineTunedWeights", equals=None)


async def test_a_service_is_told_whether_its_model_is_ready_and_where(cluster: StatusCluster) -> None:
    collection = "/apis/ome.io/v1beta1/namespaces/team-a/inferenceservices"
    spec = {"model": {"name": "served"}, "engine": {"minReplicas": 1, "maxReplicas": 3}}
    manifest = {"apiVersion": "ome.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "chat"}, "spec": spec}
    await cluster.kube.request("POST", collection, manifest)

    async def told() -> tuple[str, str]:
        service = await cluster.get(f"{collection}/chat") or {}
        assert service["spec"] == spec
        return condition(service.get("status") or {}, "ModelReady")

    async def until(what: tuple[str, str]) -> None:
        async def reached() -> bool:
            return await told() == what

        await eventually(reached, f"the service is told {what}")

    await until(("False", "NotFound"))
    model = await cluster.model("served")
    await cluster.plan(model, NODES)
    await ready_on(cluster, model, NODES[0])
    await until(("True", "NodesReady"))
    status = (await cluster.get(f"{collection}/chat") or {})["status"]
    assert status["model"]["nodes"] == [NODES[0]]
    await cluster.kube.request("DELETE", path_of(model))
    await until(("False", "NotFound"))


async def test_a_model_of_a_namespace_has_its_namespace_in_the_label(cluster: StatusCluster) -> None:
    model = await cluster.model("private", "basemodels", "team-a")
    await cluster.plan(model, ["node-1"])
    await ready_on(cluster, model, "node-1")

    await until_label(cluster, "node-1", "models.ome.io/team-a.basemodel.private", "Ready")
    await until_status(cluster, model, "ready", "state", equals="Ready")
    (event,) = await eventually(lambda: cluster.events(model), "an event")
    assert event["metadata"]["namespace"] == "team-a"


async def test_a_failure_is_told_with_its_reason_and_so_is_the_recovery(cluster: StatusCluster) -> None:
    model = await cluster.model("too-large", storage={"storageUri": "hf://org/too-large"})
    await cluster.plan(model, ["node-1"], FIRST)
    problem = Problem(reason=REASON_INSUFFICIENT_DISK, message="needs 91 MB and /models has 12 MB free")
    await cluster.observed(model, "node-1", NODE_PHASE_FAILED, problem=problem)

    status = await until_status(cluster, model, "failed", "state", equals="Failed")
    assert condition(status, "Stalled") == ("True", "InsufficientDisk")
    assert status["failures"] == [
        {"node": "node-1", "reason": "InsufficientDisk", "message": "Needs 91 MB and /models has 12 MB free."}
    ]
    await until_label(cluster, "node-1", f"models.ome/{model['metadata']['uid']}", "Failed")

    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=FIRST)
    await until_status(cluster, model, "ready", "state", equals="Ready")

    async def told() -> bool:
        events = Counter((event["type"], event["reason"]) for event in await cluster.events(model))
        return events[("Warning", "InsufficientDisk")] == 1 and events[("Normal", "Recovered")] == 1

    await eventually(told, "a warning and the recovery")


async def test_facts_fill_what_the_user_left_empty_and_follow_the_next_revision(cluster: StatusCluster) -> None:
    model = await cluster.model("facts", storage={"storageUri": "hf://org/facts"}, modelParameterSize="as I say")
    await cluster.plan(model, ["node-1"], FIRST)
    facts = ModelFacts(
        model_type="bert",
        architecture="BertModel",
        parameter_size="22M",
        context_length=512,
        capabilities=["EMBEDDING"],
        format="safetensors",
        framework="transformers",
        framework_version="4.8.2",
    )
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=FIRST, facts=facts)

    status = await until_status(cluster, model, "facts", "metadata", "parameterSize", equals="22M")
    filled = await cluster.get(path_of(model)) or {}
    assert filled["spec"]["modelType"] == "bert"
    assert filled["spec"]["maxTokens"] == 512
    assert filled["spec"]["modelCapabilities"] == ["EMBEDDING"]
    assert filled["spec"]["modelFramework"] == {"name": "transformers", "version": "4.8.2"}
    assert filled["spec"]["modelParameterSize"] == "as I say"
    assert status["observedGeneration"] == filled["metadata"]["generation"] == 2
    assert condition(status, "Parsed") == ("True", "Parsed")

    await cluster.plan(filled, ["node-1"], SECOND)
    newer = ModelFacts(model_type="roberta", architecture="RobertaModel", parameter_size="125M")
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=SECOND, facts=newer)
    await until_status(cluster, model, "new facts", "metadata", "parameterSize", equals="125M")
    refilled = await cluster.get(path_of(model)) or {}
    assert refilled["spec"]["modelType"] == "roberta"
    assert refilled["spec"]["modelParameterSize"] == "as I say"
    assert "maxTokens" not in refilled["spec"]


async def test_a_field_that_the_user_takes_over_stays_the_users(cluster: StatusCluster) -> None:
    model = await cluster.model("taken-over", storage={"storageUri": "hf://org/taken-over"})
    await cluster.plan(model, ["node-1"], FIRST)
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=FIRST, facts=ModelFacts(model_type="bert"))
    await until_status(cluster, model, "facts", "metadata", "modelType", equals="bert")

    mine = {"spec": {"modelType": "mine"}}
    await cluster.kube.request("PATCH", path_of(model), mine, content_type="application/merge-patch+json")
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=FIRST, facts=ModelFacts(model_type="roberta"))

    await until_status(cluster, model, "new facts", "metadata", "modelType", equals="roberta")
    assert ((await cluster.get(path_of(model))) or {})["spec"]["modelType"] == "mine"


async def test_a_model_without_storage_says_that_there_is_nothing_to_fetch(cluster: StatusCluster) -> None:
    model = await cluster.model("no-storage", storage=None, modelType="custom")

    status = await until_status(cluster, model, "a status", "state", equals="Creating")

    assert condition(status, "Available") == ("False", "NoStorage")


async def test_a_deleted_model_leaves_no_label_and_no_entry(cluster: StatusCluster) -> None:
    model = await cluster.model("short-lived")
    await cluster.plan(model, ["node-2"])
    await ready_on(cluster, model, "node-2")
    label = f"models.ome/{model['metadata']['uid']}"
    await until_label(cluster, "node-2", label, "Ready")
    hold = {"metadata": {"finalizers": ["models.ome.io/finalizer"]}}
    await cluster.kube.request("PATCH", path_of(model), hold, content_type="application/merge-patch+json")

    await cluster.kube.request("DELETE", path_of(model))
    await until_label(cluster, "node-2", label, None)
    status = await until_status(cluster, model, "deleting", "lifecycle", equals="Deleting")
    assert condition(status, "Complete") == ("False", "Deleting")

    await cluster.observed(model, "node-2", NODE_PHASE_DELETED)
    await cluster.unobserve(model, "node-2")
    release: Object = {"metadata": {"finalizers": None}}
    await cluster.kube.request("PATCH", path_of(model), release, content_type="application/merge-patch+json")

    async def gone() -> bool:
        data = (await cluster.get("/api/v1/namespaces/ome/configmaps/node-2") or {}).get("data") or {}
        return await cluster.get(path_of(model)) is None and "clusterbasemodel.short-lived" not in data

    await eventually(gone, "object and entry are gone")
    assert not [name for name in await cluster.labels("node-2") if "short-lived" in name]


async def test_labels_that_somebody_changes_come_back_and_others_are_left_alone(cluster: StatusCluster) -> None:
    model = await cluster.model("meddled")
    await cluster.plan(model, ["node-1"])
    await ready_on(cluster, model, "node-1")
    label = f"models.ome/{model['metadata']['uid']}"
    await until_label(cluster, "node-1", label, "Ready")

    stale = "models.ome/11111111-2222-3333-4444-555555555555"
    meddling = {"metadata": {"labels": {label: None, stale: "Ready", "models.ome.io/storage-tier": "nvme"}}}
    await cluster.kube.request("PATCH", "/api/v1/nodes/node-1", meddling, content_type="application/merge-patch+json")

    await until_label(cluster, "node-1", label, "Ready")
    await until_label(cluster, "node-1", stale, None)
    assert (await cluster.labels("node-1"))["models.ome.io/storage-tier"] == "nvme"


async def test_a_config_map_that_somebody_deletes_or_relabels_comes_back_with_its_label(cluster: StatusCluster) -> None:
    model = await cluster.model("listed")
    await cluster.plan(model, ["node-1"])
    await ready_on(cluster, model, "node-1")
    path = "/api/v1/namespaces/ome/configmaps/node-1"

    async def complete() -> bool:
        found = await cluster.get(path) or {"metadata": {}}
        labels = found["metadata"].get("labels") or {}
        return "clusterbasemodel.listed" in (found.get("data") or {}) and "models.ome/basemodel-status" in labels

    await eventually(complete, "the ConfigMap")
    await cluster.kube.request("DELETE", path)
    await eventually(complete, "the ConfigMap is back")
    unlabel = {"metadata": {"labels": {"models.ome/basemodel-status": None}}}
    await cluster.kube.request("PATCH", path, unlabel, content_type="application/merge-patch+json")
    await eventually(complete, "the label is back")


async def test_a_node_that_vanishes_loses_its_config_map_and_its_place_in_the_status(cluster: StatusCluster) -> None:
    await cluster.node("fleeting")
    model = await cluster.model("on-fleeting")
    await cluster.plan(model, ["fleeting", "node-1"])
    await ready_on(cluster, model, "fleeting", "node-1")
    await until_status(cluster, model, "ready on both", "nodesReady", equals=["fleeting", "node-1"])
    path = "/api/v1/namespaces/ome/configmaps/fleeting"
    await eventually(lambda: cluster.get(path), "the ConfigMap")

    await cluster.kube.request("DELETE", "/api/v1/nodes/fleeting")

    async def gone() -> bool:
        return await cluster.get(path) is None

    await eventually(gone, "the ConfigMap is gone")
    await until_status(cluster, model, "ready on one", "nodesReady", equals=["node-1"])


async def test_one_model_on_one_node_costs_few_requests_and_idling_costs_none(cluster: StatusCluster) -> None:
    def asked() -> Counter[tuple[str, str]]:
        requests = ((item["verb"], item["objectRef"]["resource"]) for item in cluster.requests())
        return Counter(request for request in requests if request[0] != "watch" and request[1] != "leases")

    async def settled() -> bool:
        before = asked()
        await cluster.renewals(2)
        return asked() == before

    await eventually(settled, "nothing is pending")
    before = asked()
    # It is to hear everything at once: what comes while it writes is another write. No longer than its Lease allows.
    replica = cluster.replicas[-1].process
    replica.signal(signal.SIGSTOP)
    try:
        model = await cluster.model("counted")
        await cluster.plan(model, NODES)
        await ready_on(cluster, model, *NODES)
    finally:
        replica.signal(signal.SIGCONT)
    await until_status(cluster, model, "ready", "nodesReady", equals=NODES)
    await eventually(settled, "nothing is pending any more")

    spent = asked() - before
    assert spent[("patch", "nodes")] == 3
    assert spent[("patch", "configmaps")] == 3
    assert spent[("create", "events")] == 1
    assert spent[("patch", "clusterbasemodels")] <= 2
    assert sum(spent.values()) <= 9
    idle = asked()
    await cluster.renewals(2)
    assert asked() == idle


async def test_clients_get_and_list_the_same_truth(cluster: StatusCluster) -> None:
    model = await cluster.model("queried", "basemodels", "team-a")
    await cluster.plan(model, ["node-1"])
    await ready_on(cluster, model, "node-1")
    await until_status(cluster, model, "ready", "state", equals="Ready")

    async with client(cluster) as service:
        request = GetModelRequest(kind=MODEL_KIND_BASE_MODEL, namespace="team-a", name="queried")
        told = (await service.GetModel(request)).model
        assert (told.ref.uid, told.state) == (model["metadata"]["uid"], MODEL_STATE_READY)
        assert [(node.node, node.phase, node.path) for node in told.nodes] == [
            ("node-1", NODE_PHASE_READY, "/models/queried")
        ]
        everything = (await service.ListModels(ListModelsRequest())).models
        names = [(item.ref.kind, item.ref.namespace, item.ref.name) for item in everything]
        assert names == sorted(names)
        paged, token = [], ""
        while True:
            page = await service.ListModels(ListModelsRequest(page_size=2, page_token=token))
            assert len(page.models) <= 2
            paged += page.models
            token = page.next_page_token
            if not token:
                break
        assert [item.ref.uid for item in paged] == [item.ref.uid for item in everything]
        of_team = await service.ListModels(ListModelsRequest(namespace="team-a", state=MODEL_STATE_READY))
        assert "queried" in [item.ref.name for item in of_team.models]
        nodes = (await service.ListNodes(ListNodesRequest())).nodes
        assert set(NODES) <= {node.name for node in nodes}
        (first,) = (node for node in nodes if node.name == "node-1")
        assert first.reachable
        assert first.models_ready >= 1


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (GetModelRequest(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="absent"), grpc.StatusCode.NOT_FOUND, "NotFound"),
        (GetModelRequest(name="absent"), grpc.StatusCode.INVALID_ARGUMENT, "InvalidParameter"),
        (GetModelRequest(kind=MODEL_KIND_BASE_MODEL, name="x"), grpc.StatusCode.INVALID_ARGUMENT, "InvalidParameter"),
    ],
)
async def test_a_bad_question_is_answered_with_code_and_reason(
    cluster: StatusCluster, request_: GetModelRequest, code: grpc.StatusCode, reason: str
) -> None:
    async with client(cluster) as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.GetModel(request_)
    assert refused.value.code() == code
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.reason == reason


async def test_a_page_token_that_is_not_ours_is_refused(cluster: StatusCluster) -> None:
    async with client(cluster) as service:
        for token in ("nonsense", "AAAA"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await service.ListModels(ListModelsRequest(page_token=token))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_sends_what_exists_a_marker_changes_progress_and_the_end(cluster: StatusCluster) -> None:
    model = await cluster.model("watched", storage={"storageUri": "hf://org/watched"})
    await cluster.plan(model, ["node-1"], FIRST)
    awaited = Problem(reason=REASON_DOWNLOADING)
    await cluster.observed(model, "node-1", NODE_PHASE_UPDATING, problem=awaited, bytes_done=1)
    await until_status(cluster, model, "updating", "nodes", "updating", equals=1)
    uid = model["metadata"]["uid"]

    async with client(cluster) as service:
        watch = service.WatchModels(WatchModelsRequest(name="watched"))

        async def until_event(reached: Any) -> Any:
            async with asyncio.timeout(10):
                while not reached(event := await watch.read()):
                    pass
                return event

        first = await until_event(lambda event: True)
        assert first.updated.ref.uid == uid
        marker = await until_event(lambda event: event.HasField("synced"))
        assert marker.synced.models == 1

        progress = Progress(bytes_done=45_000_000, bytes_total=91_000_000, bytes_per_second=9_000_000, eta_seconds=5)
        await cluster.client.publish(progress_subject("node-1", uid), progress.SerializeToString())
        told = await until_event(lambda event: event.updated.nodes[0].bytes_per_second)
        assert (told.updated.nodes[0].bytes_done, told.updated.nodes[0].eta_seconds) == (45_000_000, 5)

        await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=FIRST)
        told = await until_event(lambda event: event.updated.state == MODEL_STATE_READY)
        assert told.updated.nodes[0].bytes_per_second == 0
        await cluster.kube.request("DELETE", path_of(model))
        assert (await until_event(lambda event: event.HasField("deleted"))).deleted.uid == uid


async def test_health_and_reflection_are_served(cluster: StatusCluster) -> None:
    credentials = usual_sides().channel_credentials()
    async with client(cluster), grpc.aio.secure_channel(cluster.replicas[0].grpc_address, credentials) as channel:
        name = "ome.status.v1.StatusService"
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

        async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        replies = reflection.ServerReflectionInfo(question())
        (reply,) = [reply async for reply in replies]
        assert name in [service.name for service in reply.list_services_response.service]


async def test_entries_are_small_and_say_what_a_person_looks_for(cluster: StatusCluster) -> None:
    model = await cluster.model("entry", storage={"storageUri": "hf://org/entry"})
    await cluster.plan(model, ["node-2"], FIRST)
    await cluster.observed(model, "node-2", NODE_PHASE_READY, artifact=FIRST, facts=ModelFacts(model_type="bert"))

    async def entry() -> Object | None:
        data = (await cluster.get("/api/v1/namespaces/ome/configmaps/node-2") or {}).get("data") or {}
        found: Object | None = json.loads(data.get("clusterbasemodel.entry", "null"))
        return found

    found = await eventually(entry, "the entry")
    assert found == {
        "uid": model["metadata"]["uid"],
        "state": "Ready",
        "digest": FIRST.digest,
        "path": "/models/entry",
        "facts": {"modelType": "bert"},
    }


async def test_a_node_tells_how_much_room_it_has_and_not_again_a_moment_later(cluster: StatusCluster) -> None:
    def root(free_gibibytes: int) -> RootCapacity:
        return RootCapacity(
            root="/models", total_bytes=2 << 40, free_bytes=free_gibibytes << 30, reserved_bytes=9 << 30
        )

    await cluster.node("roomy", **{"storage-tier": "nvme"})
    await cluster.heartbeat("roomy", root(610))
    await until_label(cluster, "roomy", AVAILABLE_STORAGE_LABEL, "592Gi")
    assert (await cluster.labels("roomy"))[RESERVED_STORAGE_LABEL] == "9Gi"

    # Another label of this node shows that it was looked at again after the room had changed.
    await cluster.heartbeat("roomy", root(10))
    model = await cluster.model("small")
    await cluster.plan(model, ["roomy"])
    await ready_on(cluster, model, "roomy")
    await until_label(cluster, "roomy", "models.ome.io/clusterbasemodel.small", "Ready")
    assert (await cluster.labels("roomy"))[AVAILABLE_STORAGE_LABEL] == "592Gi"
