"""What this node has said about its models: the values of ome-observed below its own token.

Writes only what differs from what is stored, also across a restart. Must not decide what is said.
"""

import time

from libs.artifact.names import OBSERVED, RECALL
from ome.fetch.v1.fetch_pb2 import NodeModelState, StateReply, StateRequest
from services.fetcher.fleet.gateway import Gateway


class Reports:
    """The stored states, read when they are first needed and remembered until forget_all()."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stored: dict[str, NodeModelState | None] = {}

    async def stored(self, model_uid: str) -> NodeModelState | None:
        """What was said last about a model, if anything. Raises Unavailable."""
        if model_uid not in self._stored:
            reply = await self._gateway.get(RECALL, StateRequest(model_uid=model_uid), StateReply)
            self._stored[model_uid] = reply.state if reply.HasField("state") else None
        return self._stored[model_uid]

    async def write(self, model_uid: str, state: NodeModelState) -> bool:
        """Say state about a model, with the time since when its phase holds; whether it was news.

        Raises Unavailable, or Missing when the bucket does not exist.
        """
        # An assignment that cannot be read names no model, but its key does.
        state.model.uid = model_uid
        stored = await self.stored(model_uid)
        if stored is not None and stored.phase == state.phase:
            state.phase_since.CopyFrom(stored.phase_since)
        else:
            state.phase_since.FromMilliseconds(int(time.time() * 1000))
        if stored is not None and _comparable(stored) == _comparable(state):
            return False
        # Should the write fail half-way, the next one must not compare with a guess.
        self._stored.pop(model_uid, None)
        await self._gateway.get(OBSERVED, state, StateReply)
        self._stored[model_uid] = state
        return True

    def forget(self, model_uid: str) -> None:
        """Drop what is remembered about a model that is no longer assigned."""
        self._stored.pop(model_uid, None)

    def forget_all(self) -> None:
        """Read everything again when it is next needed: somebody may have deleted or restored it."""
        self._stored.clear()


def _comparable(state: NodeModelState) -> NodeModelState:
    """The parts of a state that are news when they change.

    Progress has a subject of its own, and a parser that is still away is no news for a model that is ready.
    """
    comparable = NodeModelState()
    comparable.CopyFrom(state)
    comparable.ClearField("bytes_done")
    comparable.ClearField("phase_since")
    if comparable.HasField("parse_problem"):
        comparable.parse_problem.ClearField("retry_at")
    return comparable
