"""Writes and reads the fleet's stored state on behalf of nodes, each of which reaches what is its own.

Every answer gets the node from the subject. What a message says about who sends it is never believed.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from weakref import WeakValueDictionary

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Corrupt, Missing, Unavailable
from libs.chassis.nats_asking import ask
from libs.chassis.nats_client import put_if, read_key
from libs.chassis.nats_reading import read_page
from libs.model.progress import bound_progress
from ome.fetch.v1 import fetch_pb2
from services.controller.gateway.checks import (
    bounded_facts,
    bounded_heartbeat,
    bounded_questions,
    bounded_state,
    check_digest,
    check_uid,
)
from services.controller.gateway.desired import DesiredByNode
from services.controller.gateway.door import Door
from services.controller.gateway.heartbeats import Heartbeats
from services.controller.manifests import read_manifest

_STATE_BYTES = 256 << 10
_FACTS_BYTES = 256 << 10
_HEARTBEAT_BYTES = 64 << 10
_SMALL_BYTES = 4 << 10
# Half of nats-server's default max_payload.
_PART_BYTES = 512 << 10
# A manifest of 50,000 files is 7 MB. A fleet asks for the same few at one time.
_REMEMBERED_BYTES = 64 << 20
_MANIFEST_SECONDS = 20.0
_CONTROLLER_SECONDS = 4.5
# What a node has said comes in parts of this size; a part may exceed it by one state.
_RECALLED_BYTES = 256 << 10
# A node that gets no answer asks about each model by itself.
_RECALL_SECONDS = 2.0
# How many nodes are told at once what they have said: after a restart of NATS all of them ask.
_RECALLS = 16
_MOST_KEYS = 2_000
_log = structlog.get_logger()


class Allowance:
    """How many different keys one node may write: whoever makes up more fills no bucket that others need as well."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: defaultdict[str, set[str]] = defaultdict(set)

    def take(self, node: str, key: str) -> None:
        """Count a key. Raises Unavailable when it is one too many."""
        keys = self._keys[node]
        if key not in keys and len(keys) >= self._most:
            raise Unavailable(Reason.RATE_LIMITED, f"the node {node} writes more than {self._most} keys")
        keys.add(key)

    def give_back(self, node: str, key: str) -> None:
        """Count a key no longer."""
        if node in self._keys:
            self._keys[node].discard(key)


class Answers:
    """What the gateway does for each verb."""

    def __init__(self, ome: Client, js: JetStreamContext, desired: DesiredByNode, heartbeats: Heartbeats) -> None:
        self._ome = ome
        self._heartbeats = heartbeats
        self._js = js
        self._desired = desired
        self._manifests: OrderedDict[str, bytes] = OrderedDict()
        self._reading: dict[str, asyncio.Lock] = {}
        # Held by those who wait for an answer about the Pods of a node, or for their turn to ask.
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # The same of those who read everything that they have said.
        self._recalling: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._recalls = asyncio.Semaphore(_RECALLS)
        # States of models that no assignment names, as after NATS has lost its data, and records of facts.
        self._unassigned = Allowance(_MOST_KEYS)
        self._records = Allowance(_MOST_KEYS)

    async def open(self, door: Door) -> None:
        """Answer all verbs from now on."""
        states, facts = fetch_pb2.StateReply, fetch_pb2.FactsReply
        await door.open(
            names.SNAPSHOT, fetch_pb2.DesiredRequest, fetch_pb2.DesiredSnapshot, self._desired.snapshot, _SMALL_BYTES
        )
        await door.open(names.OBSERVED, fetch_pb2.NodeModelState, states, self._observed, _STATE_BYTES)
        await door.open(names.RECALL, fetch_pb2.StateRequest, states, self._recall, _SMALL_BYTES)
        await door.open(names.HEARTBEAT, fetch_pb2.NodeHeartbeat, None, self._heartbeat, _HEARTBEAT_BYTES)
        await door.open(names.PROGRESS, fetch_pb2.Progress, None, self._progress, _SMALL_BYTES)
        await door.open(names.MANIFEST, fetch_pb2.ManifestRequest, fetch_pb2.ManifestPart, self._manifest, _SMALL_BYTES)
        await door.open(names.FACTS, fetch_pb2.FactsRequest, facts, self._facts, _FACTS_BYTES)
        await door.open(
            names.CREDENTIALS, fetch_pb2.CredentialsRequest, fetch_pb2.CredentialsReply, self._credentials, _SMALL_BYTES
        )
        await door.open(names.USE, fetch_pb2.UseRequest, fetch_pb2.UseReply, self.use, _STATE_BYTES)

    async def _observed(self, node: str, state: fetch_pb2.NodeModelState, _: str) -> fetch_pb2.StateReply:
        bounded = bounded_state(state)
        uid = bounded.model.uid
        if self._desired.names_model(node, uid):
            self._unassigned.give_back(node, uid)
        else:
            self._unassigned.take(node, uid)
            bounded.ClearField("facts")
        key = names.node_key(node, uid)
        await put_if(self._js, names.OBSERVED_BUCKET, key, bounded.SerializeToString(), None)
        return fetch_pb2.StateReply()

    async def _recall(self, node: str, request: fetch_pb2.StateRequest, _: str) -> fetch_pb2.StateReply:
        if request.everything:
            return await self._recall_everything(node, request.after_sequence)
        key = names.node_key(node, check_uid(request.model_uid))
        value = (await read_key(self._js, names.OBSERVED_BUCKET, key))[1]
        try:
            return fetch_pb2.StateReply(state=fetch_pb2.NodeModelState.FromString(value) if value else None)
        except DecodeError:
            # Whatever it is, it is replaced by the first thing that the node says.
            return fetch_pb2.StateReply()

    async def _recall_everything(self, node: str, after: int) -> fetch_pb2.StateReply:
        keys = names.node_key(node, "*")
        # Each part is read as a whole before it goes on.
        async with _turn(self._recalling, node), self._recalls:
            page = await read_page(self._ome, names.OBSERVED_BUCKET, keys, after, _RECALLED_BYTES, _RECALL_SECONDS)
        gone = [names.split_node_key(key)[1] for key in page.gone]
        reply = fetch_pb2.StateReply(sequence=page.sequence, more=page.more, gone_model_uids=gone)
        for key, value in page.values.items():
            state = reply.states.add()
            try:
                state.MergeFromString(value)
            except DecodeError:
                del reply.states[-1]
                continue
            state.model.uid = names.split_node_key(key)[1]
        return reply

    async def _heartbeat(self, node: str, heartbeat: fetch_pb2.NodeHeartbeat, _: str) -> None:
        self._heartbeats.put(node, bounded_heartbeat(node, heartbeat).SerializeToString())

    async def _progress(self, node: str, progress: fetch_pb2.Progress, uid: str) -> None:
        bound_progress(progress)
        await self._ome.publish(names.progress_subject(node, check_uid(uid)), progress.SerializeToString())

    async def _manifest(self, node: str, request: fetch_pb2.ManifestRequest, _: str) -> fetch_pb2.ManifestPart:
        digest = check_digest(request.digest)
        if not await self._desired.may_know(node, digest):
            raise Missing(Reason.FORBIDDEN, f"the node {node} is not to hold {digest}")
        data = await self._manifest_bytes(digest)
        return fetch_pb2.ManifestPart(data=data[request.offset : request.offset + _PART_BYTES], total_bytes=len(data))

    async def _manifest_bytes(self, digest: str) -> bytes:
        """The stored bytes, read once for many who ask at one time.

        What is not what the digest names is not remembered: the next listing puts the right one in its place.
        """
        lock = self._reading.setdefault(digest, asyncio.Lock())
        try:
            async with lock:
                if digest not in self._manifests:
                    self._manifests[digest] = await self._stored_manifest(digest)
                    while sum(map(len, self._manifests.values())) > _REMEMBERED_BYTES and len(self._manifests) > 1:
                        self._manifests.popitem(last=False)
                return self._manifests[digest]
        finally:
            if not lock.locked():
                self._reading.pop(digest, None)

    async def _stored_manifest(self, digest: str) -> bytes:
        try:
            return (await read_manifest(self._js, digest, _MANIFEST_SECONDS))[0]
        except Corrupt as error:
            # Leads to another listing, as a missing one does.
            raise Missing(Reason.NOT_FOUND, f"the manifest {digest} is not in {names.MANIFESTS_BUCKET}") from error

    async def _facts(self, node: str, request: fetch_pb2.FactsRequest, _: str) -> fetch_pb2.FactsReply:
        """Reads facts, claims to find them out, or writes what was found out under a claim of this very node."""
        if not await self._desired.may_know(node, check_digest(request.digest)):
            raise Missing(Reason.FORBIDDEN, f"the node {node} is not to hold {request.digest}")
        key = names.facts_key(request.digest, request.schema_path, request.version)
        revision, known = await self._stored_facts(key)
        if not request.HasField("facts"):
            return fetch_pb2.FactsReply(facts=known, revision=revision)
        if known.HasField("facts") or known.HasField("problem"):
            # Said once, and by whoever asked the parser: nobody takes it back.
            raise Conflict(Reason.CONFLICT, "the facts are known already")
        self._records.take(node, key)
        record = fetch_pb2.SharedFacts()
        if request.facts.HasField("facts") or request.facts.HasField("problem"):
            if known.claimed_by != node:
                raise Conflict(Reason.CONFLICT, f"the facts are not for {node} to find out")
            record.CopyFrom(bounded_facts(request.facts))
            record.ClearField("claimed_by")
        elif request.facts.claimed_by:
            if revision != request.revision:
                raise Conflict(Reason.CONFLICT, "somebody else has claimed to find out the facts")
            record.claimed_by = node
            record.claimed_at.FromMilliseconds(int(time.time() * 1000))
        elif known.claimed_by != node:
            raise Conflict(Reason.CONFLICT, f"the claim is not {node}'s to give up")
        revision = await put_if(self._js, names.FACTS_BUCKET, key, record.SerializeToString(), revision)
        return fetch_pb2.FactsReply(revision=revision)

    async def _stored_facts(self, key: str) -> tuple[int, fetch_pb2.SharedFacts]:
        revision, value = await read_key(self._js, names.FACTS_BUCKET, key)
        try:
            return revision, fetch_pb2.SharedFacts.FromString(value or b"")
        except DecodeError:
            return revision, fetch_pb2.SharedFacts()

    async def _credentials(
        self, node: str, request: fetch_pb2.CredentialsRequest, _: str
    ) -> fetch_pb2.CredentialsReply:
        """Asks the controller, which knows what the node is to hold, and passes its answer on."""
        digest = request.source_digest and check_digest(request.source_digest)
        asked = fetch_pb2.CredentialsRequest(model_uid=check_uid(request.model_uid), source_digest=digest)
        subject = names.credentials_subject(node)
        return await ask(self._ome, subject, asked, fetch_pb2.CredentialsReply, _CONTROLLER_SECONDS)

    async def use(self, node: str, request: fetch_pb2.UseRequest, _: str) -> fetch_pb2.UseReply:
        """Asks the controller, which hears of Pods, about those of this very node."""
        asked = bounded_questions(request)
        # Each costs the controller a look at all Pods of the node for each question.
        async with _turn(self._asking, node):
            return await ask(self._ome, names.use_subject(node), asked, fetch_pb2.UseReply, _CONTROLLER_SECONDS)


def _turn(turns: "WeakValueDictionary[str, asyncio.Lock]", node: str) -> asyncio.Lock:
    """The lock of a node, which lives as long as somebody holds it or waits for it."""
    turn = turns.get(node)
    if turn is None:
        turn = turns[node] = asyncio.Lock()
    return turn
