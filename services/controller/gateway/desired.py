"""What each node must hold, as the gateway tells it: at once when it changes, and piece by piece when a node asks."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_mirror import Mirror
from libs.chassis.work import KeyedQueue
from libs.model.assignments import check_of, check_of_all
from ome.fetch.v1 import fetch_pb2
from services.controller.gateway.checks import check_uid

# Well below nats-server's default max_payload of 1 MB; an assignment has some hundred bytes.
_PIECE_BYTES = 256 << 10
_WORKERS = 8
_PATIENCE_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.02
# How soon it is made sure that the server has got what nodes were told.
_CONFIRM_SECONDS = 0.5
_FLUSH_SECONDS = 10


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of an assignment: its artifact, and what it is compared by."""

    digest: str
    check: bytes


class DesiredByNode:
    """Follows ome-desired. Replicas tell nodes the same, which do not mind: revisions say what is newer."""

    def __init__(self, nodes: Client, js: JetStreamContext) -> None:
        self._nodes = nodes
        self._js = js
        # Undecoded: there are as many as models times nodes, and each is sent a few times.
        self.mirror: Mirror[bytes] = Mirror(names.DESIRED_BUCKET, bytes)
        # Each model that a node is told about, by the node's token.
        self._models: dict[str, dict[str, _Known]] = defaultdict(dict)
        # The last revision of every key, which a deletion is told with.
        self._told: dict[str, int] = {}
        # Keys of which nodes were told what the server may not have got, each with how many were told by then.
        self.unconfirmed: dict[str, int] = {}
        self._tellings = 0
        self._telling = asyncio.Event()
        self._queue: KeyedQueue[str] = KeyedQueue("desired")

    def changed(self, key: str) -> None:
        """A key of the bucket is new, different or gone."""
        node, _, uid = key.partition(".")
        entry = self.mirror.entries.get(key)
        if entry:
            assignment = fetch_pb2.Assignment()
            _decode_into(assignment, entry.value)
            self._models[node][uid] = _Known(assignment.artifact.digest, check_of(entry.revision, assignment))
        else:
            self._models[node].pop(uid, None)
            if not self._models[node]:
                del self._models[node]
        self._queue.add(key)

    def tell_again(self) -> None:
        """Tell again what may not have reached the server, as after a reconnect.

        A node that lost its own connection asks by itself.
        """
        for key in self.unconfirmed:
            self._queue.add(key)

    async def run(self) -> None:
        """Tell nodes about changes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(self._tell, _WORKERS))
            group.create_task(self._confirm())

    async def snapshot(self, node: str, request: fetch_pb2.DesiredRequest, _: str) -> fetch_pb2.DesiredSnapshot:
        """The next piece of what a node must hold. Raises Unavailable."""
        if request.after_uid:
            check_uid(request.after_uid)
        if not self.mirror.whole:
            # Revisions of two streams under the name of one would have the node ignore whatever comes later.
            raise Unavailable(Reason.UNAVAILABLE, f"{names.DESIRED_BUCKET} is being read")
        reply = fetch_pb2.DesiredSnapshot(epoch=self.mirror.epoch, sequence=self.mirror.sequence, tells_use=True)
        reply.restored = request.epoch == reply.epoch and await self._is_ahead(request.revision)
        token, size = names.node_token(node), 0
        if request.known and request.epoch == reply.epoch and not (request.after_uid or reply.restored):
            known = {uid: each.check for uid, each in self._models.get(token, {}).items()}
            reply.unchanged = request.known == check_of_all(known)
            if reply.unchanged:
                return reply
        for uid in sorted(uid for uid in self._models.get(token, ()) if uid > request.after_uid):
            entry = self.mirror.entries.get(f"{token}.{uid}")
            if entry is None:
                continue
            size += len(entry.value)
            if size > _PIECE_BYTES and reply.assignments:
                reply.more = True
                break
            _decode_into(reply.assignments.add(model_uid=uid, revision=entry.revision).assignment, entry.value)
        return reply

    def names_model(self, node: str, uid: str) -> bool:
        """Whether any assignment of a node is about a model."""
        return uid in self._models.get(names.node_token(node), ())

    def names_artifact(self, node: str, digest: str) -> bool:
        """Whether any of a node's assignments names an artifact."""
        return any(digest == known.digest for known in self._models.get(names.node_token(node), {}).values())

    async def may_know(self, node: str, digest: str) -> bool:
        """Whether a node is told to hold an artifact, perhaps by a replica that is a moment ahead of this one."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.names_artifact(node, digest):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return True

    async def _is_ahead(self, revision: int) -> bool:
        """Whether a node has seen more than there is, as after a restore of an older store."""
        if revision <= self.mirror.sequence:
            return False
        try:
            info = await self._js.stream_info(f"KV_{names.DESIRED_BUCKET}")
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS did not answer: {type(error).__name__}") from error
        return info.state.last_seq < revision

    async def _confirm(self) -> None:
        """Forget what the server has certainly got, again and again."""
        while True:
            await self._telling.wait()
            await asyncio.sleep(_CONFIRM_SECONDS)
            told = self._tellings
            try:
                await self._nodes.flush(_FLUSH_SECONDS)
            except (TimeoutError, nats.errors.Error):
                continue
            self.unconfirmed = {key: number for key, number in self.unconfirmed.items() if number > told}
            if not self.unconfirmed:
                self._telling.clear()

    async def _tell(self, key: str) -> None:
        token, _, uid = key.partition(".")
        entry = self.mirror.entries.get(key)
        change = fetch_pb2.DesiredChange(model_uid=uid, epoch=self.mirror.epoch)
        if entry:
            self._told[key] = change.revision = entry.revision
            _decode_into(change.assignment, entry.value)
        else:
            change.gone, change.revision = True, self._told.pop(key, 0)
        self._tellings += 1
        self.unconfirmed[key] = self._tellings
        self._telling.set()
        await self._nodes.publish(names.node_subject(names.node_name(token), names.DESIRED), change.SerializeToString())


def _decode_into(assignment: fetch_pb2.Assignment, value: bytes) -> None:
    """Read the assignment that a key holds; what cannot be read is an empty one, which fails its model and no other."""
    assignment.SetInParent()
    try:
        assignment.MergeFromString(value)
    except DecodeError:
        assignment.Clear()
