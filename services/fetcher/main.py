"""Puts the fetcher together: adapters, loops, and their order at the start and at the end."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

from libs.artifact.names import inbox_prefix, node_key
from libs.artifact.version import FACTS_VERSION, VERSION
from libs.chassis.health import Health, serve_http
from libs.chassis.nats_client import connect_nats
from libs.chassis.tasks import run_until
from libs.chassis.tls_files import tls_files
from libs.chassis.traces import open_traces
from libs.chassis.work import KeyedQueue
from libs.model.eviction import Watermarks
from ome.fetch.v1.fetch_pb2 import NodeLimits
from services.fetcher.fleet.assignments import Assignments
from services.fetcher.fleet.credentials import NodeCredentials
from services.fetcher.fleet.gateway import Gateway
from services.fetcher.fleet.heartbeat import send_heartbeats
from services.fetcher.fleet.manifests import Manifests
from services.fetcher.fleet.progress import publish_progress
from services.fetcher.fleet.reports import Reports
from services.fetcher.fleet.shared_facts import FactsExchange
from services.fetcher.fleet.use import UseClient
from services.fetcher.model.downloads import Downloads, Slots
from services.fetcher.model.evicting import Evictor
from services.fetcher.model.fetching import Fetching
from services.fetcher.model.keeping import Keeper, hold_seconds
from services.fetcher.model.model_loop import ModelLoop
from services.fetcher.model.parser_client import connect_parser
from services.fetcher.model.removal import Stay
from services.fetcher.model.retention import expire_reserved
from services.fetcher.model.roots import Roots
from services.fetcher.model.scrubbing import scrub_artifacts
from services.fetcher.model.shares import Pace
from services.fetcher.model.trail import Trail
from services.fetcher.model.triggers import Triggers
from services.fetcher.model.verifying import Verifier
from services.fetcher.settings import Settings
from services.fetcher.sources.catalogue import Sources
from services.fetcher.sources.trust import trust_also
from services.fetcher.transfer.sharing import Sharing

ASSIGNMENTS_CHECK = "assignments"
# A reconcile never waits for a transfer; it may wait for the parser, and must not keep a deletion waiting then.
_RECONCILE_WORKERS = 32


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the node until stop is set. What was downloaded by then stays for the next process."""
    if settings.source_ca_file:
        trust_also(settings.source_ca_file)
    sources = Sources(settings)
    health = Health()
    health.declare(ASSIGNMENTS_CHECK, "not read yet")
    async with serve_http(health, settings.listen_host, settings.http_port):
        await run_until(stop, _serve(settings, sources, health))


def _grace_seconds(settings: Settings, assignments: Assignments, model_uid: str) -> float:
    """How long Pods may hold what a model has let go of."""
    entry = assignments.entries.get(node_key(settings.node_name, model_uid))
    return hold_seconds(settings.in_use_grace_seconds, entry.value if entry else None)


async def _serve(settings: Settings, sources: Sources, health: Health) -> None:
    node = settings.node_name
    reconnected, renewed = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:

        def release_time() -> float | None:
            # Without a controller that tells who uses what, nothing would end the time for which copies are kept.
            released = settings.in_use_grace_seconds or assignments.keep_revisions
            return time.time() if released and assignments.tells_use else None

        roots = Roots(settings.host_root, settings.model_roots, settings.retry_max_seconds, release_time)
        await stack.enter_async_context(roots.opened(health))
        plaintext = settings.parser_plaintext
        tls = tls_files(settings.parser_tls_dir, "OME_PARSER_TLS_DIR", health, plaintext, with_authority=True)
        parser = await stack.enter_async_context(connect_parser(settings.parser_address, tls, roots.model_files))
        client = await stack.enter_async_context(
            connect_nats(
                settings.nats_url,
                health,
                f"ome-fetcher/{node}",
                token_file=settings.nats_token_file,
                ca_file=settings.nats_ca_file,
                inbox_prefix=inbox_prefix(node),
                on_reconnect=reconnected.set,
                on_renewal=renewed.set,
            )
        )
        gateway = Gateway(client, node)
        assignments = Assignments(client, gateway, node)
        manifests, credentials = Manifests(gateway), NodeCredentials(gateway)
        stack.enter_context(sources)
        slots = Slots(settings.parallel_downloads, settings.small_model_bytes)
        sharing = Sharing(settings.bandwidth_bytes_per_second, settings.connections_per_origin)
        limits = NodeLimits(
            bytes_per_second=settings.bandwidth_bytes_per_second, connections_per_host=settings.connections_per_origin
        )
        queue: KeyedQueue[str] = KeyedQueue("models", settings.retry_max_seconds)
        use = UseClient(gateway, assignments)

        async def collect() -> None:
            if model_loop.knows_what_is_wanted():
                await roots.collect(model_loop.wanted_digests())

        def stay(model_uid: str, digest: str) -> Stay:
            return model_loop.stay(model_uid, digest)

        keeper = Keeper(roots, use, partial(_grace_seconds, settings, assignments), queue.add, stay=stay)
        evictor = Evictor(
            roots,
            use,
            assignments.by_model,
            lambda model_uid: downloads.get(model_uid) is not None,
            collect,
            queue.add,
            Watermarks(settings.high_watermark_percent / 100, settings.low_watermark_percent / 100),
            keeper.give_up_revisions,
        )
        fetching = stack.enter_context(
            Fetching(slots.total, roots, manifests, credentials, sources, sharing, evictor.make_room, keeper.held_bytes)
        )
        pace = Pace(settings.priority_across_namespaces, settings.least_bytes_per_second, settings.slow_seconds)
        traces = open_traces("fetcher", node, settings.traces_endpoint, settings.traces_ratio)
        trail = Trail(await stack.enter_async_context(traces), node, time.time)
        downloads = Downloads(slots, trail.followed(fetching.fetch), queue.add, pace)
        reports = Reports(gateway)
        facts = FactsExchange(gateway, node, FACTS_VERSION)

        def damaged(digest: str) -> None:
            triggers.artifact_damaged(digest)

        verifier = Verifier(roots, damaged, queue.add)
        model_loop = ModelLoop(
            settings, assignments, roots, downloads, reports, parser, facts, keeper, evictor, verifier, trail
        )
        triggers = Triggers(queue, assignments, roots, reports, model_loop, keeper, settings.orphan_grace_seconds)

        looked = asyncio.Event()

        async def reconcile() -> None:
            # Nothing is removed before it is known what is wanted.
            await assignments.synced()
            await triggers.root_opened()
            looked.set()
            health.ok(ASSIGNMENTS_CHECK)
            await queue.run(model_loop.reconcile, workers=_RECONCILE_WORKERS)

        async def catch_up() -> None:
            while True:
                await reconnected.wait()
                reconnected.clear()
                assignments.reread()
                triggers.said_unsure()

        async def carry_on() -> None:
            while True:
                await renewed.wait()
                renewed.clear()
                # What was said is stored; what we were told in that moment may have been missed.
                assignments.reread()

        async def keep_used() -> None:
            # Before that, nobody has said for how long Pods may hold what, nor is it known what has a name here.
            await looked.wait()
            await keeper.run()

        async def keep_room() -> None:
            # Nothing is given up before it is known what is wanted.
            await looked.wait()
            await evictor.run()

        loops = [
            assignments.run(triggers.assignment_changed),
            reconcile(),
            catch_up(),
            carry_on(),
            triggers.revise(),
            triggers.room_freed(),
            triggers.collect_leftovers(),
            keep_used(),
            keep_room(),
            downloads.run(),
            roots.reopen(health, triggers.root_opened),
            expire_reserved(roots, settings.reserved_seconds),
            scrub_artifacts(
                roots, settings.scrub_interval_seconds, settings.scrub_bytes_per_second, triggers.artifact_damaged
            ),
            verifier.run(),
            publish_progress(gateway, downloads.progress),
            send_heartbeats(
                gateway,
                node,
                VERSION,
                settings.pool,
                settings.heartbeat_seconds,
                evictor.capacities,
                downloads.rates,
                limits,
            ),
        ]
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)
