"""What becomes of the reports when a replica, nats-server, the API server or a fetcher goes away and comes back."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from libs.chassis.errors import ServiceError
from ome.model.v1.model_pb2 import MODEL_KIND_CLUSTER_BASE_MODEL, NODE_PHASE_READY
from ome.status.v1.status_pb2 import MODEL_STATE_READY, GetModelRequest, WatchModelsRequest
from tests.support.status_process import (
    Object,
    Replica,
    StatusCluster,
    eventually,
    path_of,
    running_status_cluster,
    stub,
)

pytestmark = pytest.mark.cluster

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ome/leases/ome-status"
NODES = ["node-1", "node-2"]
# A Lease that does not move because a busy machine stands still for a moment.
CALM = {"OME_LEASE_SECONDS": "9"}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[StatusCluster]:
    async with running_status_cluster(tmp_path) as running:
        for node in NODES:
            await running.node(node)
        yield running


async def a_ready_model(cluster: StatusCluster, name: str) -> Object:
    """A model that every node says it holds."""
    model = await cluster.model(name)
    await cluster.plan(model, NODES)
    for node in NODES:
        await cluster.observed(model, node, NODE_PHASE_READY)
    return model


async def nodes_ready(cluster: StatusCluster, model: Object) -> list[str]:
    """status.nodesReady."""
    found = await cluster.get(path_of(model)) or {}
    ready: list[str] = (found.get("status") or {}).get("nodesReady") or []
    return ready


async def until_ready(cluster: StatusCluster, model: Object) -> None:
    """Wait until the status lists every node and every node is labelled."""
    label = f"models.ome/{model['metadata']['uid']}"

    async def reached() -> bool:
        labels = [(await cluster.labels(node)).get(label) for node in NODES]
        return await nodes_ready(cluster, model) == NODES and set(labels) == {"Ready"}

    await eventually(reached, f"{model['metadata']['name']} is ready everywhere", seconds=30)


async def until_holder(cluster: StatusCluster, identity: str) -> None:
    """Wait until a replica holds the Lease."""

    async def holds() -> bool:
        lease = await cluster.get(LEASE)
        return lease is not None and bool(lease["spec"].get("holderIdentity") == identity)

    await eventually(holds, f"{identity} holds the Lease", seconds=30)


async def readiness(replica: Replica) -> tuple[int, str]:
    """What /readyz says."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{replica.http_address}/readyz") as response:
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def until_readiness(replica: Replica, code: int, word: str = "") -> None:
    """Wait until /readyz answers with a code and a word."""

    async def reached() -> bool:
        answer = await readiness(replica)
        return answer[0] == code and word in answer[1]

    await eventually(reached, f"readiness {code} {word}", seconds=30)


def writes(cluster: StatusCluster) -> list[tuple[str, str]]:
    """Every write of the service but those of its Lease."""
    reading = ("get", "list", "watch")
    requests = ((item["verb"], item["objectRef"]["resource"]) for item in cluster.requests())
    return [request for request in requests if request[0] not in reading and request[1] != "leases"]


async def test_the_second_replica_answers_and_takes_over_from_a_killed_leader(cluster: StatusCluster) -> None:
    first = await cluster.start_replica("status-a", **CALM)
    await until_holder(cluster, "status-a")
    second = await cluster.start_replica("status-b", **CALM)
    await until_readiness(second, 200)
    model = await a_ready_model(cluster, "before")
    await until_ready(cluster, model)

    async with stub(second, await cluster.reader_token()) as service:
        request = GetModelRequest(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="before")

        async def told() -> bool:
            return bool((await service.GetModel(request)).model.state == MODEL_STATE_READY)

        await eventually(told, "the follower answers")
    assert "status_written" not in second.log.read_text()

    await first.process.kill()
    await until_holder(cluster, "status-b")
    await until_ready(cluster, await a_ready_model(cluster, "after"))


async def test_a_leader_that_ends_in_order_hands_over_at_once(cluster: StatusCluster) -> None:
    first = await cluster.start_replica("status-a", OME_LEASE_SECONDS="600")
    await until_holder(cluster, "status-a")
    second = await cluster.start_replica("status-b", OME_LEASE_SECONDS="600")
    await until_readiness(second, 200)

    assert await first.process.stop(10) == 0
    await until_holder(cluster, "status-b")


async def test_a_stopped_leader_that_wakes_up_does_not_write_under_a_lost_lease(cluster: StatusCluster) -> None:
    first = await cluster.start_replica("status-a", **CALM)
    await until_holder(cluster, "status-a")
    second = await cluster.start_replica("status-b", **CALM)
    await until_readiness(second, 200)

    first.process.signal(signal.SIGSTOP)
    await until_holder(cluster, "status-b")
    model = await a_ready_model(cluster, "meanwhile")
    await until_ready(cluster, model)
    first.process.signal(signal.SIGCONT)
    await eventually(lambda: '"leading": false' in first.log.read_text(), "the first replica knows")

    await until_ready(cluster, await a_ready_model(cluster, "later"))
    assert "status_written" not in first.log.read_text()


async def test_a_restart_on_a_converged_cluster_writes_nothing(cluster: StatusCluster) -> None:
    first = await cluster.start_replica("status-a")
    models = [await a_ready_model(cluster, f"model-{number}") for number in range(3)]
    for model in models:
        await until_ready(cluster, model)

    async def published() -> bool:
        found = [await cluster.get(f"/api/v1/namespaces/ome/configmaps/{node}") or {} for node in NODES]
        return all(len(item.get("data") or {}) == len(models) for item in found)

    await eventually(published, "the ConfigMaps are complete")
    await eventually(lambda: writes(cluster).count(("create", "events")) == len(models), "the events are recorded")
    assert await first.process.stop(10) == 0
    before = writes(cluster)

    again = await cluster.start_replica("status-a")
    await until_readiness(again, 200)
    await until_holder(cluster, "status-a")
    await cluster.renewals(3)

    assert writes(cluster) == before


async def test_what_changed_while_no_replica_ran_is_put_right_at_the_start(cluster: StatusCluster) -> None:
    first = await cluster.start_replica("status-a")
    model = await a_ready_model(cluster, "kept")
    gone = await a_ready_model(cluster, "gone")
    await until_ready(cluster, model)
    await until_ready(cluster, gone)
    await first.process.kill()

    await cluster.kube.request("DELETE", path_of(gone))
    label = f"models.ome/{model['metadata']['uid']}"
    unlabel = {"metadata": {"labels": {label: None}}}
    await cluster.kube.request("PATCH", "/api/v1/nodes/node-1", unlabel, content_type="application/merge-patch+json")
    orphan = {"metadata": {"name": "long-gone", "labels": {"models.ome/basemodel-status": "true"}}}
    await cluster.kube.request("POST", "/api/v1/namespaces/ome/configmaps", orphan)
    await cluster.start_replica("status-a")

    await until_ready(cluster, model)

    async def cleaned() -> bool:
        stale = f"models.ome/{gone['metadata']['uid']}"
        orphaned = await cluster.get("/api/v1/namespaces/ome/configmaps/long-gone")
        return stale not in await cluster.labels("node-1") and orphaned is None

    await eventually(cleaned, "labels of deleted models and ConfigMaps of lost nodes are gone")


async def test_a_restarted_nats_server_changes_nothing_and_is_followed_again(cluster: StatusCluster) -> None:
    beating = asyncio.create_task(_beat(cluster))
    replica = await cluster.start_replica("status-a", OME_NODE_UNREACHABLE_SECONDS="5")
    model = await a_ready_model(cluster, "steady")
    await until_ready(cluster, model)
    before = [entry for entry in writes(cluster) if entry[1] == "clusterbasemodels"]

    await cluster.nats_server.daemon.kill()
    await until_readiness(replica, 503, "nats")
    # Longer than a fetcher may be silent: what cannot be heard must not be taken for silence.
    await cluster.renewals(6)
    await cluster.nats_server.daemon.start()
    await until_readiness(replica, 200)

    assert [entry for entry in writes(cluster) if entry[1] == "clusterbasemodels"] == before
    await until_ready(cluster, await a_ready_model(cluster, "after"))
    beating.cancel()


async def test_a_restarted_api_server_is_followed_again(cluster: StatusCluster) -> None:
    replica = await cluster.start_replica("status-a")
    await until_ready(cluster, await a_ready_model(cluster, "before"))

    await cluster.plane.apiserver.kill()
    await until_readiness(replica, 503, "clusterbasemodels")
    await cluster.plane.apiserver.start()

    await until_readiness(replica, 200)
    await until_ready(cluster, await a_ready_model(cluster, "after"))


async def test_a_silent_fetcher_degrades_its_models_and_is_forgiven(cluster: StatusCluster) -> None:
    await cluster.start_replica("status-a", OME_NODE_UNREACHABLE_SECONDS="2")
    beating = asyncio.create_task(_beat(cluster))
    model = await a_ready_model(cluster, "held")
    await until_ready(cluster, model)

    async def degraded() -> str:
        found = await cluster.get(path_of(model)) or {}
        conditions = {item["type"]: item for item in (found.get("status") or {}).get("conditions", [])}
        return str(conditions["Degraded"]["reason"]) if conditions else ""

    async def forgiven() -> bool:
        return await degraded() == "AsExpected"

    await eventually(forgiven, "the nodes are heard")
    beating.cancel()

    async def reported() -> bool:
        return await degraded() == "NodeUnreachable"

    await eventually(reported, "the silence is reported")
    assert await nodes_ready(cluster, model) == NODES
    beating = asyncio.create_task(_beat(cluster))
    await eventually(forgiven, "the nodes are heard again")
    beating.cancel()


async def test_a_replica_is_not_ready_and_answers_unavailable_before_it_has_read_everything(
    cluster: StatusCluster,
) -> None:
    await cluster.nats_server.daemon.kill()
    replica = await cluster.start_replica("status-a")
    await until_readiness(replica, 503, "synced")

    async with stub(replica, await cluster.reader_token()) as service:
        request = GetModelRequest(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="any")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.GetModel(request, wait_for_ready=True)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    await cluster.nats_server.daemon.start()
    await until_readiness(replica, 200)


async def test_a_watch_ends_as_unavailable_when_the_replica_stops(cluster: StatusCluster) -> None:
    replica = await cluster.start_replica("status-a")
    await until_readiness(replica, 200)
    async with stub(replica, await cluster.reader_token()) as service:
        watch = service.WatchModels(WatchModelsRequest())
        await watch.read()
        stopping: Any = asyncio.create_task(replica.process.stop(10))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.read()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await stopping == 0


async def _beat(cluster: StatusCluster) -> None:
    while True:
        if cluster.client.is_connected:
            # The server may be ended meanwhile.
            with contextlib.suppress(ServiceError):
                for node in NODES:
                    await cluster.heartbeat(node)
        await asyncio.sleep(0.3)
