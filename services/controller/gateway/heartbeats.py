"""Passes heartbeats on, those of a moment together: one by one each would wake all who hear of them.

Must not answer nor retry: the next heartbeat of a node comes soon.
"""

import asyncio

import nats.errors
import structlog
from nats.aio.client import Client

from libs.artifact import names

# A heartbeat is late by this much at the most, which is little of the time after which a node is missed.
_GATHER_SECONDS = 0.5
_log = structlog.get_logger()


class Heartbeats:
    """The last heartbeat of each node that has sent one in the last moment."""

    def __init__(self, ome: Client, gather_seconds: float = _GATHER_SECONDS) -> None:
        self._ome = ome
        self._gather_seconds = gather_seconds
        self._waiting: dict[str, bytes] = {}
        self._some = asyncio.Event()

    def put(self, node: str, value: bytes) -> None:
        """Have a heartbeat stored soon, instead of an earlier one of the node that still waits."""
        self._waiting[node] = value
        self._some.set()

    async def run(self) -> None:
        """Store what is put, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(self._gather_seconds)
            self._some.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                for node, value in waiting.items():
                    # Without waiting for the store's answer: there are many nodes.
                    await self._ome.publish(f"$KV.{names.NODES_BUCKET}.{names.node_token(node)}", value)
            except nats.errors.Error as error:
                _log.warning("heartbeats_lost", nodes=len(waiting), error=type(error).__name__)
