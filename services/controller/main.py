"""The controller: reads models and nodes, writes what each node must hold, hands out secrets."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from libs.chassis.health import Health, serve_http
from libs.chassis.kube import connect_kube
from libs.chassis.leadership import Leadership
from libs.chassis.nats_client import connect_nats
from libs.chassis.nats_mirror import Mirror
from libs.chassis.reflector import Reflector
from libs.chassis.tasks import run_until
from libs.chassis.traces import open_traces
from services.controller.askings import AskingsServer
from services.controller.credentials import CredentialsServer
from services.controller.destinations import DestinationRules
from services.controller.file_lists import FileListServer
from services.controller.forecasts import ForecastServer
from services.controller.kube import MODEL_COLLECTIONS, NODES
from services.controller.manifests import ManifestSweep
from services.controller.model_loop import ModelLoop
from services.controller.observations import project_node
from services.controller.planning import DEFAULT_POOL
from services.controller.settings import Settings
from services.controller.source_changes import SourceChangesServer
from services.controller.streams import ensure_pool, ensure_streams, keep_streams, make_streams
from services.controller.trail import Trail

LEASE = "ome-controller"
_SYNCED = "synced"
_WORKERS = 8
_LIFTERS = 2
# How often the streams are ensured although nothing has happened.
_STREAMS_SECONDS = 300.0


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run until stop is set."""
    async with AsyncExitStack() as stack:
        health = Health()
        health.declare(_SYNCED, "not everything has been read yet")
        await stack.enter_async_context(serve_http(health, settings.listen_host, settings.http_port))
        kube = await stack.enter_async_context(connect_kube(settings.service_account_dir, os.environ))
        traces = open_traces("controller", settings.pod_name, settings.traces_endpoint, settings.traces_ratio)
        loop = ModelLoop(settings, health, Trail(await stack.enter_async_context(traces), time.time, time.monotonic))
        known = loop.observations
        mirrors: list[tuple[Mirror[Any], Callable[[str], None]]] = [
            (known.desired, known.holder_changed),
            (known.observed, known.state_changed),
            (known.resolved, known.listing_changed),
            (known.plans, known.plan_changed),
            (known.heartbeats, known.heartbeat_changed),
        ]

        reconnected = asyncio.Event()

        def reread() -> None:
            reconnected.set()
            for mirror, _ in mirrors:
                mirror.reread()

        client = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                "ome-controller",
                user=settings.nats_user,
                password_file=settings.nats_password_file,
                ca_file=settings.nats_ca_file,
                inbox_prefix="_INBOX_controller",
                on_reconnect=reread,
            )
        )
        js = client.jetstream()

        async def ensure() -> None:
            await ensure_streams(js, settings.nats_replicas, settings.heartbeat_ttl_seconds, settings.nats_bucket_bytes)
            await ensure_pool(js, DEFAULT_POOL)

        await make_streams(ensure, health)
        models = [Reflector(path, path.rpartition("/")[2], health) for path in MODEL_COLLECTIONS]

        def hears_of_models() -> bool:
            return all(each.current for each in models)

        credentials = CredentialsServer(
            kube,
            js,
            known.model_for_credentials,
            known.model_for_listing,
            known.source_of,
            hears_of_models,
            DestinationRules(settings.hf_endpoint, settings.modelscope_endpoint, settings.insecure_hosts),
        )
        nodes = Reflector(NODES, "nodes", health, project=project_node)
        leadership = Leadership(kube, settings.namespace, LEASE, settings.pod_name, settings.lease_seconds)

        async def reconcile(uid: str) -> float | None:
            # Asked each time: a process that was stopped may find its term over before anything has told it so.
            return await loop.reconcile(kube, js, uid) if leadership.leading else None

        async def lift(pod: tuple[str, str]) -> float | None:
            return await known.gates.reconcile(kube, pod) if leadership.leading else None

        async def work() -> None:
            for mirror, _ in mirrors:
                await mirror.synced()
            for reflector in (*models, nodes):
                await reflector.synced()
            await known.volumes.synced()
            await known.pods.synced()
            await known.gates.synced()
            await known.services.synced()
            # Before that every request would be taken for one about a model that is none of the node's business.
            await credentials.serve(client)
            await AskingsServer(known.awaits_answer, hears_of_models).serve(client)
            await SourceChangesServer(known.source_changed).serve(client)
            await known.pods.serve(client, known.ref_of, known.serves, hears_of_models)
            health.ok(_SYNCED)
            known.look_at_everything()
            async with asyncio.TaskGroup() as group:
                group.create_task(loop.queue.run(reconcile, workers=_WORKERS))
                group.create_task(known.gates.queue.run(lift, workers=_LIFTERS))
                group.create_task(ForecastServer(client, known, credentials).run())
                group.create_task(FileListServer(client, js, known.names_artifact).run())

        async def sweep() -> None:
            for mirror, _ in mirrors:
                await mirror.synced()
            await ManifestSweep(js, known.referenced_digests).run(lambda: leadership.leading)

        await run_until(
            stop,
            *(mirror.run(client, on_change) for mirror, on_change in mirrors),
            *(reflector.run(kube, known.model_changed) for reflector in models),
            nodes.run(kube, known.node_changed),
            known.volumes.run(kube),
            known.pods.run(kube),
            known.gates.run(kube),
            known.services.run(kube),
            leadership.run(loop.lead),
            work(),
            sweep(),
            keep_streams(ensure, reconnected, _STREAMS_SECONDS),
            known.secrets.run(kube),
        )
