"""What this node must hold, as the gateway tells it: at once when it changes, and wholly at the start and now and then.

A message may be lost, come twice, or come from a gateway that is a moment behind. Revisions say what is newer; of two
epochs nothing can be compared, so a new one begins with everything being read again.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.names import DESIRED, SNAPSHOT, node_key, node_subject, split_node_key
from libs.chassis.errors import ServiceError
from libs.chassis.nats_mirror import Entry
from libs.model.assignments import check_of, check_of_all
from ome.fetch.v1.fetch_pb2 import Assignment, DesiredChange, DesiredRequest, DesiredSnapshot
from services.fetcher.fleet.gateway import Gateway

_REREAD_SECONDS = 300.0
_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 5.0
_log = structlog.get_logger()


class Assignments:
    """The node's assignments by key, kept current; what has gone is remembered for a while, so as not to return."""

    def __init__(self, client: Client, gateway: Gateway, node: str) -> None:
        self.entries: dict[str, Entry[Assignment]] = {}
        self._client = client
        self._gateway = gateway
        self._node = node
        self._epoch = ""
        # Whether the gateway answers questions about Pods, as those of earlier versions do not.
        self.tells_use = False
        # The last revision of what has gone, since the last snapshot and before it.
        self._gone: dict[str, int] = {}
        self._gone_before: dict[str, int] = {}
        self._synced = asyncio.Event()
        self._wanted = asyncio.Event()

    async def synced(self) -> None:
        """Wait until everything has been read once."""
        await self._synced.wait()

    def by_model(self) -> dict[str, Assignment]:
        """All of them by the uid of the model."""
        return {split_node_key(key)[1]: entry.value for key, entry in self.entries.items()}

    def of(self, model_uid: str) -> Assignment | None:
        """What this node must do about a model; None where nobody has said."""
        entry = self.entries.get(node_key(self._node, model_uid))
        return entry.value if entry else None

    @property
    def keep_revisions(self) -> bool:
        """Whether any model keeps earlier revisions; to be asked from any thread."""
        return any(entry.value.kept_revisions for entry in list(self.entries.values()))

    @property
    def epoch(self) -> str:
        """Names the history that the revisions are of."""
        return self._epoch

    def reread(self) -> None:
        """Ask for everything to be read again, as after a reconnect."""
        self._wanted.set()

    async def run(self, on_change: Callable[[str], None]) -> None:
        """Keep the copy current until cancelled; on_change is called for every key that is new, changed or gone."""

        async def changed(message: Msg) -> None:
            try:
                change = DesiredChange.FromString(message.data)
            except DecodeError:
                _log.error("assignment_malformed", bytes=len(message.data))
                self._wanted.set()
                return
            self._follow(change, on_change)

        subscription = await self._client.subscribe(node_subject(self._node, DESIRED), cb=changed)
        pause = _RETRY_SECONDS
        try:
            while True:
                self._wanted.clear()
                try:
                    whole = await self._read_everything(on_change)
                except ServiceError as error:
                    # What is known stays known meanwhile.
                    _log.info("assignments_not_read", reason=error.reason, message=error.message)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
                    continue
                pause = _RETRY_SECONDS
                if whole:
                    self._synced.set()
                with contextlib.suppress(TimeoutError):
                    # Not all nodes at the same moment, as after a restart of NATS.
                    async with asyncio.timeout(random.uniform(0.75, 1.25) * _REREAD_SECONDS):
                        await self._wanted.wait()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _follow(self, change: DesiredChange, on_change: Callable[[str], None]) -> None:
        if change.epoch != self._epoch:
            # A reading that is under way may be of either.
            self._wanted.set()
            return
        key = node_key(self._node, change.model_uid)
        if change.revision < self._revision(key):
            # Of a gateway that is behind, or of an older store that was restored.
            self._wanted.set()
        elif change.gone:
            self._forget(key, change.revision, on_change)
        elif change.revision > self._revision(key) or self._contradicts(key, change):
            self._take(key, change, on_change)

    async def _read_everything(self, on_change: Callable[[str], None]) -> bool:
        """Read all that the node must hold; False when another history began meanwhile, which is to be read anew."""
        listed: set[str] = set()
        sequence: int | None = None
        after = ""
        while True:
            request = DesiredRequest(after_uid=after, epoch=self._epoch, revision=self._highest())
            if not after:
                request.known = self._known()
            piece = await self._gateway.get(SNAPSHOT, request, DesiredSnapshot)
            if sequence is None and (piece.restored or piece.epoch != self._epoch):
                self._begin(piece.epoch)
            elif piece.epoch != self._epoch:
                self._wanted.set()
                return False
            self.tells_use = piece.tells_use
            if piece.unchanged:
                self._age_gone()
                return True
            sequence = piece.sequence if sequence is None else min(sequence, piece.sequence)
            for change in piece.assignments:
                key = node_key(self._node, change.model_uid)
                listed.add(key)
                known = self._revision(key)
                # What the gateway has read past and does not know any more was of a store that is no more.
                lost = change.revision < known <= piece.sequence or self._contradicts(key, change)
                if change.revision > known or lost:
                    self._take(key, change, on_change)
                after = change.model_uid
            if not piece.more:
                break
        for key, entry in tuple(self.entries.items()):
            # What is newer than the answer is not in it.
            if key not in listed and entry.revision <= sequence:
                self._forget(key, entry.revision, on_change)
        self._age_gone()
        return True

    def _age_gone(self) -> None:
        """Forget what had gone before the reading before this one."""
        self._gone_before, self._gone = self._gone, {}

    def _contradicts(self, key: str, change: DesiredChange) -> bool:
        """Whether something else is known at this very revision: it was of a store that is no more."""
        entry = self.entries.get(key)
        return entry is not None and entry.revision == change.revision and entry.value != change.assignment

    def _begin(self, epoch: str) -> None:
        """Keep what is known until it is replaced; its revisions mean nothing in another history."""
        _log.info("assignments_read_anew", epoch=epoch)
        self._epoch = epoch
        self._gone.clear()
        self._gone_before.clear()
        self.entries = {key: Entry(0, entry.value) for key, entry in self.entries.items()}

    def _revision(self, key: str) -> int:
        entry = self.entries.get(key)
        return entry.revision if entry else max(self._gone.get(key, 0), self._gone_before.get(key, 0))

    def _highest(self) -> int:
        return max((entry.revision for entry in self.entries.values()), default=0)

    def _known(self) -> bytes:
        return check_of_all(
            {split_node_key(key)[1]: check_of(entry.revision, entry.value) for key, entry in self.entries.items()}
        )

    def _take(self, key: str, change: DesiredChange, on_change: Callable[[str], None]) -> None:
        self.entries[key] = Entry(change.revision, change.assignment)
        on_change(key)

    def _forget(self, key: str, revision: int, on_change: Callable[[str], None]) -> None:
        self._gone[key] = revision
        if self.entries.pop(key, None):
            on_change(key)
