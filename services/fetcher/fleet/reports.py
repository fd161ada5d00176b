"""What this node has said about its models: the values of ome-observed below its own token.

Writes only what differs from what is stored, also across a restart. Must not decide what is said.
"""

import asyncio
import time

import structlog

from libs.artifact.names import OBSERVED, RECALL
from libs.chassis.errors import ServiceError
from ome.fetch.v1.fetch_pb2 import NodeModelState, StateReply, StateRequest
from services.fetcher.fleet.gateway import Gateway

# After a restart of NATS all nodes of a fleet ask.
_RECALL_SECONDS = 30.0
_log = structlog.get_logger()


class Reports:
    """The stored states, read all at once where the gateway can do that, and otherwise when they are needed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stored: dict[str, NodeModelState | None] = {}
        # Whether nothing is stored about models that are in none of these.
        self._whole = False
        self._unsure: set[str] = set()
        # Models that something was said or asked about since the reading of everything began.
        self._touched: set[str] = set()
        self._reading = asyncio.Lock()

    async def reread(self) -> None:
        """Read everything that is stored anew: somebody may have deleted or restored it."""
        async with self._reading:
            self._stored.clear()
            self._unsure.clear()
            self._touched.clear()
            self._whole = False
            found: dict[str, NodeModelState] = {}
            request = StateRequest()
            try:
                while True:
                    piece = await self._gateway.get(RECALL, request, StateReply, _RECALL_SECONDS)
                    found |= {state.model.uid: state for state in piece.states}
                    request.after = piece.sequence
                    if not piece.more:
                        break
            except ServiceError as error:
                # A gateway of an earlier version, or one that is away.
                _log.info("states_read_one_by_one", reason=error.reason, message=error.message)
                return
            self._stored |= {uid: state for uid, state in found.items() if uid not in self._touched}
            self._unsure |= self._touched - self._stored.keys()
            self._whole = True

    async def stored(self, model_uid: str) -> NodeModelState | None:
        """What was said last about a model, if anything. Raises Unavailable."""
        if model_uid in self._stored:
            return self._stored[model_uid]
        if self._whole and model_uid not in self._unsure:
            return None
        self._touched.add(model_uid)
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
        self.forget(model_uid)
        await self._gateway.get(OBSERVED, state, StateReply)
        self._stored[model_uid] = state
        return True

    def forget(self, model_uid: str) -> None:
        """Read what is stored about a model again when it is next needed, as one that is no longer assigned."""
        self._stored.pop(model_uid, None)
        self._touched.add(model_uid)
        self._unsure.add(model_uid)


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
