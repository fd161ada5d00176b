"""The buckets and streams that the fleet shares, created or adjusted at every start. docs/adr/0002-nats-layout.md."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext, api

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_client import MARKER_SECONDS

# A mirror is one consumer, and the server's default limit is 1,000 of them per stream.
_MAX_CONSUMERS = 100_000
_DUPLICATE_WINDOW_SECONDS = 120.0
# Tasks that resolvers hold or have given back for a while.
_MAX_ACK_PENDING = 100_000
# Long enough for one listing; a fetcher that works longer says so in between.
_ACK_WAIT_SECONDS = 30.0
_CHECK = "streams of NATS"
_RETRY_SECONDS = 1.0

_log = structlog.get_logger()


async def ensure_streams(
    js: JetStreamContext, replicas: int, heartbeat_ttl_seconds: float, bucket_bytes: int = 1 << 26
) -> None:
    """Create what is missing and adjust what differs. Idempotent; nothing that is stored is lost.

    bucket_bytes bounds the buckets with a key per model and node, a quarter of it each of the others: whoever writes
    without end fills one bucket and no disk.

    Raises Unavailable when the server does not answer or refuses.
    """
    buckets = {
        names.DESIRED_BUCKET: 0.0,
        names.OBSERVED_BUCKET: 0.0,
        names.PLANS_BUCKET: 0.0,
        names.RESOLVED_BUCKET: 0.0,
        names.NODES_BUCKET: heartbeat_ttl_seconds,
        names.FACTS_BUCKET: 0.0,
    }
    large = (names.DESIRED_BUCKET, names.OBSERVED_BUCKET)
    configs = [_bucket(name, ttl, replicas) for name, ttl in buckets.items()]
    configs += [_object_store(names.MANIFESTS_BUCKET, replicas), _work_queue(replicas)]
    for config in configs:
        is_large = (config.name or "").removeprefix("KV_") in large
        config.max_bytes = bucket_bytes if is_large else bucket_bytes // 4
    try:
        for config in configs:
            await _ensure(js, config)
    except (nats.errors.Error, nats.js.errors.Error) as error:
        raise Unavailable(
            Reason.UNAVAILABLE, f"NATS cannot hold the streams: {type(error).__name__}: {error}"
        ) from error


async def ensure_pool(js: JetStreamContext, pool: str) -> None:
    """Create the consumer that the fetchers of a pool share. Idempotent. Raises Unavailable."""
    name = f"pool-{pool}"
    config = api.ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=names.resolve_subject(pool),
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=_ACK_WAIT_SECONDS,
        # A tenant with so many models must not keep the tasks of others in the stream.
        max_ack_pending=_MAX_ACK_PENDING,
        max_waiting=_MAX_CONSUMERS,
    )
    try:
        await js.add_consumer(names.RESOLVE_STREAM, config)
    except (nats.errors.Error, nats.js.errors.Error) as error:
        raise Unavailable(Reason.UNAVAILABLE, f"NATS cannot hold the consumer {name}: {error}") from error


async def make_streams(ensure: Callable[[], Awaitable[None]], health: Health) -> None:
    """Ensure them for the first time; waits as long as the server cannot, as before JetStream has begun there."""
    health.declare(_CHECK, "not ensured yet")
    while True:
        try:
            await ensure()
            break
        except Unavailable as error:
            if health.failures.get(_CHECK) != error.message:
                _log.warning("streams_not_ensured", message=error.message)
            health.fail(_CHECK, error.message)
            await asyncio.sleep(_RETRY_SECONDS)
    health.ok(_CHECK)


async def keep_streams(ensure: Callable[[], Awaitable[None]], reconnected: asyncio.Event, seconds: float) -> None:
    """Ensure them again after each reconnect, and now and then: a server may come back with nothing."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await reconnected.wait()
        reconnected.clear()
        try:
            await ensure()
        except Unavailable as error:
            _log.warning("streams_not_ensured", message=error.message)


async def _ensure(js: JetStreamContext, config: api.StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except nats.js.errors.BadRequestError:
        # It exists with other settings, of which some cannot be changed afterwards: keep those.
        info = await js.stream_info(config.name or "")
        await js.update_stream(
            replace(
                info.config,
                num_replicas=config.num_replicas,
                max_bytes=config.max_bytes,
                max_age=config.max_age,
                subject_delete_marker_ttl=config.subject_delete_marker_ttl,
            )
        )


def _bucket(name: str, ttl_seconds: float, replicas: int) -> api.StreamConfig:
    """The stream of a key-value bucket, as ADR-8 of nats-architecture-and-design lays it down."""
    return api.StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        max_age=ttl_seconds or 0,
        discard=api.DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=MARKER_SECONDS,
        duplicate_window=min(ttl_seconds or _DUPLICATE_WINDOW_SECONDS, _DUPLICATE_WINDOW_SECONDS),
        max_consumers=_MAX_CONSUMERS,
        num_replicas=replicas,
    )


def _object_store(name: str, replicas: int) -> api.StreamConfig:
    """The stream of an object store, as ADR-20 of nats-architecture-and-design lays it down."""
    return api.StreamConfig(
        name=f"OBJ_{name}",
        subjects=[f"$O.{name}.C.>", f"$O.{name}.M.>"],
        discard=api.DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        allow_direct=True,
        max_consumers=_MAX_CONSUMERS,
        num_replicas=replicas,
    )


def _work_queue(replicas: int) -> api.StreamConfig:
    return api.StreamConfig(
        name=names.RESOLVE_STREAM,
        subjects=[names.resolve_subject("*")],
        retention=api.RetentionPolicy.WORK_QUEUE,
        duplicate_window=_DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
    )
