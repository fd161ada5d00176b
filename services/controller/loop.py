"""The controller's loop: for one model at a time, gather what is known, plan, apply in order.

Owns the mirrors and reflectors that the knowledge comes from. What to do is decided in planning.
"""

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import prometheus_client
import structlog
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.health import Health
from libs.chassis.kube import KubeClient, Object
from libs.chassis.nats_client import Mirror, delete_key, publish_once, put_if
from libs.chassis.work import KeyedQueue
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import planning, volumes
from services.controller.kube import add_finalizer, remove_finalizer
from services.controller.secret_watch import SecretWatch
from services.controller.settings import Settings
from services.controller.specification import ModelSource, ModelSpec, SecretRules, read_model, source_of
from services.controller.streams import ensure_pool
from services.controller.volume_watch import VolumeWatch

# What the chart of the fetcher permits as the name of a pool, and what may stand in a subject.
_POOL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_log = structlog.get_logger()
_actions = prometheus_client.Counter("ome_controller_actions", "Actions applied, by kind.", ["action"])
_models = prometheus_client.Gauge("ome_controller_models", "Model objects known.")


class Reconciler:
    """Brings the fleet's desired state in line with the model objects."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self.queue: KeyedQueue[str] = KeyedQueue("models")
        self.desired = Mirror(names.DESIRED_BUCKET, fetch_pb2.Assignment.FromString)
        self.observed = Mirror(names.OBSERVED_BUCKET, fetch_pb2.NodeModelState.FromString)
        self.resolved = Mirror(names.RESOLVED_BUCKET, fetch_pb2.Resolution.FromString)
        self.plans = Mirror(names.PLANS_BUCKET, fetch_pb2.ModelPlan.FromString)
        self.heartbeats = Mirror(names.NODES_BUCKET, fetch_pb2.NodeHeartbeat.FromString)
        self.secrets = SecretWatch(settings.secret_check_seconds, self.queue.add)
        self._secret_check_seconds = settings.secret_check_seconds
        self._resync_seconds = settings.resync_seconds
        self._rules = planning.Rules(
            operator_namespace=settings.namespace,
            node_unreachable_seconds=settings.node_unreachable_seconds,
            retry_initial_seconds=settings.retry_initial_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            volume_inspect_seconds=settings.volume_inspect_seconds,
            secrets=SecretRules(settings.secret_namespaces, settings.reserved_secrets),
        )
        self.volumes = VolumeWatch(settings.parser_image, self.queue.add, health)
        self._items: dict[str, Object] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._nodes: dict[str, Object] = {}
        # When a node's heartbeat was found missing, and when the node itself was found not ready. By the monotonic
        # clock, from when we saw it: other clocks may be wrong and ours may be set, and deletions depend on this.
        self._silent_since: dict[str, float] = {}
        self._unready_since: dict[str, float] = {}
        self._views: dict[str, planning.NodeView] = {}
        # Keys by model, so that one model's reconcile does not read those of all others.
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._listings: dict[str, set[str]] = defaultdict(set)
        self._asked: dict[str, dict[str, planning.Asked]] = {}
        # Revision of each listing and when it was heard of, by the monotonic clock.
        self._heard: dict[str, tuple[int, float]] = {}

    # What the sources of knowledge call when something has changed.

    def model_changed(self, before: Object | None, after: Object | None) -> None:
        """A model object was seen, changed or went."""
        if before and (after is None or after["metadata"]["uid"] != before["metadata"]["uid"]):
            self._items.pop(before["metadata"]["uid"], None)
            self._specs.pop(before["metadata"]["uid"], None)
            self.volumes.model_changed(before["metadata"]["uid"], None)
            self.queue.add(before["metadata"]["uid"])
        if after:
            uid = after["metadata"]["uid"]
            self._items[uid], self._specs[uid] = after, read_model(after)
            self.volumes.model_changed(uid, self._specs[uid])
            self.queue.add(uid)
        _models.set(len(self._items))

    def node_changed(self, before: Object | None, after: Object | None) -> None:
        """A Node was seen, changed or went."""
        name = (after or before or {})["metadata"]["name"]
        if after:
            self._nodes[name] = after
        else:
            self._nodes.pop(name, None)
        self._refresh_view(name)

    def heartbeat_changed(self, key: str) -> None:
        """A fetcher has reported or has fallen silent."""
        node = names.node_name(key)
        if self.heartbeats.get(key):
            self._silent_since.pop(node, None)
        else:
            self._silent_since.setdefault(node, time.monotonic())
        self._refresh_view(node)

    def holder_changed(self, key: str) -> None:
        """What a node must hold or does hold has changed."""
        node, uid = names.split_node_key(key)
        if key in self.desired.entries or key in self.observed.entries:
            self._holders[uid].add(node)
        else:
            _remove(self._holders, uid, node)
        self.queue.add(uid)

    def state_changed(self, key: str) -> None:
        """What a node says of a model has changed, which matters here only when it is to let go of it or has failed.

        All nodes of a fleet say how far they are; planning anew each time would cost the square of their number.
        """
        assignment, state = self.desired.get(key), self.observed.get(key)
        failed = state is not None and (
            state.phase == model_pb2.NODE_PHASE_FAILED or state.problem.reason in planning.CREDENTIAL_REASONS
        )
        if failed or assignment is None or assignment.goal != fetch_pb2.GOAL_HOLD:
            self.holder_changed(key)
        elif self.secrets.follows(uid := names.split_node_key(key)[1]):
            # Perhaps nothing fails any more, and its Secret need not be looked at: there is time until the next look.
            self.queue.add_later(uid, self._secret_check_seconds)

    def listing_changed(self, key: str) -> None:
        """A source was listed."""
        uid = key.partition(".")[0]
        entry = self.resolved.entries.get(key)
        if entry is None:
            self._heard.pop(key, None)
            _remove(self._listings, uid, key)
        else:
            self._listings[uid].add(key)
            if self._heard.get(key, (0, 0.0))[0] != entry.revision:
                self._heard[key] = entry.revision, time.monotonic()
        self.queue.add(uid)

    def plan_changed(self, key: str) -> None:
        """A decision was stored."""
        self.queue.add(key)

    def lead(self, leading: bool) -> None:
        """This replica begins or ceases to lead."""
        if leading:
            self.look_at_everything()
        else:
            self.secrets.clear()

    def look_at_everything(self) -> None:
        """Have every model reconciled, as at the start and when this replica begins to lead."""
        for node in {*self._nodes, *map(names.node_name, self.heartbeats.entries)}:
            self._refresh_view(node)
        for uid in {*self._items, *self._holders, *self._listings, *self.plans.entries, *self.volumes.uids()}:
            self.queue.add(uid)

    def model_for_credentials(
        self, node: str, uid: str, assigned: fetch_pb2.Assignment | None = None
    ) -> ModelSpec | None:
        """The model whose secret a node may have: one that it must hold, or whose source is being listed.

        assigned is the node's assignment where the caller knows it better than our copy, which may be a moment old.
        Raises InvalidValue when the model's source cannot be understood.
        """
        model = self._specs.get(uid)
        if model is None or model.deleting:
            return None
        assignment = assigned or self.desired.get(names.node_key(node, uid))
        if assignment and assignment.goal == fetch_pb2.GOAL_HOLD:
            return model
        reporting = self.heartbeats.get(names.node_token(node)) is not None
        return model if reporting and self._awaits_listing(model) else None

    def source_of(self, model: ModelSpec) -> ModelSource | None:
        """Where a model's bytes and credentials are, under the operator's rules; raises as specification's does."""
        return source_of(model, self._rules.operator_namespace, self._rules.secrets)

    def referenced_digests(self) -> set[str]:
        """Digests of the artifacts that a listing, a decision or an assignment names."""
        artifacts = [
            *(entry.value.artifact for entry in self.resolved.entries.values()),
            *(entry.value.artifact for entry in self.plans.entries.values()),
            *(entry.value.artifact for entry in self.desired.entries.values()),
        ]
        return {artifact.digest for artifact in artifacts if artifact.digest}

    # The work item.

    async def reconcile(self, kube: KubeClient, js: JetStreamContext, uid: str) -> float | None:
        """Bring one model's desired state up to date; returns when to look again, in seconds.

        For the leader alone: two that write would undo each other's work.
        """
        observed = self._observe(uid)
        decided = planning.plan(observed, self._rules, time.monotonic())
        self.secrets.follow(uid, decided.awaited_secret)
        for action in decided.actions:
            await self._apply(kube, js, uid, action)
            _actions.labels(type(action).__name__).inc()
        if decided.actions:
            _log.info(
                "reconciled",
                model=observed.model.ref.name if observed.model else None,
                uid=uid,
                actions=[f"{type(action).__name__}: {action.reason}" for action in decided.actions],
            )
        known = uid in self._specs or uid in self._holders or uid in self._listings or self.volumes.knows(uid)
        if not known:
            self._asked.pop(uid, None)
            return None
        return min(filter(None, (decided.look_again_seconds, self._resync_seconds)))

    def _observe(self, uid: str) -> planning.Observed:
        held: dict[str, planning.Held] = {}
        states: dict[str, fetch_pb2.NodeModelState] = {}
        for node in self._holders.get(uid, ()):
            key = names.node_key(node, uid)
            if entry := self.desired.entries.get(key):
                held[node] = planning.Held(entry.revision, entry.value)
            if state := self.observed.get(key):
                states[node] = state
        listings = {key: self.resolved.entries[key].value for key in self._listings.get(uid, ())}
        return planning.Observed(
            uid=uid,
            model=self._specs.get(uid),
            nodes=self._views,
            held=held,
            states=states,
            resolutions=listings,
            asked=self._asked.get(uid, {}),
            plan=self.plans.get(uid),
            volume=self.volumes.seen(uid),
            secret_states=self.secrets.states,
            heard={key: self._heard[key][1] for key in listings},
            clock_offset=time.time() - time.monotonic(),
        )

    async def _apply(self, kube: KubeClient, js: JetStreamContext, uid: str, action: planning.Action) -> None:
        match action:
            case planning.AddFinalizer() if item := self._items.get(uid):
                await add_finalizer(kube, item)
            case planning.RemoveFinalizer() if item := self._items.get(uid):
                await remove_finalizer(kube, item)
                # The watch says what becomes of the object, and may have said it before the answer came; until then
                # there is nothing more to do.
                self._items.pop(uid, None)
                self._specs.pop(uid, None)
            case planning.AskForListing(pool, task):
                await self._ask(js, uid, pool, task, action.secret_version)
            case planning.Assign(node, assignment, last_revision):
                key = names.node_key(node, uid)
                revision = await put_if(js, names.DESIRED_BUCKET, key, assignment.SerializeToString(), last_revision)
                self.desired.remember(key, revision, assignment)
                self._holders[uid].add(node)
            case planning.Forget(node):
                key = names.node_key(node, uid)
                await delete_key(js, names.DESIRED_BUCKET, key)
                await delete_key(js, names.OBSERVED_BUCKET, key)
            case planning.ForgetListing(key):
                await delete_key(js, names.RESOLVED_BUCKET, key)
            case planning.Report(report):
                revision = await put_if(
                    js, names.PLANS_BUCKET, uid, report.SerializeToString(), self.plans.revision(uid)
                )
                self.plans.remember(uid, revision, report)
            case planning.Unreport():
                await delete_key(js, names.PLANS_BUCKET, uid)
            case volumes.CreateJob():
                await self.volumes.create(kube, action)
            case volumes.DeleteJob():
                await self.volumes.delete(kube, action)

    async def _ask(
        self, js: JetStreamContext, uid: str, pool: str, task: fetch_pb2.ResolveTask, secret_version: str
    ) -> None:
        await ensure_pool(js, pool)
        message_id = f"{task.source_key}/{task.attempt}"
        await publish_once(js, names.resolve_subject(pool), task.SerializeToString(), message_id)
        # What was asked about an earlier source of the model no longer matters.
        self._asked[uid] = {task.source_key: planning.Asked(task.attempt, time.monotonic(), secret_version)}

    def _awaits_listing(self, model: ModelSpec) -> bool:
        source = self.source_of(model)
        if source is None or not source.needs_listing or model.disabled:
            return False
        listing = self.resolved.get(source.key)
        # Without a digest it was read in place, which is looked at again: a driver may want the secret then.
        if listing is None or not listing.artifact.digest:
            return True
        # It is listed once more when a node no longer finds what was listed.
        keys = [names.node_key(node, model.ref.uid) for node in self._holders.get(model.ref.uid, ())]
        held = [(self.observed.get(key), assignment) for key in keys if (assignment := self.desired.get(key))]
        return any(planning.lost_source(state, assignment) for state, assignment in held)

    # Nodes.

    def _refresh_view(self, name: str) -> None:
        before = self._views.get(name)
        node = self._nodes.get(name)
        if node is None:
            self._views.pop(name, None)
            # A node that comes back under this name has not been silent for as long as its predecessor.
            self._silent_since.pop(name, None)
            self._unready_since.pop(name, None)
            after = None
        else:
            now = time.monotonic()
            heartbeat = self.heartbeats.get(names.node_token(name))
            since = [] if heartbeat else [self._silent_since.setdefault(name, now)]
            if is_ready(node):
                self._unready_since.pop(name, None)
            else:
                since.append(self._unready_since.setdefault(name, now))
            after = view_node(node, heartbeat, min(since, default=None))
            self._views[name] = after
        if before != after:
            for uid in self._items:
                self.queue.add(uid)
            for uid, holders in self._holders.items():
                if name in holders:
                    self.queue.add(uid)


def _remove(index: dict[str, set[str]], uid: str, member: str) -> None:
    """Take a member out of an index, in which no empty set may stay behind: models come and go for ever."""
    members = index.get(uid, set())
    members.discard(member)
    if not members:
        index.pop(uid, None)


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether the API server calls a Node ready."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def view_node(
    node: Mapping[str, Any], heartbeat: fetch_pb2.NodeHeartbeat | None, unreachable_since: float | None
) -> planning.NodeView:
    """A Node as planning sees it."""
    return planning.NodeView(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        accepts_new=is_ready(node) and not (node.get("spec") or {}).get("unschedulable"),
        unreachable_since=unreachable_since,
        pool=heartbeat.pool if heartbeat and _POOL.fullmatch(heartbeat.pool) else planning.DEFAULT_POOL,
    )
