"""What the controller knows: mirrors of buckets, copies of Kubernetes objects, and indices over both by model and node.

Says which models a change concerns. What to do about them is decided in planning and done by the model loop.
"""

import functools
import posixpath
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import prometheus_client

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.artifact.labels import is_model_label
from libs.chassis.health import Health
from libs.chassis.kube import Object
from libs.chassis.nats_mirror import Mirror
from libs.model.bases import Bases
from libs.model.eviction import Resident
from libs.model.posted import posted_ref
from libs.model.tolerations import taints_of
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import gates, listings, planning, use
from services.controller.bases import placement_of
from services.controller.budgets import Account, Budgets, charge_of, limits_of
from services.controller.gate_watch import GateWatch
from services.controller.gates import Place
from services.controller.placements import Placements
from services.controller.pod_watch import PodWatch
from services.controller.secret_watch import SecretWatch
from services.controller.service_watch import ServiceWatch
from services.controller.settings import Settings
from services.controller.specification import ModelSource, ModelSpec, SecretRules, read_model, source_of
from services.controller.volume_watch import VolumeWatch

# What the chart of the fetcher permits as the name of a pool, and what may stand in a subject.
_POOL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
# Different values that are kept as one message each. What goes beyond costs memory, and nothing else.
_SHARED_VALUES = 20_000
# After so long the status of a model says which Pods have come and gone. Nodes are told of Pods when they ask.
_USE_SECONDS = 5.0
# After so long a model that waits for its namespace's budget is looked at again: what goes, goes from many nodes.
_ROOM_SECONDS = 0.5
_WRITTEN_BY_PEOPLE = ("name", "namespace", "labels", "annotations")
_models = prometheus_client.Gauge("ome_controller_models", "Model objects known.")


class Observations:
    """Everything that decisions are made from. changed is called with the uid of each model that a change concerns."""

    def __init__(
        self,
        settings: Settings,
        health: Health,
        changed: Callable[[str], None],
        changed_later: Callable[[str, float], None],
        changed_soon: Callable[[str], None],
    ) -> None:
        """changed_later is called like changed, with the seconds for which there is time.

        changed_soon is for what one node has to say of a model: others are about to say the same.
        """
        self._changed_soon = changed_soon
        self._changed = changed
        self._changed_later = changed_later
        self.desired = Mirror(names.DESIRED_BUCKET, decode_assignment)
        self.observed = Mirror(names.OBSERVED_BUCKET, decode_state)
        self.resolved = Mirror(names.RESOLVED_BUCKET, fetch_pb2.Resolution.FromString)
        self.plans = Mirror(names.PLANS_BUCKET, fetch_pb2.ModelPlan.FromString)
        self.heartbeats = Mirror(names.NODES_BUCKET, fetch_pb2.NodeHeartbeat.FromString)
        self.secrets = SecretWatch(settings.secret_check_seconds, changed)
        self._secret_check_seconds = settings.secret_check_seconds
        self.rules = planning.Rules(
            operator_namespace=settings.namespace,
            node_unreachable_seconds=settings.node_unreachable_seconds,
            retry_initial_seconds=settings.retry_initial_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            volume_inspect_seconds=settings.volume_inspect_seconds,
            secrets=SecretRules(settings.secret_namespaces, settings.reserved_secrets, settings.identity_namespaces),
            confines=settings.namespaced_paths == "own",
            follow_seconds=settings.follow_seconds,
        )
        self.volumes = VolumeWatch(settings.parser_image, changed, health)
        # A rollout of Pods is one change of what a model's status says, not one for each of them.
        self._name_all_pods = settings.pod_names == "all"
        self.pods = PodWatch(
            settings.namespace, self._name_all_pods, lambda uid: changed_later(uid, _USE_SECONDS), health
        )
        self._items: dict[str, Object] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._nodes: dict[str, Object] = {}
        self._placements = Placements()
        self._bases = Bases()
        self._budgets = Budgets(limits_of(settings.namespace_budgets))
        self.services = ServiceWatch(changed, health)
        self.gates = GateWatch(health, self._model_at, self._demand_changed, settings.pod_name)
        # When a node's heartbeat was found missing, and when the node itself was found not ready. By the monotonic
        # clock, from when we saw it: other clocks may be wrong and ours may be set, and deletions depend on this.
        self._silent_since: dict[str, float] = {}
        self._unready_since: dict[str, float] = {}
        self._views: dict[str, planning.NodeView] = {}
        # Keys by model, so that one model's reconcile does not read those of all others.
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._held_by: dict[str, set[str]] = defaultdict(set)
        self._listings: dict[str, set[str]] = defaultdict(set)
        self._asked: dict[str, dict[str, listings.Asked]] = {}
        # When a hub has announced a change to models that follow it, by the monotonic clock.
        self._announced: dict[str, float] = {}
        # Revision of each listing and when it was heard of, by the monotonic clock.
        self._heard: dict[str, tuple[int, float]] = {}

    # What the sources of knowledge call when something has changed.

    def model_changed(self, before: Object | None, after: Object | None) -> None:
        """A model object was seen, changed or went."""
        tied = self._bases.object_changed(before, after)
        self.services.object_changed(before, after)
        if before and (after is None or after["metadata"]["uid"] != before["metadata"]["uid"]):
            self.forget_object(before["metadata"]["uid"])
            self.volumes.model_changed(before["metadata"]["uid"], None)
            self._changed(before["metadata"]["uid"])
        if after:
            uid = after["metadata"]["uid"]
            self._items[uid], self._specs[uid] = after, read_model(after)
            self._place(uid)
            self._refresh_waiting(uid)
            self.volumes.model_changed(uid, self._specs[uid])
            self.pods.index.model_changed(uid, self._specs[uid].ref, _path_of(after))
            self._changed(uid)
        self.gates.model_changed(_place_of(after or before or {}))
        concerned = tied | self._bases.referring_to((after or before or {})["metadata"]["uid"])
        for uid in concerned - {(after or before or {})["metadata"]["uid"]}:
            if self._place(uid):
                self._changed(uid)
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
        if heartbeat := self.heartbeats.get(key):
            self._silent_since.pop(node, None)
            view = self._views.get(node)
            if view and view.unreachable_since is None and view.pool == pool_of(heartbeat):
                # A large fleet reports a hundred times a second, and hardly ever says anything new.
                return
        else:
            self._silent_since.setdefault(node, time.monotonic())
        self._refresh_view(node)

    def holder_changed(self, key: str) -> None:
        """What a node must hold has changed."""
        self._charge(*names.split_node_key(key))
        self._holder_changed(key)

    def _holder_changed(self, key: str) -> None:
        node, uid = names.split_node_key(key)
        if key in self.desired.entries or key in self.observed.entries:
            self._holds(node, uid)
        else:
            _remove(self._holders, uid, node)
            _remove(self._held_by, node, uid)
        self._changed_soon(uid)

    def state_changed(self, key: str) -> None:
        """What a node says of a model has changed, which matters here only when it is to let go of it or has failed.

        All nodes of a fleet say how far they are; planning anew each time would cost the square of their number.
        """
        assignment, state = self.desired.get(key), self.observed.get(key)
        failed = state is not None and (
            model_pb2.NODE_PHASE_FAILED in (state.phase, state.update)
            or state.problem.reason in listings.CREDENTIAL_REASONS
        )
        uid = names.split_node_key(key)[1]
        if failed or self._is_rolling_out(uid) or assignment is None or assignment.goal != fetch_pb2.GOAL_HOLD:
            # What was decided is charged before it is written, and what a node says takes nothing of that back.
            self._holder_changed(key)
        elif self.secrets.follows(uid):
            # Perhaps nothing fails any more, and its Secret need not be looked at: there is time until the next look.
            self._changed_later(uid, self._secret_check_seconds)

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
        self._changed(uid)

    def plan_changed(self, key: str) -> None:
        """A decision was stored."""
        self._refresh_waiting(key)
        self._changed(key)

    def source_changed(self, repository: str, revisions: Sequence[str]) -> int:
        """A hub says that a repository has changed, of which revisions if it knows; how many models follow that."""
        following = [uid for uid, model in self._specs.items() if self._is_following(model, repository, revisions)]
        for uid in following:
            self._announced[uid] = time.monotonic()
            self._changed(uid)
        return len(following)

    def _is_following(self, model: ModelSpec, repository: str, revisions: Sequence[str]) -> bool:
        if not model.follows or model.deleting or model.disabled:
            return False
        try:
            source = self.source_of(model)
        except InvalidValue:
            return False
        return source is not None and listings.is_named(source, repository, revisions)

    def look_at_everything(self) -> None:
        """Report every model as changed, as at the start and when this replica begins to lead."""
        for node in {*self._nodes, *map(names.node_name, self.heartbeats.entries)}:
            self._refresh_view(node)
        for uid in {*self._items, *self._holders, *self._listings, *self.plans.entries, *self.volumes.uids()}:
            self._changed(uid)

    def model_for_credentials(
        self, node: str, uid: str, assigned: fetch_pb2.Assignment | None = None
    ) -> ModelSpec | None:
        """The model whose secret a node may have: one that it must hold.

        assigned is the node's assignment where the caller knows it better than our copy, which may be a moment old.
        """
        model = self._specs.get(uid)
        if model is None or model.deleting:
            return None
        assignment = assigned or self.desired.get(names.node_key(node, uid))
        return model if assignment and assignment.goal == fetch_pb2.GOAL_HOLD else None

    def model_for_listing(self, uid: str) -> ModelSpec | None:
        """The model whose secret whoever lists sources may have: one whose source is to be listed.

        Raises InvalidValue when the model's source cannot be understood.
        """
        model = self._specs.get(uid)
        if model is None or model.deleting:
            return None
        return model if self._awaits_listing(model) else None

    def awaits_answer(self, uid: str, source_key: str) -> bool:
        """Whether somebody still waits for what listing a source finds: the model is there and names that source."""
        model = self._specs.get(uid)
        if model is None or model.deleting:
            return False
        try:
            source = self.source_of(model)
        except InvalidValue:
            return False
        return source is not None and source.key == source_key

    def source_of(self, model: ModelSpec) -> ModelSource | None:
        """Where a model's bytes and credentials are, under the operator's rules; raises as specification's does."""
        return source_of(model, self.rules.operator_namespace, self.rules.secrets)

    def referenced_digests(self) -> set[str]:
        """Digests of the artifacts that a listing, a decision or an assignment names."""
        artifacts = [
            *(entry.value.artifact for entry in self.resolved.entries.values()),
            *(entry.value.artifact for entry in self.plans.entries.values()),
            *(entry.value.artifact for entry in self.desired.entries.values()),
            # To go back to one of these, nodes need its manifest.
            *(each.artifact for entry in self.plans.entries.values() for each in entry.value.history),
        ]
        return {artifact.digest for artifact in artifacts if artifact.digest}

    def names_artifact(self, digest: str) -> bool:
        """Whether the plan of a model has an artifact, for its nodes now or in its history."""
        return any(
            digest == artifact.digest
            for entry in self.plans.entries.values()
            for artifact in (entry.value.artifact, *(each.artifact for each in entry.value.history))
        )

    def model(self, uid: str) -> ModelSpec | None:
        """The model as its object says, or None when there is none."""
        return self._specs.get(uid)

    def ref_of(self, uid: str) -> model_pb2.ModelRef | None:
        """What names the model, or None when there is none."""
        model = self._specs.get(uid)
        return model.ref if model else None

    def serves(self, node: str, uid: str) -> bool:
        """Whether a node says that readers find a model there, so that the scheduler may send Pods to it."""
        state = self.observed.get(names.node_key(node, uid))
        return state is not None and state.phase == model_pb2.NODE_PHASE_READY

    def item(self, uid: str) -> Object | None:
        """The model's object, or None when there is none."""
        return self._items.get(uid)

    def knows(self, uid: str) -> bool:
        """Whether anything is left of a model: its object, what nodes hold or were told, a listing or a Job."""
        return uid in self._specs or uid in self._holders or uid in self._listings or self.volumes.knows(uid)

    def forget_object(self, uid: str) -> None:
        """The object has gone, or goes without more to do, before the watch says so."""
        self._items.pop(uid, None)
        self._announced.pop(uid, None)
        if model := self._specs.pop(uid, None):
            self._look_for_room(self._budgets.wait(uid, model.ref.namespace, "", 0))
        self._placements.model_changed(uid, None)
        self.pods.index.model_changed(uid, None, "")

    def forget_asking(self, uid: str) -> None:
        """Nothing is left of a model for which a listing could be asked."""
        self._asked.pop(uid, None)

    def assigned(self, node: str, uid: str, revision: int, assignment: fetch_pb2.Assignment) -> None:
        """An assignment was written, before its echo comes."""
        self.desired.remember(names.node_key(node, uid), revision, assignment)
        self._holds(node, uid)
        self._charge(node, uid)

    def listing_asked(self, uid: str, task: fetch_pb2.ResolveTask, secret_version: str) -> None:
        """A listing was asked for. What was asked about an earlier source of the model no longer matters."""
        self._asked[uid] = {task.source_key: listings.Asked(task.attempt, time.monotonic(), secret_version)}

    def listing_forgotten(self, uid: str, key: str) -> None:
        """A listing was removed: the source has to be asked for anew should the model come back to it."""
        self._asked.get(uid, {}).pop(key, None)

    def observed_of(self, uid: str) -> planning.Observed:
        """What planning decides from about one model."""
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
            placed=self._placements.nodes_of(uid),
            staying=self._placements.staying_of(uid),
            base=self._base_of(uid),
            use=self._use_of(uid),
            used={pod.node for pod in self._users_of(uid)},
            budget=self._budget_of(uid),
            announced_at=self._announced.get(uid),
            demanded=self._is_demanded(uid),
        )

    def decided(self, observed: planning.Observed, actions: Iterable[planning.Action]) -> None:
        """A plan was made, of which others must know what it takes of a budget before it is applied."""
        if observed.budget is None:
            return
        uid, namespace, created = observed.uid, observed.budget.namespace, observed.budget.created
        holding = {node: held.assignment for node, held in observed.held.items()}
        report = observed.plan
        for action in actions:
            match action:
                case planning.Assign(node, assignment):
                    holding[node] = assignment
                case planning.Report(told):
                    report = told
        # Also what is decided anew: meanwhile the stored plan may have been the one before.
        waiting = self._budgets.wait(uid, namespace, created, report.awaited_bytes if report else 0)
        for node in {*holding, *self._budgets.charged_nodes(uid)}:
            charge = charge_of(holding[node].artifact) if node in holding else None
            waiting |= self._budgets.charge(uid, namespace, node, charge)
        self._look_for_room(waiting)

    def _charge(self, node: str, uid: str) -> None:
        """Count what a node is to hold of a model against the budget of its namespace."""
        if not self._budgets.any:
            return
        assignment = self.desired.get(names.node_key(node, uid))
        namespace = assignment.model.namespace if assignment else ""
        charge = charge_of(assignment.artifact) if assignment else None
        self._look_for_room(self._budgets.charge(uid, namespace, node, charge))

    def _refresh_waiting(self, uid: str) -> None:
        """Count what a model waits for by its stored plan, as after a restart."""
        model, plan = self._specs.get(uid), self.plans.get(uid)
        if model:
            awaited = plan.awaited_bytes if plan else 0
            self._look_for_room(self._budgets.wait(uid, model.ref.namespace, model.created, awaited))

    def _look_for_room(self, waiting: Iterable[str]) -> None:
        for uid in waiting:
            self._changed_later(uid, _ROOM_SECONDS)

    def _budget_of(self, uid: str) -> Account | None:
        model = self._specs.get(uid)
        return self._budgets.account(uid, model.ref.namespace, model.created) if model else None

    def observed_if(self, item: Object) -> planning.Observed:
        """What planning would decide from, were an object applied as it is here: as a new model, or as an edit of one.

        May raise any error of the wrong type, where the object is not as the CRD has it.
        """
        uid = self._uid_of(posted_ref(item))
        known = self._items.get(uid, {"metadata": {}})["metadata"]
        # What the API server writes is not for a manifest to say.
        metadata = {key: item["metadata"][key] for key in _WRITTEN_BY_PEOPLE if key in item["metadata"]}
        metadata |= {"uid": uid, "generation": known.get("generation", 0) + 1}
        model = read_model({"kind": item["kind"], "metadata": metadata, "spec": item.get("spec")})
        # One that does not exist yet would be the youngest.
        created = known.get("creationTimestamp") or "9999"
        places = model.base.places if model.base else ()
        base = next((found for place in places if (found := self._bases.base_at(*place))), "")
        return replace(
            self.observed_of(uid),
            model=model,
            # As it is, while others go on.
            nodes=dict(self._views),
            base=self._specs.get(base),
            budget=self._budgets.account(uid, model.ref.namespace, created),
            resolutions={},
            asked={},
            heard={},
            plan=None,
            placed=None,
            staying=frozenset(),
        )

    def residents(self, node: str) -> list[Resident]:
        """The copies on a node that models lead to, as far as it is known here: when one was used last is not."""
        by_digest: defaultdict[str, list[tuple[str, fetch_pb2.Assignment]]] = defaultdict(list)
        for uid in self._held_by.get(node, ()):
            key = names.node_key(node, uid)
            assignment, state = self.desired.get(key), self.observed.get(key)
            if assignment and state and state.phase == model_pb2.NODE_PHASE_READY and state.artifact.digest:
                by_digest[state.artifact.digest].append((uid, assignment))
        return [
            Resident(
                digest=digest,
                models=tuple(uid for uid, _ in holders),
                bytes=holders[0][1].artifact.bytes,
                last_used=0.0,
                evictable=all(each.residency == fetch_pb2.RESIDENCY_EVICTABLE for _, each in holders),
                used=any(pod.node == node for uid, _ in holders for pod in self.pods.index.users_of(uid)),
            )
            for digest, holders in by_digest.items()
        ]

    def path_on_nodes(self, uid: str) -> str:
        """Where a model's storage says that it lies; empty where that is left to the nodes."""
        model = self._specs.get(uid)
        return str((model.storage or {}).get("path") or "") if model else ""

    def _uid_of(self, ref: model_pb2.ModelRef) -> str:
        named = (ref.kind, ref.namespace, ref.name)
        refs = (spec.ref for spec in self._specs.values() if not spec.deleting)
        return next((each.uid for each in refs if (each.kind, each.namespace, each.name) == named), "")

    def _model_at(self, place: Place) -> Object | None:
        return self._items.get(self._bases.base_at(*place) or "")

    def _demand_changed(self, place: Place) -> None:
        if uid := self._bases.base_at(*place):
            self._changed(uid)

    def _is_demanded(self, uid: str) -> bool:
        if uid not in self._items:
            return False
        place = _place_of(self._items[uid])
        # A FineTunedWeight may have the name of another model.
        is_awaited = self._bases.base_at(*place) == uid and self.gates.is_awaited(place)
        return is_awaited or self.services.is_wanted(uid) or self._is_missed(uid)

    def _is_missed(self, uid: str) -> bool:
        """Whether a Pod names a model that no node has, and has found no node yet: it may select those that have it."""
        waiting = self.pods.index.waiting_for(uid)
        if not waiting or gates.may_start(self._items[uid]):
            return False
        return any(use.names_model(pod, self._specs[uid].ref) for pod in waiting)

    def _base_of(self, uid: str) -> ModelSpec | None:
        return self._specs.get(self._bases.base_of(uid) or "")

    def _place(self, uid: str) -> bool:
        """Place a model by the selectors that count for it now, and say whether these are others than before."""
        model = self._specs.get(uid)
        if model is None:
            return False
        return self._placements.model_changed(uid, placement_of(model, self._base_of(uid)))

    def _use_of(self, uid: str) -> fetch_pb2.ModelUse | None:
        model = self._specs.get(uid)
        return use.summary(self._users_of(uid), model.ref, self._name_all_pods) if model else None

    def _users_of(self, uid: str) -> Iterator[use.PodView]:
        """The Pods that use a model, where nodes have something of it."""
        holders = self._holders.get(uid, ())
        return (pod for pod in self.pods.index.users_of(uid) if pod.node in holders)

    def _awaits_listing(self, model: ModelSpec) -> bool:
        source = self.source_of(model)
        if source is None or not source.needs_listing or model.disabled:
            return False
        listing = self.resolved.get(source.key)
        # Without a digest it was read in place, which is looked at again: a driver may want the secret then.
        if listing is None or not listing.artifact.digest or model.follows:
            return True
        # It is listed once more when a node no longer finds what was listed, or has found it incomplete.
        keys = [names.node_key(node, model.ref.uid) for node in self._holders.get(model.ref.uid, ())]
        held = [(self.observed.get(key), assignment) for key in keys if (assignment := self.desired.get(key))]
        return any(listings.why_again((state,), assignment) for state, assignment in held)

    def _holds(self, node: str, uid: str) -> None:
        # Two strings for each pair of a large fleet would be more than all that is known of it.
        node, uid = sys.intern(node), sys.intern(uid)
        self._holders[uid].add(node)
        self._held_by[node].add(uid)

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
        if before == after:
            return
        # The selectors say which labels matter; what else a view tells concerns those that are placed on the node or
        # held by it. Of a fleet that holds a hundred models everywhere, hardly a change of a node concerns any.
        concerned = self._placements.node_changed(name, after.labels if after else None)
        held = self._held_by.get(name, set())
        if before is None or after is None or _accepts(before) != _accepts(after):
            concerned |= held | {uid for uid in self._specs if name in self._placements.nodes_of(uid)}
        elif (before.unreachable_since, before.pool) != (after.unreachable_since, after.pool):
            concerned |= {uid for uid in held if self._is_letting_go(name, uid) or self._is_rolling_out(uid)}
            concerned |= {
                uid for uid in self._specs if uid not in self._listings and name in self._placements.nodes_of(uid)
            }
            if after.unreachable_since is None:
                # A fetcher is heard of for the first time, perhaps, on a node that was thought to have none.
                concerned |= {uid for uid in self._specs if name in self._placements.nodes_of(uid)} - held
        for uid in concerned:
            self._changed_soon(uid)

    def _is_rolling_out(self, uid: str) -> bool:
        plan = self.plans.get(uid)
        return plan is not None and plan.HasField("rollout")

    def _is_letting_go(self, node: str, uid: str) -> bool:
        assignment = self.desired.get(names.node_key(node, uid))
        return assignment is None or assignment.goal != fetch_pb2.GOAL_HOLD


def _path_of(item: Object) -> str:
    """Where a model lies on nodes, as far as its object tells."""
    storage, status = (item.get("spec") or {}).get("storage") or {}, item.get("status") or {}
    path = storage.get("path") or status.get("path") or ""
    return posixpath.normpath(path) if path else ""


def _place_of(item: Object) -> Place:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _accepts(view: planning.NodeView) -> tuple[object, ...]:
    """What of a node decides whether it gets models that it does not have."""
    return view.accepts_new, view.taints


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


def project_node(node: Object) -> Object:
    """The parts of a Node that are read here: a fleet's nodes have megabytes of others, our own labels among them."""
    metadata, conditions = node["metadata"], (node.get("status") or {}).get("conditions") or ()
    spec = node.get("spec") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if not is_model_label(key)}
    return {
        "metadata": {key: metadata[key] for key in ("name", "uid", "resourceVersion")} | {"labels": labels},
        "spec": {key: spec[key] for key in ("unschedulable", "taints") if key in spec},
        "status": {"conditions": [each for each in conditions if each.get("type") == "Ready"]},
    }


@functools.lru_cache(maxsize=_SHARED_VALUES)
def decode_assignment(data: bytes) -> fetch_pb2.Assignment:
    """An assignment, in one message for all nodes that have the same."""
    return fetch_pb2.Assignment.FromString(data)


def decode_state(data: bytes) -> fetch_pb2.NodeModelState:
    """What planning reads of a node's state, in one message for all nodes that say the same."""
    state = fetch_pb2.NodeModelState.FromString(data)
    kept = fetch_pb2.NodeModelState(
        phase=state.phase,
        update=state.update,
        content_digest=state.content_digest,
        problem=fetch_pb2.Problem(reason=state.problem.reason),
        # What readers see there, which counts where nobody has told the node what to hold.
        artifact=model_pb2.Artifact(digest=state.artifact.digest) if state.artifact.digest else None,
        # Whether a node has let go in answer to the present assignment.
        assignment_revision=state.assignment_revision if state.phase == model_pb2.NODE_PHASE_DELETED else 0,
    )
    return _shared_state(kept.SerializeToString(deterministic=True))


@functools.lru_cache(maxsize=_SHARED_VALUES)
def _shared_state(data: bytes) -> fetch_pb2.NodeModelState:
    return fetch_pb2.NodeModelState.FromString(data)


def view_node(
    node: Mapping[str, Any], heartbeat: fetch_pb2.NodeHeartbeat | None, unreachable_since: float | None
) -> planning.NodeView:
    """A Node as planning sees it."""
    return planning.NodeView(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        accepts_new=is_ready(node) and not (node.get("spec") or {}).get("unschedulable"),
        unreachable_since=unreachable_since,
        pool=pool_of(heartbeat) if heartbeat else planning.DEFAULT_POOL,
        taints=taints_of(node),
    )


def pool_of(heartbeat: fetch_pb2.NodeHeartbeat) -> str:
    """The pool whose sources a fetcher can list."""
    return heartbeat.pool if _POOL.fullmatch(heartbeat.pool) else planning.DEFAULT_POOL
