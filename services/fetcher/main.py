"""Puts the fetcher together: adapters, loops, and their order at the start and at the end."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from libs.artifact.manifest import Manifest
from libs.artifact.names import DESIRED_BUCKET, node_token, split_node_key
from libs.chassis.health import Health, serve_http
from libs.chassis.nats_client import Mirror, connect_nats
from libs.chassis.tasks import run_until
from libs.chassis.work import KeyedQueue
from ome.fetch.v1.fetch_pb2 import ResolveTask
from services.fetcher.credentials import CredentialsClient
from services.fetcher.disk import Disk
from services.fetcher.downloads import Downloads
from services.fetcher.heartbeat import send_heartbeats
from services.fetcher.manifests import Manifests
from services.fetcher.model_files import read_model_files
from services.fetcher.observations import Observations
from services.fetcher.parsing import connect_parser
from services.fetcher.progress import publish_progress
from services.fetcher.reconciling import Reconciler, decode_assignment
from services.fetcher.resolving import ResolveWorker
from services.fetcher.scrubbing import scrub_artifacts
from services.fetcher.settings import Settings
from services.fetcher.sources import Sources
from services.fetcher.transfers import Transfers

VERSION = "0.1.0"
ASSIGNMENTS_CHECK = "assignments"
# A reconcile never waits for a transfer; it may wait for the parser, and must not keep a deletion waiting then.
_RECONCILE_WORKERS = 32
_RESOLVE_WORKERS = 2
# Somebody may have deleted what we said, or restored an older state of it.
_REVISE_SECONDS = 300.0
_log = structlog.get_logger()


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the node until stop is set. What was downloaded by then stays for the next process."""
    health = Health()
    health.declare(ASSIGNMENTS_CHECK, "not read yet")
    async with serve_http(health, settings.listen_host, settings.http_port):
        await run_until(stop, _serve(settings, health))


async def _serve(settings: Settings, health: Health) -> None:
    token = node_token(settings.node_name)
    assignments = Mirror(DESIRED_BUCKET, decode_assignment, filter=f"{token}.>")
    reconnected = asyncio.Event()
    async with AsyncExitStack() as stack:
        disk = Disk(settings.host_root, settings.model_roots)
        await stack.enter_async_context(disk.opened(health))
        parser = await stack.enter_async_context(
            connect_parser(settings.parser_address, lambda path, schema: disk.run(read_model_files, path, schema))
        )
        client = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                f"ome-fetcher/{settings.node_name}",
                token_file=settings.nats_token_file,
                ca_file=settings.nats_ca_file,
                inbox_prefix=f"_INBOX_{token}",
                on_reconnect=reconnected.set,
            )
        )
        js = client.jetstream()
        manifests = Manifests(js)
        credentials = CredentialsClient(client, settings.node_name)
        sources = stack.enter_context(Sources(settings.hf_endpoint))
        transfers = Transfers(settings.parallel_downloads, disk, manifests, credentials, sources)
        stack.callback(transfers.close)
        queue: KeyedQueue[str] = KeyedQueue("models", settings.retry_max_seconds)
        downloads = Downloads(settings.parallel_downloads, transfers.fetch, queue.add)
        observations = Observations(js, settings.node_name)
        reconciler = Reconciler(settings, assignments, disk, downloads, observations, parser)

        async def list_source(task: ResolveTask) -> Manifest:
            secret = await credentials.get(task.model.uid) if task.source.has_secret else {}
            return await sources.list(task.source.uri, dict(task.source.parameters), secret)

        def look_at_all() -> None:
            for key in assignments.entries:
                queue.add(split_node_key(key)[1])

        async def look_at_disk() -> None:
            """Collect what nobody wants, and have every model that has a name looked at: it may be an orphan."""
            await disk.collect(reconciler.wanted_digests())
            for model_uid in await disk.published_models():
                queue.add(model_uid)
            look_at_all()

        async def reconcile_models() -> None:
            # Nothing is collected before it is known what is wanted.
            await assignments.synced()
            await look_at_disk()
            health.ok(ASSIGNMENTS_CHECK)
            await queue.run(reconciler.reconcile, workers=_RECONCILE_WORKERS)

        def note_damage(digest: str) -> None:
            for model_uid in reconciler.models_of(digest):
                queue.add(model_uid)

        async def revise() -> None:
            while True:
                await asyncio.sleep(_REVISE_SECONDS)
                observations.forget_all()
                look_at_all()

        workers = [ResolveWorker(js, settings.pool, list_source, manifests) for _ in range(_RESOLVE_WORKERS)]

        async def recover() -> None:
            while True:
                await reconnected.wait()
                reconnected.clear()
                assignments.reread()
                for worker in workers:
                    worker.pull_again()
                observations.forget_all()
                look_at_all()

        async with asyncio.TaskGroup() as group:
            group.create_task(assignments.run(client, lambda key: queue.add(split_node_key(key)[1])))
            group.create_task(downloads.run())
            group.create_task(reconcile_models())
            group.create_task(revise())
            group.create_task(recover())
            group.create_task(disk.reopen(health, look_at_disk))
            group.create_task(
                scrub_artifacts(disk, settings.scrub_interval_seconds, settings.scrub_bytes_per_second, note_damage)
            )
            group.create_task(publish_progress(client, settings.node_name, downloads))
            group.create_task(
                send_heartbeats(
                    js, settings.node_name, VERSION, settings.pool, settings.heartbeat_seconds, disk.capacities
                )
            )
            for worker in workers:
                group.create_task(worker.run())
