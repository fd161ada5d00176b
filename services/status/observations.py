"""What the fetchers and the controller say over NATS, indexed as the loops ask for it: by model and by node.

Owns the mirrors of ome-plans, ome-observed, ome-facts and ome-nodes, the progress of running transfers, and the
judgement whether a node's fetcher still reports. Joins what a node says with the facts that it refers to.
Must not write anything.
"""

import asyncio
import functools
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.names import (
    FACTS_BUCKET,
    NODES_BUCKET,
    OBSERVED_BUCKET,
    PLANS_BUCKET,
    node_key,
    node_name,
    node_token,
    progress_subject,
    split_node_key,
)
from libs.chassis.nats_mirror import Mirror
from libs.model.progress import bound_progress
from ome.fetch.v1.fetch_pb2 import ModelPlan, NodeHeartbeat, NodeModelState, Progress, SharedFacts
from ome.model.v1.model_pb2 import NODE_PHASE_READY, NODE_PHASE_UPDATING
from services.status.following import API
from services.status.node_report import storage_labels

# Different states that are kept as one message each. What goes beyond costs memory, and nothing else.
_SHARED_STATES = 20_000
# Different sets of nodes that models are meant for, each of which may have a thousand.
_SHARED_NODES = 16
_log = structlog.get_logger()


@dataclass(frozen=True)
class Listener:
    """Whom to tell: of a model or an InferenceService by uid, of a node by name, and of a transfer by both.

    model_placed means that a model has come, gone or begun to go, which every node that holds it has to show;
    node_placed that a node has come or gone, which every model that is meant for it has to show; copy_left that
    a model, by node and uid, is not Ready any more, where node_changed is not called.
    """

    model_changed: Callable[[str], None]
    model_placed: Callable[[str], None]
    node_changed: Callable[[str], None]
    node_placed: Callable[[str], None]
    progressed: Callable[[str, str], None]
    service_changed: Callable[[str], None] = lambda uid: None
    copy_left: Callable[[str, str], None] | None = None


class Observations:
    """A copy of what was said, which stays as it is while NATS is away."""

    def __init__(self, unreachable_seconds: float) -> None:
        self._unreachable_seconds = unreachable_seconds
        self._plans = Mirror(PLANS_BUCKET, ModelPlan.FromString, api=API)
        self._states = Mirror(OBSERVED_BUCKET, decode_state, api=API)
        self._facts = Mirror(FACTS_BUCKET, SharedFacts.FromString, api=API)
        self._heartbeats = Mirror(NODES_BUCKET, NodeHeartbeat.FromString, api=API)
        self._by_model: defaultdict[str, dict[str, NodeModelState]] = defaultdict(dict)
        self._by_node: defaultdict[str, dict[str, NodeModelState]] = defaultdict(dict)
        # Nodes that must hold each model.
        self._planned: dict[str, frozenset[str]] = {}
        # Models whose nodes refer to facts, by the key of these.
        self._referring: defaultdict[str, set[str]] = defaultdict(set)
        self._progress: dict[tuple[str, str], Progress] = {}
        self._heard_at: dict[str, float] = {}
        # How much room each node has, as its labels are to say.
        self._room: dict[str, dict[str, str]] = {}
        # Nobody can be called silent for a time in which we were not listening.
        self._listening_since: float | None = None
        self._synced = asyncio.Event()
        # How many nodes of those that matter here report, and how many are silent.
        self.reporting, self.silent = 0, 0

    def plan(self, model_uid: str) -> ModelPlan | None:
        """What the controller decided about a model."""
        return self._plans.get(model_uid)

    def desired_nodes(self, model_uid: str) -> frozenset[str]:
        """The nodes that must hold a model, as the controller decided."""
        return self._planned.get(model_uid, frozenset())

    def states_of_model(self, model_uid: str) -> dict[str, NodeModelState]:
        """What each node says about a model."""
        return self._by_model.get(model_uid, {})

    def states_of_node(self, node: str) -> dict[str, NodeModelState]:
        """What a node says about each model, by uid."""
        return self._by_node.get(node, {})

    def models_of_node(self, node: str) -> set[str]:
        """Models that a node holds or is meant to hold, by uid."""
        planned = {uid for uid, nodes in self._planned.items() if node in nodes}
        return planned | self._by_node.get(node, {}).keys()

    def awaits_models(self, node: str) -> bool:
        """Whether a model that is meant for a node has yet to come there."""
        states = self._by_node.get(node, {})
        return any(
            node in nodes and (uid not in states or states[uid].phase == NODE_PHASE_UPDATING)
            for uid, nodes in self._planned.items()
        )

    def heartbeat(self, node: str) -> NodeHeartbeat | None:
        """The last heartbeat of a node, unless it has expired."""
        return self._heartbeats.get(node_token(node))

    def room(self, node: str) -> dict[str, str] | None:
        """The labels that say how much room a node has: none of a silent one. None where they are to stay as they are,
        as nobody knows.
        """
        if self.reachable(node) is False:
            return {}
        return self._room.get(node)

    def progress(self, node: str, model_uid: str) -> Progress | None:
        """How far a running transfer is."""
        return self._progress.get((node, model_uid))

    def reporting_nodes(self) -> list[str]:
        """Nodes that have a heartbeat, sorted."""
        return sorted(node_name(token) for token in self._heartbeats.entries)

    def model_uids(self) -> set[str]:
        """Every model that anything is known of."""
        return {*self._plans.entries, *(uid for uid, states in self._by_model.items() if states)}

    def reachable(self, node: str) -> bool | None:
        """Whether the node's fetcher was heard of lately; None while we have not listened for long enough to say."""
        if self._listening_since is None:
            return None
        now = asyncio.get_running_loop().time()
        if now - self._heard_at.get(node, -math.inf) < self._unreachable_seconds:
            return True
        return None if now - self._listening_since < self._unreachable_seconds else False

    def reread(self) -> None:
        """Read everything again, as after a reconnect."""
        self._listening_since = asyncio.get_running_loop().time()
        for mirror in (self._plans, self._states, self._facts, self._heartbeats):
            mirror.reread()

    async def synced(self) -> None:
        """Wait until everything has been read once."""
        await self._synced.wait()

    async def run(self, client: Client, listener: Listener) -> None:
        """Keep the copy current until cancelled."""

        def plan_changed(uid: str) -> None:
            plan = self._plans.get(uid)
            if plan:
                self._planned[uid] = _shared_nodes(frozenset(map(sys.intern, plan.desired_nodes)))
            else:
                self._planned.pop(uid, None)
            listener.model_changed(uid)

        def facts_changed(key: str) -> None:
            for uid in tuple(self._referring.get(key, ())):
                for node, state in list(self._by_model.get(uid, {}).items()):
                    if state.facts_key == key:
                        self._index(node_key(node, uid))
                        listener.node_changed(node)
                listener.model_changed(uid)

        def heartbeat_changed(token: str) -> None:
            if heartbeat := self._heartbeats.get(token):
                node = node_name(token)
                self._heard_at[node] = asyncio.get_running_loop().time()
                # A large fleet reports a hundred times a second, and hardly ever says anything new.
                room = storage_labels(heartbeat)
                if self._room.get(node) != room:
                    self._room[node] = room
                    listener.node_changed(node)

        async def progressed(message: Msg) -> None:
            _, _, token, uid = message.subject.split(".")
            node = node_name(token)
            if uid not in self.states_of_node(node):
                # Nothing would ever clear the progress of a transfer that no state tells of.
                return
            try:
                said = Progress.FromString(message.data)
            except DecodeError:
                _log.warning("progress_malformed", node=node, model=uid)
                return
            # A gateway of an earlier version passes on what it does not know.
            bound_progress(said)
            self._progress[node, uid] = said
            listener.progressed(node, uid)

        await client.subscribe(progress_subject("*", "*"), cb=progressed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._plans.run(client, plan_changed))
            group.create_task(self._states.run(client, lambda key: self._state_changed(key, listener)))
            group.create_task(self._facts.run(client, facts_changed))
            group.create_task(self._heartbeats.run(client, heartbeat_changed))
            group.create_task(self._watch_silence(client, listener))

    async def _watch_silence(self, client: Client, listener: Listener) -> None:
        """Tell the models of a node when its fetcher falls silent or is heard of again."""
        for mirror in (self._plans, self._states, self._heartbeats):
            await mirror.synced()
        self._listening_since = asyncio.get_running_loop().time()
        self._synced.set()
        silent: set[str] = set()
        while True:
            await asyncio.sleep(self._unreachable_seconds / 10)
            if not client.is_connected:
                self._listening_since = None
                continue
            if self._listening_since is None:
                self._listening_since = asyncio.get_running_loop().time()
            known = self._known_nodes()
            now_silent = {node for node in known if self.reachable(node) is False}
            self.reporting, self.silent = len(known) - len(now_silent), len(now_silent)
            for node in silent ^ now_silent:
                _log.info("fetcher_fell_silent" if node in now_silent else "fetcher_heard_again", node=node)
                listener.node_placed(node)
            silent = now_silent
            self._forget_silent_nodes()

    def _state_changed(self, key: str, listener: Listener) -> None:
        node, uid = split_node_key(key)
        was_ready = self._is_ready(node, uid)
        self._index(key)
        listener.model_changed(uid)
        if listener.copy_left and was_ready and not self._is_ready(node, uid):
            listener.copy_left(node, uid)
        else:
            listener.node_changed(node)

    def _is_ready(self, node: str, uid: str) -> bool:
        state = self._by_node.get(node, {}).get(uid)
        return state is not None and state.phase == NODE_PHASE_READY

    def _forget_silent_nodes(self) -> None:
        # Nodes come and go under new names for ever; of one that is not heard of, the time says nothing any more.
        oldest = asyncio.get_running_loop().time() - self._unreachable_seconds
        self._heard_at = {node: at for node, at in self._heard_at.items() if at > oldest}
        self._room = {node: room for node, room in self._room.items() if node in self._heard_at}

    def _known_nodes(self) -> frozenset[str]:
        planned = {id(nodes): nodes for nodes in self._planned.values()}
        return frozenset().union(*planned.values(), self._by_node)

    def _index(self, key: str) -> None:
        # Two strings for each pair of a large fleet would be more than all that is known of it.
        node, uid = map(sys.intern, split_node_key(key))
        state = self._states.get(key)
        if state and state.facts_key:
            self._referring[state.facts_key].add(uid)
            if shared := self._facts.entries.get(state.facts_key):
                state = _joined(state.SerializeToString(deterministic=True), shared.value.SerializeToString())
        for index, first, second in ((self._by_model, uid, node), (self._by_node, node, uid)):
            if state:
                index[first][second] = state
            elif first in index:
                index[first].pop(second, None)
                if not index[first]:
                    del index[first]
        if uid not in self._by_model:
            for facts_key in [each for each, models in self._referring.items() if uid in models]:
                self._referring[facts_key].discard(uid)
                if not self._referring[facts_key]:
                    del self._referring[facts_key]
        if not state or NODE_PHASE_UPDATING not in (state.phase, state.update):
            self._progress.pop((node, uid), None)


def decode_state(data: bytes) -> NodeModelState:
    """What is reported of a node's state, in one message for all nodes that say the same."""
    state = NodeModelState.FromString(data)
    for field in ("model", "assignment_revision", "generation", "phase_since"):
        state.ClearField(field)
    return _shared(state.SerializeToString(deterministic=True))


@functools.lru_cache(maxsize=_SHARED_NODES)
def _shared_nodes(nodes: frozenset[str]) -> frozenset[str]:
    """The same nodes, in one set for all models that are meant for them."""
    return nodes


@functools.lru_cache(maxsize=_SHARED_STATES)
def _shared(data: bytes) -> NodeModelState:
    return NodeModelState.FromString(data)


@functools.lru_cache(maxsize=_SHARED_STATES)
def _joined(state: bytes, facts: bytes) -> NodeModelState:
    """A state with the facts that it refers to."""
    joined, shared = NodeModelState.FromString(state), SharedFacts.FromString(facts)
    if shared.HasField("facts"):
        joined.facts.CopyFrom(shared.facts)
    return joined
