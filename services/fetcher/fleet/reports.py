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

# After this time it is tried again to read everything at once, which a gateway of an earlier version refuses.
_SINGLY_SECONDS = 60.0
# After a restart of NATS all nodes of a fleet read at once, in turn.
_READ_SECONDS = 30.0
# Of so many looks at what is stored one is at everything: what is removed from a stream itself leaves no trace.
_LOOKS = 12
_log = structlog.get_logger()


class Reports:
    """The stored states, read when the first of them is needed and remembered until forget_all().

    All are read at once: of a model that is new, and of hundreds after a restart, nothing has to be asked then. NATS
    lists no more than a thousand, so that a node with more asks about each. Only this node writes them; but a gateway
    that was stopped may write late, and people may delete.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stored: dict[str, NodeModelState | None] = {}
        # Whether everything that was stored has been read, so that what is not here is not there either.
        self._complete = False
        # But for these: what is stored about them has to be asked for.
        self._uncertain: set[str] = set()
        # Up to which sequence of the stream everything was read, and whether to look behind that.
        self._sequence = 0
        self._behind = False
        self._looks = 0
        # Of which something was written since the last reading began.
        self._written: set[str] = set()
        # Everything was doubted: what is being read is read again.
        self._doubted = asyncio.Event()
        self._reading = asyncio.Lock()
        self._singly_until = 0.0

    async def stored(self, model_uid: str) -> NodeModelState | None:
        """What was said last about a model, if anything. Raises Unavailable."""
        if self._behind:
            await self._read_newer()
        if model_uid not in self._stored and not self._complete:
            await self._read_everything()
        if model_uid not in self._stored:
            if self._complete and model_uid not in self._uncertain:
                return None
            reply = await self._gateway.get(RECALL, StateRequest(model_uid=model_uid), StateReply)
            self._stored[model_uid] = reply.state if reply.HasField("state") else None
            self._uncertain.discard(model_uid)
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
        self.forget(model_uid)
        try:
            await self._gateway.get(OBSERVED, state, StateReply)
        except ServiceError:
            # It may have been stored all the same: the next one must not compare with a guess.
            self.forget(model_uid)
            raise
        self._stored[model_uid] = state
        self._uncertain.discard(model_uid)
        self._written.add(model_uid)
        return True

    def forget(self, model_uid: str) -> None:
        """Drop what is remembered about one model, as when it is no longer assigned."""
        self._stored.pop(model_uid, None)
        self._uncertain.add(model_uid)

    def forget_all(self) -> None:
        """Read everything again when it is next needed: somebody may have deleted or restored it."""
        self._stored.clear()
        self._uncertain.clear()
        self._complete, self._behind, self._singly_until = False, False, 0.0
        self._doubted.set()

    def look_again(self) -> None:
        """Read what was stored since everything was read, when something is next needed; now and then, everything."""
        self._looks += 1
        if self._complete and self._looks % _LOOKS:
            self._behind = True
        else:
            self.forget_all()

    async def _read_everything(self) -> None:
        """Read what is stored about all models, unless that has failed a moment ago; it is never needed."""
        async with self._reading:
            while not self._complete and time.monotonic() >= self._singly_until:
                self._doubted.clear()
                try:
                    said = await self._said_undoubted()
                except ServiceError as error:
                    _log.info("reports_read_singly", reason=error.reason, message=error.message)
                    self._singly_until = time.monotonic() + _SINGLY_SECONDS
                    return
                if said is not None:
                    for model_uid in said.keys() - self._stored.keys() - self._uncertain:
                        self._stored[model_uid] = said[model_uid]
                    self._complete = True

    async def _read_newer(self) -> None:
        """Read what is stored about the models of which something was stored since everything was read.

        Begins at the last thing that was read: where that is not found, what is stored is not what it was.
        """
        async with self._reading:
            if not self._behind:
                return
            self._doubted.clear()
            self._written.clear()
            try:
                said = await self._said_undoubted(max(0, self._sequence - 1))
            except ServiceError as error:
                _log.info("reports_not_read", reason=error.reason, message=error.message)
                said = {}
            if not said:
                self.forget_all()
                return
            for model_uid in said.keys() - self._uncertain - self._written:
                self._stored[model_uid] = said[model_uid]
            self._behind = False

    async def _said_undoubted(self, after: int = 0) -> dict[str, NodeModelState | None] | None:
        """What is stored about all models, or was behind a sequence.

        None as soon as that is doubted, for the question may be lost by then.
        """
        reading, doubting = asyncio.create_task(self._said(after)), asyncio.create_task(self._doubted.wait())
        try:
            await asyncio.wait((reading, doubting), return_when=asyncio.FIRST_COMPLETED)
            return None if self._doubted.is_set() else reading.result()
        finally:
            reading.cancel()
            doubting.cancel()
            # Also of a reading that has failed nobody asks any more.
            await asyncio.gather(reading, doubting, return_exceptions=True)

    async def _said(self, after: int) -> dict[str, NodeModelState | None]:
        said: dict[str, NodeModelState | None] = {}
        part = StateReply(more=True, sequence=after)
        while part.more:
            request = StateRequest(everything=True, after_sequence=part.sequence)
            part = await self._gateway.get(RECALL, request, StateReply, _READ_SECONDS)
            said.update((state.model.uid, state) for state in part.states)
            said.update((model_uid, None) for model_uid in part.gone_model_uids)
        self._sequence = part.sequence
        return said


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
