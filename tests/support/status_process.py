"""The status service as a process on a real API server and a real nats-server, under the identity of its chart.

The test plays the other services by writing what they would: plans, observed states, heartbeats.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from nats.aio.client import Client

from libs.artifact import names
from libs.artifact.specification import planning_digest
from libs.chassis.errors import Missing, ServiceError
from libs.chassis.kube import KubeClient
from libs.chassis.nats_client import delete_key, put_if
from libs.model.kinds import GROUP_VERSION, KINDS, kind_named, model_ref
from ome.fetch.v1.fetch_pb2 import ModelPlan, NodeHeartbeat, NodeModelState, RootCapacity
from ome.model.v1.model_pb2 import Artifact, ModelRef, NodePhase
from ome.status.v1.status_pb2_grpc import StatusServiceStub
from services.controller.gateway.following import Followers
from services.controller.streams import ensure_streams
from tests.support.mounted_secret import usual_sides
from tests.support.nats_server import connect_trusting
from tests.support.programs import ROOT, programs, render
from tools.localcluster.addresses import claimed_plan, free_port
from tools.localcluster.controlplane import ControlPlane, write_files
from tools.localcluster.kube import apply, connected_kube
from tools.localcluster.natsserver import NatsServer, new_identities
from tools.localcluster.processes import Process, tail
from tools.localcluster.status_client import AUDIENCE, READER, authorization, reader_manifest
from tools.localcluster.status_client import NAMESPACE as READER_NAMESPACE

Object = dict[str, Any]

NAMESPACE = "ome"
GROUP = f"/apis/{GROUP_VERSION}"
# Nothing in a test should wait for a Lease, and nothing should depend on the resync.
_PACE = {
    "OME_LEASE_SECONDS": "3",
    # Nodes beat once: those of the tests about silence say how soon it counts.
    "OME_NODE_UNREACHABLE_SECONDS": "3600",
    "OME_RESYNC_SECONDS": "3600",
    # Tests ask without a pause.
    "OME_CALLS_PER_SECOND": "1000",
}

_NAMESPACED = {"Role": "roles", "RoleBinding": "rolebindings", "ServiceAccount": "serviceaccounts"}
_CLUSTER_WIDE = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}


async def eventually(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """The first true value of condition, which may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Replica:
    """One process of the service."""

    process: Process
    log: Path
    grpc_address: str
    http_address: str
    page_address: str


@dataclass
class StatusCluster:
    """Everything that the service stands on, and hands to write what the other services would."""

    kube: KubeClient
    plane: ControlPlane
    nats_server: NatsServer
    client: Client
    folder: Path
    replicas: list[Replica] = field(default_factory=list)

    async def start_replica(self, name: str, **environ: str) -> Replica:
        """Start a replica and wait until it listens."""
        account = self.folder / f"{name}-account"
        account.mkdir(exist_ok=True)
        (account / "token").write_text(await self.token_of("ome-status", NAMESPACE))
        (account / "ca.crt").write_text((self.folder / "keys" / "ca.crt").read_text())
        grpc_port, http_port, page_port = free_port(), free_port(), free_port()
        settings = {
            "OME_NAMESPACE": NAMESPACE,
            "OME_POD_NAME": name,
            "OME_NATS_URL": self.nats_server.url,
            "OME_NATS_CA_FILE": str(self.folder / "keys" / "ca.crt"),
            "OME_NATS_PASSWORD_FILE": str(self.folder / "status-password"),
            "OME_SERVICE_ACCOUNT_DIR": str(account),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.plane.port),
            "OME_GRPC_PORT": str(grpc_port),
            "OME_GRPC_TLS_DIR": str(usual_sides().server.folder),
            "OME_HTTP_PORT": str(http_port),
            "OME_PAGE_PORT": str(page_port),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
            **_PACE,
            **environ,
        }
        log = self.folder / "logs" / f"{name}.log"
        process = Process([sys.executable, "-m", "services.status"], settings, ROOT, log)
        page = f"https://127.0.0.1:{page_port}"
        replica = Replica(process, log, f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}", page)
        self.replicas.append(replica)
        return replica

    async def token_of(self, account: str, namespace: str, *audiences: str) -> str:
        """A token of a ServiceAccount."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "audiences": list(audiences)},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str((await self.kube.request("POST", path, request))["status"]["token"])

    async def reader_token(self) -> str:
        """A token for StatusService, of an account that may read all models and nodes."""
        for item in json.loads(reader_manifest())["items"]:
            await _apply(self.kube, item)
        return await self.token_of(READER, READER_NAMESPACE, AUDIENCE)

    async def node(self, name: str, **labels: str) -> Object:
        """A Node object with a live fetcher."""
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        node = await self.kube.request("POST", "/api/v1/nodes", body)
        await self.heartbeat(name)
        return node

    async def heartbeat(self, name: str, *roots: RootCapacity) -> None:
        """Say once that a node's fetcher lives."""
        await self.put(names.NODES_BUCKET, names.node_token(name), NodeHeartbeat(node=name, version="1", roots=roots))

    async def model(self, name: str, kind: str = "clusterbasemodels", namespace: str = "", **spec: Any) -> Object:
        """Apply a model, by default one that is used where it lies."""
        spec = {"storage": {"storageUri": f"local:///models/{name}"}, **spec}
        (named,) = (each.name for each in KINDS if each.plural == kind)
        body = {"apiVersion": GROUP_VERSION, "kind": named, "metadata": {"name": name}, "spec": spec}
        return await self.kube.request("POST", collection(kind, namespace), body)

    async def plan(self, model: Object, nodes: list[str], artifact: Artifact | None = None, **more: Any) -> None:
        """Say what the controller decided."""
        digest = planning_digest(model["spec"], model["metadata"].get("annotations") or {})
        plan = ModelPlan(
            model=model_ref(model),
            generation=model["metadata"]["generation"],
            spec_digest=digest,
            desired_nodes=sorted(nodes),
            artifact=artifact or Artifact(),
            **more,
        )
        await self.put(names.PLANS_BUCKET, model["metadata"]["uid"], plan)

    async def observed(self, model: Object, node: str, phase: NodePhase, **more: Any) -> None:
        """Say how a model stands on a node."""
        ref: ModelRef = model_ref(model)
        state = NodeModelState(model=ref, phase=phase, path=f"/models/{ref.name}", **more)
        await self.put(names.OBSERVED_BUCKET, names.node_key(node, ref.uid), state)

    async def unobserve(self, model: Object, node: str) -> None:
        """Say that a node has nothing more to say about a model."""
        key = names.node_key(node, model["metadata"]["uid"])
        await delete_key(self.client.jetstream(), names.OBSERVED_BUCKET, key)

    async def put(self, bucket: str, key: str, value: Message) -> None:
        """Write one value."""
        await put_if(self.client.jetstream(), bucket, key, value.SerializeToString(), None)

    async def get(self, path: str) -> Object | None:
        """An object, or None when there is none."""
        try:
            return await self.kube.get(path)
        except Missing as error:
            if error.reason != "NotFound":
                raise
            return None

    async def labels(self, node: str) -> dict[str, str]:
        """The labels of a node."""
        found: dict[str, str] = (await self.kube.get(f"/api/v1/nodes/{node}"))["metadata"].get("labels") or {}
        return found

    async def events(self, model: Object) -> list[Object]:
        """The events that kubectl describe would show for a model."""
        uid = model["metadata"]["uid"]
        found = await self.kube.get("/api/v1/events", {"fieldSelector": f"involvedObject.uid={uid}"})
        return list(found["items"])

    async def renewals(self, number: int) -> None:
        """Wait until the leader has renewed its Lease so many times, as a clock for what must not happen meanwhile."""
        seen: set[str] = set()

        async def renewed() -> bool:
            lease = await self.get("/apis/coordination.k8s.io/v1/namespaces/ome/leases/ome-status")
            seen.add(lease["spec"]["renewTime"] if lease else "")
            return len(seen) > number

        await eventually(renewed, f"{number} renewals of the Lease")

    def requests(self) -> list[Object]:
        """Every request of the service, from the API server's audit log."""
        lines = [json.loads(line) for line in (self.folder / "logs" / "audit.log").read_text().splitlines()]
        return [line for line in lines if line["user"]["username"] == "system:serviceaccount:ome:ome-status"]


def collection(kind: str, namespace: str = "") -> str:
    """Path of a collection of models."""
    return f"{GROUP}/namespaces/{namespace}/{kind}" if namespace else f"{GROUP}/{kind}"


def path_of(model: Object) -> str:
    """Path of a model."""
    metadata = model["metadata"]
    return f"{collection(kind_named(model['kind']).plural, metadata.get('namespace', ''))}/{metadata['name']}"


@asynccontextmanager
async def stub(replica: Replica, token: str = "") -> AsyncIterator[StatusServiceStub]:
    """A client of a replica, which shows a token where one is given."""
    credentials = usual_sides().channel_credentials()
    shown = [_BearerOfAnswers(token), _BearerOfStreams(token)] if token else []
    async with grpc.aio.secure_channel(replica.grpc_address, credentials, interceptors=shown) as channel:
        yield StatusServiceStub(channel)


class _BearerOfAnswers(grpc.aio.UnaryUnaryClientInterceptor):
    """Shows a token with every call that has one answer."""

    def __init__(self, token: str) -> None:
        self._metadata = grpc.aio.Metadata(authorization(token))

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=self._metadata), request)


class _BearerOfStreams(grpc.aio.UnaryStreamClientInterceptor):
    """Shows a token with every call that has a stream of answers."""

    def __init__(self, token: str) -> None:
        self._metadata = grpc.aio.Metadata(authorization(token))

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=self._metadata), request)


@asynccontextmanager
async def running_status_cluster(folder: Path) -> AsyncIterator[StatusCluster]:
    """etcd, kube-apiserver, nats-server, CRDs and the permissions of the chart; no replica yet."""
    (folder / "logs").mkdir()
    async with AsyncExitStack() as stack:
        plan = stack.enter_context(claimed_plan())
        files = write_files(folder, plan)
        plane = ControlPlane(programs(), files, plan, node_grace_seconds=40)
        identities = new_identities()
        server = NatsServer(programs(), folder, identities, files.nats)
        for daemon in (plane.etcd, plane.apiserver, server.daemon):
            stack.push_async_callback(daemon.stop)
            await daemon.start()
        (folder / "status-password").write_text(identities.passwords["status"])
        kube = await stack.enter_async_context(connected_kube(plane.url, files.authority, files.admin))
        password = identities.passwords["controller"]
        client = await connect_trusting(files.authority, server.url, user="controller", password=password)
        stack.push_async_callback(client.close)
        await ensure_streams(client.jetstream(), 1, 3600.0)
        gateway = await connect_trusting(
            files.authority,
            server.url,
            user="gateway",
            password=identities.passwords["gateway"],
            inbox_prefix="_INBOX_gateway",
            max_reconnect_attempts=-1,
        )
        stack.push_async_callback(gateway.close)
        await Followers(gateway).open()
        await _install(kube)
        cluster = StatusCluster(kube, plane, server, client, folder)
        try:
            yield cluster
        finally:
            for replica in cluster.replicas:
                await replica.process.stop(5.0)
                # Shown by pytest when the test failed.
                print(f"--- {replica.log.name}\n{tail(replica.log)}")


async def _install(kube: KubeClient) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await apply(kube, f"/api/v1/namespaces/{NAMESPACE}", namespace)
    for item in (*render("crds"), *render("status")):
        if item["kind"] in (*_NAMESPACED, *_CLUSTER_WIDE):
            await _apply(kube, item)
    await eventually(lambda: _served(kube), "the three kinds are served")


async def _apply(kube: KubeClient, item: Object) -> None:
    version, name = item["apiVersion"], item["metadata"]["name"]
    root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    if item["kind"] in _CLUSTER_WIDE:
        await apply(kube, f"{root}/{_CLUSTER_WIDE[item['kind']]}/{name}", item)
    else:
        namespace = item["metadata"]["namespace"]
        await apply(kube, f"{root}/namespaces/{namespace}/{_NAMESPACED[item['kind']]}/{name}", item)


async def _served(kube: KubeClient) -> bool:
    try:
        for kind in KINDS:
            await kube.get(f"{GROUP}/{kind.plural}")
    except ServiceError:
        return False
    return True
