"""Wires the status service together and runs it until a signal."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from functools import partial

from libs.chassis.grpc_server import serve_grpc
from libs.chassis.health import Health, serve_http
from libs.chassis.kube import KubeClient, connect_kube
from libs.chassis.leadership import Leadership
from libs.chassis.nats_client import connect_nats
from libs.chassis.tasks import run_until
from libs.chassis.tls_files import tls_files
from libs.chassis.traces import open_traces
from libs.chassis.work import KeyedQueue
from ome.status.v1.status_pb2_grpc import add_StatusServiceServicer_to_server
from services.status.access import Access, EveryAccess, ReviewedAccess
from services.status.callers import Anyone, Callers, TokenCallers
from services.status.catalog import Catalog
from services.status.cluster import Cluster
from services.status.explaining import Explainer
from services.status.facts import FIELD_MANAGER
from services.status.file_lists import FileLists
from services.status.forecasts import Forecaster
from services.status.kube import Writer
from services.status.metrics import LEADER, MODELS, NODES
from services.status.model_loop import ModelLoop
from services.status.node_loop import NodeLoop
from services.status.observations import Listener, Observations
from services.status.page.opening import opened_page
from services.status.page.sources import Sources
from services.status.service_loop import ServiceLoop
from services.status.servicer import SERVICE, Shares, StatusServicer
from services.status.settings import API_SERVER, Settings
from services.status.trail import Trail

LEASE = "ome-status"
_SYNCED = "synced"
_WORKERS = 8
# A model that leaves a node leaves it with others, as when a node loses a label.
_LEFT_SECONDS = 0.05
# A request names a model, and a token is the longest of its metadata.
_OPTIONS = (("grpc.max_receive_message_length", 64 << 10), ("grpc.max_concurrent_streams", 100))


def door(settings: Settings, kube: KubeClient) -> tuple[Callers, Access]:
    """Who may call StatusService, and what each may see."""
    if settings.callers == "anyone":
        return Anyone(), EveryAccess()
    callers = TokenCallers(kube, "" if settings.audience == API_SERVER else settings.audience)
    return callers, ReviewedAccess(kube, settings.permitted_seconds)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve and write until stop is set."""
    health = Health()
    health.declare(_SYNCED, "not everything has been read yet")
    synced = partial(health.holds, _SYNCED)
    catalog = Catalog()
    models: KeyedQueue[str] = KeyedQueue("models")
    nodes: KeyedQueue[str] = KeyedQueue("nodes")
    services: KeyedQueue[str] = KeyedQueue("inferenceservices")
    observations = Observations(settings.node_unreachable_seconds)

    def model_placed(uid: str) -> None:
        for node in observations.states_of_model(uid):
            nodes.add_later(node, node_loop.patience_seconds(node))

    def node_placed(node: str) -> None:
        for uid in observations.models_of_node(node):
            models.add(uid)

    def copy_left(node: str, uid: str) -> None:
        model = cluster.models.get(uid)
        # A scheduler goes by its label still; that of a model which is being deleted has gone before.
        staying = model and "deletionTimestamp" not in model["metadata"]
        nodes.add_later(node, _LEFT_SECONDS if staying else node_loop.patience_seconds(node))

    # The loops are made below; nothing changes before they run.
    listener = Listener(
        lambda uid: models.add_later(uid, model_loop.patience_seconds(uid)),
        model_placed,
        lambda node: nodes.add_later(node, node_loop.patience_seconds(node)),
        node_placed,
        lambda node, uid: catalog.touch(uid),
        services.add,
        copy_left,
    )

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve_http(health, settings.listen_host, settings.http_port))
        plaintext = settings.grpc_plaintext
        tls = tls_files(settings.grpc_tls_dir, "OME_GRPC_TLS_DIR", health, plaintext, with_authority=False)
        kube = await stack.enter_async_context(connect_kube(settings.service_account_dir, os.environ))
        callers, access = door(settings, kube)
        shares = Shares(settings.calls_per_second, settings.watches_per_caller)
        cluster = Cluster(health, settings.namespace, listener)
        explainer = Explainer(cluster, observations)
        forecaster = Forecaster(cluster, observations, access)
        servicer = StatusServicer(catalog, observations, explainer, forecaster, synced, stop, callers, access, shares)
        await stack.enter_async_context(
            serve_grpc(
                settings.listen_host,
                settings.grpc_port,
                {SERVICE: lambda server: add_StatusServiceServicer_to_server(servicer, server)},
                health,
                tls,
                options=_OPTIONS,
            )
        )
        lists = FileLists()
        sources = Sources(catalog, observations, explainer, forecaster, lists, cluster.models.get, synced, health)
        await stack.enter_async_context(opened_page(settings, sources, callers, access, kube, stop, tls, health))
        client = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                f"status {settings.pod_name}",
                user=settings.nats_user,
                password_file=settings.nats_password_file,
                inbox_prefix="_INBOX_status",
                ca_file=settings.nats_ca_file,
                on_reconnect=observations.reread,
            )
        )
        forecaster.connected(client)
        lists.connected(client)
        if settings.webhooks_enabled:
            # Whoever wants none need not pay for its libraries.
            from services.status.webhooks import opened_webhooks

            await stack.enter_async_context(opened_webhooks(settings, client, tls, health))
        writer = Writer(kube, FIELD_MANAGER)

        def look_at_everything() -> None:
            models.add_all((*cluster.models, *observations.model_uids()))
            nodes.add_all((*cluster.node_names(), *cluster.config_map_names()))
            services.add_all(cluster.service_uids())

        def led(leading: bool) -> None:
            LEADER.set(leading)
            look_at_everything()

        leadership = Leadership(kube, settings.namespace, LEASE, settings.pod_name, settings.lease_seconds)

        def leading() -> bool:
            return leadership.leading

        traces = open_traces("status", settings.pod_name, settings.traces_endpoint, settings.traces_ratio)
        trail = Trail(await stack.enter_async_context(traces), time.time)
        model_loop = ModelLoop(writer, cluster, observations, catalog, leading, settings.pod_name, trail)
        service_loop = ServiceLoop(writer, cluster, leading)
        node_loop = NodeLoop(writer, cluster, observations, leading, settings.namespace)

        async def report() -> None:
            # A copy that is not complete would take models for unreported and labels for stale.
            await cluster.synced()
            await observations.synced()
            for uid in list(cluster.models):
                model_loop.show(uid)
            health.ok(_SYNCED)
            async with asyncio.TaskGroup() as group:
                group.create_task(models.run(model_loop.reconcile, _WORKERS))
                group.create_task(nodes.run(node_loop.reconcile, _WORKERS))
                group.create_task(services.run(service_loop.reconcile))
                group.create_task(leadership.run(led))

        async def resync() -> None:
            while True:
                await asyncio.sleep(settings.resync_seconds)
                look_at_everything()

        MODELS.set_function(lambda: len(cluster.models))
        NODES.labels("reporting").set_function(lambda: observations.reporting)
        NODES.labels("silent").set_function(lambda: observations.silent)
        await run_until(stop, cluster.run(kube), observations.run(client, listener), report(), resync())
