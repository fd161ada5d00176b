"""What StatusService answers to who asks why, what is on a node, what is on its way, and what has changed since."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio

from libs.artifact.names import progress_subject
from ome.fetch.v1.fetch_pb2 import PROBLEM_CLASS_UNAVAILABLE, Problem, Progress
from ome.model.v1.model_pb2 import (
    MODEL_KIND_CLUSTER_BASE_MODEL,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_INSUFFICIENT_DISK,
    Artifact,
)
from ome.status.v1.status_pb2 import (
    MODEL_ORDER_STATE,
    ExplainRequest,
    ExplainResponse,
    GetNodeRequest,
    ListModelsRequest,
    ListNodesRequest,
    WatchModelsRequest,
    WatchProgressRequest,
)
from tests.support.status_process import Object, StatusCluster, eventually, path_of, running_status_cluster, stub
from tools.localcluster.status_client import AUDIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

ARTIFACT = Artifact(digest="sha256:" + "1" * 64, source_revision="c0ffee", bytes=91_000_000, files=9)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path_factory.mktemp("status")) as running:
        await running.node("node-1", gpu="H100")
        await running.node("node-2", gpu="H100")
        await running.node("node-3", gpu="T4")
        await running.start_replica("status-a")
        yield running


@asynccontextmanager
async def client(cluster: StatusCluster, token: str = "") -> AsyncIterator[Any]:
    """A client of the first replica, once that answers."""
    reader = await cluster.reader_token()
    async with stub(cluster.replicas[0], reader) as service:

        async def answers() -> bool:
            try:
                return len((await service.ListNodes(ListNodesRequest())).nodes) == 3
            except grpc.aio.AioRpcError:
                return False

        await eventually(answers, "StatusService answers")
    async with stub(cluster.replicas[0], token or reader) as service:
        yield service


async def stuck_model(cluster: StatusCluster, name: str) -> Object:
    """A model that is Ready on one node, lacks room on another, and does not choose the third."""
    selected = {"storageUri": "hf://org/m", "nodeSelector": {"gpu": "H100"}}
    model = await cluster.model(name, storage=selected)
    await cluster.plan(model, ["node-1", "node-2"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
    problem = Problem(
        reason=REASON_INSUFFICIENT_DISK, message="needs 2 GiB, has 1 GiB", problem_class=PROBLEM_CLASS_UNAVAILABLE
    )
    problem.retry_at.FromJsonString("2099-01-01T12:30:00Z")
    await cluster.observed(model, "node-2", NODE_PHASE_FAILED, problem=problem)

    async def told() -> bool:
        found = await cluster.get(path_of(model)) or {}
        return ((found.get("status") or {}).get("nodes") or {}).get("failed") == 1

    await eventually(told, "the failure is in .status")
    return model


def question(name: str, node: str = "") -> ExplainRequest:
    return ExplainRequest(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name=name, node=node)


async def test_a_person_who_asks_why_is_told_the_rule_the_cause_the_time_and_who_acts(cluster: StatusCluster) -> None:
    await stuck_model(cluster, "stuck")
    async with client(cluster) as service:
        ready: ExplainResponse = await service.Explain(question("stuck", "node-1"))
        assert ready.verdict == "Node node-1 holds a verified copy at /models/stuck."
        failed: ExplainResponse = await service.Explain(question("stuck", "node-2"))
        assert failed.wanted
        assert failed.verdict.endswith("has failed: InsufficientDisk.")
        assert failed.last == "needs 2 GiB, has 1 GiB."
        assert failed.next.startswith("The node tries again at 12:30:00 UTC")
        assert failed.who == "the cluster's administrator"
        other: ExplainResponse = await service.Explain(question("stuck", "node-3"))
        assert not other.wanted
        assert [(rule.requirement, rule.satisfied, rule.found) for rule in other.rules] == [
            ("gpu=H100", False, "it has gpu=T4")
        ]
        whole: ExplainResponse = await service.Explain(question("stuck"))
        assert whole.verdict == "1 of 3 nodes holds the model; 2 are chosen by its rules."
        assert "Not chosen: node node-3 lacks gpu=H100 (node node-3 has gpu=T4)." in whole.details
        for absent in (question("absent"), question("stuck", "bad_name")):
            with pytest.raises(grpc.aio.AioRpcError):
                await service.Explain(absent)


async def test_who_may_not_read_nodes_is_told_nothing_of_their_labels(cluster: StatusCluster) -> None:
    await stuck_model(cluster, "private")
    await account_that_reads_models_alone(cluster)
    token = await cluster.token_of("of-models", "default", AUDIENCE)
    async with client(cluster, token) as service:
        whole: ExplainResponse = await service.Explain(question("private"))
        assert "node-2" in str(whole.details)
        assert "T4" not in str(whole)
        assert "node-3" not in str(whole)
        for call, request in (
            (service.Explain, question("private", "node-3")),
            (service.GetNode, GetNodeRequest(name="node-3")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_is_told_with_what_is_on_it(cluster: StatusCluster) -> None:
    await stuck_model(cluster, "on-a-node")
    async with client(cluster) as service:
        told = await service.GetNode(GetNodeRequest(name="node-2"))
        assert (told.node.name, told.node.reachable) == ("node-2", True)
        [here] = (each for each in told.models if each.model.name == "on-a-node")
        assert (here.status.phase, here.status.reason) == (NODE_PHASE_FAILED, REASON_INSUFFICIENT_DISK)
        for name, code in (("node-9", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await service.GetNode(GetNodeRequest(name=name))
            assert refused.value.code() == code


async def test_lists_are_filtered_and_sorted(cluster: StatusCluster) -> None:
    await stuck_model(cluster, "listed")
    async with client(cluster) as service:

        async def names(request: ListModelsRequest) -> list[str]:
            return [model.ref.name for model in (await service.ListModels(request)).models]

        assert await names(ListModelsRequest(text="LISTED")) == ["listed"]
        assert "listed" in await names(ListModelsRequest(reason="InsufficientDisk", node="node-2"))
        assert await names(ListModelsRequest(text="listed", node="node-3")) == []
        page = await service.ListModels(ListModelsRequest(order=MODEL_ORDER_STATE, page_size=1))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.ListModels(ListModelsRequest(page_token=page.next_page_token))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_goes_on_where_it_ended(cluster: StatusCluster) -> None:
    model = await stuck_model(cluster, "resumed")
    gone = await cluster.model("gone")
    async with client(cluster) as service:

        async def read(request: WatchModelsRequest) -> tuple[list[Any], Any]:
            """The events up to the marker, and the marker."""
            watch = service.WatchModels(request)
            events = []
            async with asyncio.timeout(10):
                while not (event := await watch.read()).HasField("synced"):
                    events.append(event)
            watch.cancel()
            return events, event

        async def knows_gone() -> bool:
            return len((await service.ListModels(ListModelsRequest(text="gone"))).models) == 1

        await eventually(knows_gone, "the second model is known")
        events, marker = await read(WatchModelsRequest())
        assert not marker.synced.resumed
        assert marker.resume_token
        assert not any(event.resume_token for event in events[:-1])

        await cluster.kube.request("DELETE", path_of(gone))
        await cluster.observed(model, "node-2", NODE_PHASE_READY, artifact=ARTIFACT)

        async def changed() -> tuple[list[Any], Any] | None:
            events, marker_then = await read(WatchModelsRequest(resume_token=marker.resume_token))
            told = {event.updated.ref.name or event.deleted.name for event in events}
            return (events, marker_then) if told == {"resumed", "gone"} else None

        events, then = await eventually(changed, "both changes, and nothing else, are told")
        assert then.synced.resumed
        events, again = await read(WatchModelsRequest(resume_token=then.resume_token))
        assert (events, again.synced.resumed) == ([], True)
        everything, anew = await read(WatchModelsRequest(name="resumed", resume_token=then.resume_token))
        assert (len(everything), anew.synced.resumed) == (1, False), "the token is of another watch"


async def test_progress_is_told_for_each_node_until_it_ends(cluster: StatusCluster) -> None:
    model = await cluster.model("moving", storage={"storageUri": "hf://org/moving"})
    uid = model["metadata"]["uid"]
    await cluster.plan(model, ["node-1"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_UPDATING, problem=Problem(reason=REASON_DOWNLOADING))
    async with client(cluster) as service:
        watch = service.WatchProgress(WatchProgressRequest(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="moving"))

        async def until(reached: Any) -> Any:
            async with asyncio.timeout(15):
                while True:
                    for each in (await watch.read()).transfers:
                        if reached(each):
                            return each

        figures = Progress(bytes_done=45_000_000, bytes_total=91_000_000, files_done=3, files_total=9, eta_seconds=5)
        # As a gateway of an earlier version may pass it on.
        figures.files.add(path="weights\n.bin", bytes_done=9**18, bytes_total=90)

        async def publish() -> bool:
            """Progress is not stored, and is dropped until the state of the node is known."""
            await cluster.client.publish(progress_subject("node-1", uid), figures.SerializeToString())
            told = (await service.ListModels(ListModelsRequest(text="moving"))).models
            return bool(told and told[0].nodes and told[0].nodes[0].eta_seconds)

        await eventually(publish, "the figures are known")
        told = await until(lambda each: each.eta_seconds)
        assert (told.node, told.bytes_done, told.files_done, told.files_total) == ("node-1", 45_000_000, 3, 9)
        assert [(file.path, file.bytes_done) for file in told.files] == [("weights .bin", 90)]
        await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
        assert (await until(lambda each: each.ended)).model.uid == uid


async def account_that_reads_models_alone(cluster: StatusCluster) -> None:
    """An account that may read all models, and no nodes."""
    rbac = "rbac.authorization.k8s.io"
    named = {"metadata": {"name": "of-models"}}
    rules = [{"apiGroups": ["ome.io"], "resources": ["clusterbasemodels"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": "of-models", "namespace": "default"}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "of-models"}
    for path, body in (
        ("/api/v1/namespaces/default/serviceaccounts", named),
        (f"/apis/{rbac}/v1/clusterroles", {**named, "rules": rules}),
        (f"/apis/{rbac}/v1/clusterrolebindings", {**named, "roleRef": role, "subjects": [subject]}),
    ):
        await cluster.kube.request("POST", path, body)
    asked = {"verb": "get", "group": "ome.io", "resource": "clusterbasemodels"}
    spec = {"user": "system:serviceaccount:default:of-models", "resourceAttributes": asked}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}

    async def holds() -> bool:
        found = await cluster.kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(found["status"]["allowed"])

    await eventually(holds, "the right is known to the API server")
