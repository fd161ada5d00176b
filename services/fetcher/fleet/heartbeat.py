"""Tells the fleet that this node's fetcher lives and how much room its model roots have, by a key that expires."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from nats.js import JetStreamContext

from libs.artifact.names import NODES_BUCKET, node_token
from libs.chassis.errors import ServiceError
from libs.chassis.nats_client import put_if
from ome.fetch.v1.fetch_pb2 import NodeHeartbeat, RootCapacity

_log = structlog.get_logger()


async def send_heartbeats(
    js: JetStreamContext,
    node: str,
    version: str,
    pool: str,
    interval_seconds: float,
    capacities: Callable[[], Awaitable[Sequence[RootCapacity]]],
) -> None:
    """Write the node's heartbeat now and at every interval, until cancelled. A failed write is followed by the next."""
    heartbeat = NodeHeartbeat(node=node, version=version, pool=pool)
    while True:
        del heartbeat.roots[:]
        heartbeat.roots.extend(await capacities())
        try:
            await put_if(js, NODES_BUCKET, node_token(node), heartbeat.SerializeToString(), None)
        except ServiceError as error:
            _log.warning("heartbeat_failed", reason=error.reason, message=error.message)
        await asyncio.sleep(interval_seconds)
