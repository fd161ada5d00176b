"""Tells the fleet that this node's fetcher lives, by a key that expires.

With it go how much room the node's model roots have, and how fast it has downloaded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from libs.artifact.names import HEARTBEAT
from libs.chassis.errors import ServiceError
from ome.fetch.v1.fetch_pb2 import DownloadRate, NodeHeartbeat, NodeLimits, RootCapacity
from services.fetcher.fleet.gateway import Gateway

_log = structlog.get_logger()


async def send_heartbeats(
    gateway: Gateway,
    node: str,
    version: str,
    pool: str,
    interval_seconds: float,
    capacities: Callable[[], Awaitable[Sequence[RootCapacity]]],
    rates: Callable[[], Sequence[DownloadRate]],
    limits: NodeLimits | None = None,
) -> None:
    """Send the node's heartbeat now and at every interval, until cancelled. A lost one is followed by the next."""
    heartbeat = NodeHeartbeat(node=node, version=version, pool=pool, limits=limits)
    while True:
        del heartbeat.roots[:]
        heartbeat.roots.extend(await capacities())
        del heartbeat.rates[:]
        heartbeat.rates.extend(rates())
        try:
            await gateway.tell(HEARTBEAT, heartbeat)
        except ServiceError as error:
            _log.warning("heartbeat_failed", reason=error.reason, message=error.message)
        await asyncio.sleep(interval_seconds)
