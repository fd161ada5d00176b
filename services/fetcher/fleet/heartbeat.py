"""Tells the fleet that this node's fetcher lives, by a key that expires.

With it go how much room the node's model roots have, and how fast it has downloaded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from libs.artifact.names import HEARTBEAT
from libs.chassis.errors import ServiceError
from ome.fetch.v1.fetch_pb2 import DownloadRate, NodeHeartbeat, NodeLimits, RootCapacity
from services.fetcher.fleet.gateway import Gateway

# Nodes whose clocks agree say it together: what takes the heartbeats of a large fleet wakes once for many of them.
_TOGETHER_SECONDS = 1.0
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
        await asyncio.sleep(seconds_to_next(interval_seconds, time.time()))


def seconds_to_next(interval_seconds: float, wall_seconds: float) -> float:
    """The interval, moved to the nearest whole second of the wall clock; a shorter one stays as it is.

    Times of start differ, so the nodes of a fleet still are spread over the seconds of an interval.
    """
    if interval_seconds < 2 * _TOGETHER_SECONDS:
        return interval_seconds
    next_seconds = round((wall_seconds + interval_seconds) / _TOGETHER_SECONDS) * _TOGETHER_SECONDS
    return next_seconds - wall_seconds
