"""Puts the parts of the gateway together: what nodes must hold, the door, and the answers behind it."""

import asyncio
from collections.abc import Callable

from nats.aio.client import Client

from services.controller.gateway.answers import Answers
from services.controller.gateway.desired import DesiredByNode
from services.controller.gateway.door import Door
from services.controller.gateway.following import Followers
from services.controller.gateway.heartbeats import Heartbeats


class Gateway:
    """Between two connections: one in the fleet's account, one in the nodes'."""

    def __init__(self, ome: Client, nodes: Client) -> None:
        js = ome.jetstream()
        self._ome = ome
        self._desired = DesiredByNode(nodes, js)
        self._door = Door(nodes)
        self._heartbeats = Heartbeats(ome)
        self._answers = Answers(ome, js, self._desired, self._heartbeats)
        self._followers = Followers(ome)

    def fleet_reconnected(self) -> None:
        """The connection in the fleet's account was lost: there may be news."""
        self._desired.mirror.reread()

    def nodes_reconnected(self) -> None:
        """The connection in the nodes' account was lost: nodes may have missed what they were told."""
        self._desired.tell_again()

    async def run(self, opened: Callable[[], None]) -> None:
        """Work until cancelled; opened is called when nodes are answered."""
        # What status reports depends on no node.
        await self._followers.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._desired.mirror.run(self._ome, self._desired.changed))
            group.create_task(self._desired.run())
            group.create_task(self._door.run())
            group.create_task(self._heartbeats.run())
            # Before that a node would be told that it has nothing to hold.
            await self._desired.mirror.synced()
            await self._answers.open(self._door)
            await self._door.opened()
            opened()
