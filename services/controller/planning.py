"""Decides, for one model, what has to change: finalizer, assignments of nodes, deletion.

The listing of a source is decided in listings, a model in a PersistentVolumeClaim in volumes; both become part of the
plan.

Pure: `plan` is total and deterministic, empty when everything is as it should be, and each action is safe to repeat.
Applying the actions, in order and up to the first failure, is for the loop.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.specification import DEMAND_PRIORITY
from libs.model.matching import group_misses, nearest_misses
from libs.model.placement import check_placement, is_placed, names_node
from libs.model.problems import new_problem
from libs.model.tolerations import Taint, untolerated
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import bases, listings, rollout, volumes
from services.controller.budgets import Account
from services.controller.revisions import (
    kept_revisions,
    named_revision,
    recorded_pinned,
    shown_revision,
    source_at,
    with_revision,
)
from services.controller.specification import (
    ModelSource,
    ModelSpec,
    SecretRef,
    SecretRules,
    check_paths,
    source_of,
    trust_scopes,
)

DEFAULT_POOL = "default"


@dataclass(frozen=True)
class NodeView:
    """One Node of the API and what its fetcher says of itself."""

    name: str
    labels: Mapping[str, str]
    accepts_new: bool
    unreachable_since: float | None
    pool: str = DEFAULT_POOL
    # Those that keep away what does not tolerate them.
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True)
class Held:
    """The assignment of a node and its revision."""

    revision: int
    assignment: fetch_pb2.Assignment


@dataclass(frozen=True)
class Observed:
    """All that is known about one model. model is None when its object no longer exists."""

    uid: str
    model: ModelSpec | None
    nodes: Mapping[str, NodeView]
    held: Mapping[str, Held]
    states: Mapping[str, fetch_pb2.NodeModelState]
    resolutions: Mapping[str, fetch_pb2.Resolution]
    asked: Mapping[str, listings.Asked]
    plan: fetch_pb2.ModelPlan | None
    volume: volumes.Seen = field(default_factory=volumes.Seen)
    # States of Secrets by namespace and name: of those that were looked at because something failed.
    secret_states: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # When each resolution was heard of, by the clock that plan is told; one without an entry is an old one.
    heard: Mapping[str, float] = field(default_factory=dict)
    # What is to be added to the time that plan is told for the time of day.
    clock_offset: float = 0.0
    # Nodes that match the selectors that place the model; None when nobody has kept that, and it is to be found out.
    placed: Set[str] | None = None
    # Those on which it may stay if they hold it; more only where it selects by how much room nodes have.
    staying: Set[str] = frozenset()
    # Whether somebody waits for the model.
    demanded: bool = False
    # The base of a FineTunedWeight; None when it does not exist.
    base: ModelSpec | None = None
    # The Pods that use the model now, on nodes that have something of it; None when there are none.
    use: fetch_pb2.ModelUse | None = None
    # All nodes on which they are, of which use names some.
    used: Set[str] = frozenset()
    # The budget of the model's namespace, if it has one.
    budget: Account | None = None
    # When the hub of a source that the model follows has last announced a change, by the clock that plan is told.
    announced_at: float | None = None


@dataclass(frozen=True)
class Rules:
    """What the operator's settings decide. Times in seconds."""

    operator_namespace: str
    node_unreachable_seconds: float
    retry_initial_seconds: float
    retry_max_seconds: float
    volume_inspect_seconds: float = 3600.0
    secrets: SecretRules = field(default_factory=SecretRules)
    # Whether models with a namespace stay in their own folder on the nodes.
    confines: bool = False
    # How often a model that follows its source has it listed, unless it says so itself.
    follow_seconds: float = 3600.0


@dataclass(frozen=True)
class AddFinalizer:
    """Hold the object back until every node has let go of the model."""

    reason: str


@dataclass(frozen=True)
class RemoveFinalizer:
    """Let the object go."""

    reason: str


@dataclass(frozen=True)
class Assign:
    """Write what a node must hold, if its assignment still has the given revision (0: it has none)."""

    node: str
    assignment: fetch_pb2.Assignment
    last_revision: int
    reason: str


@dataclass(frozen=True)
class Forget:
    """Remove the desired and observed keys of a node."""

    node: str
    reason: str


@dataclass(frozen=True)
class ForgetListing:
    """Remove the listing of a source that the model no longer has."""

    key: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Tell the status service what was decided."""

    plan: fetch_pb2.ModelPlan
    reason: str


@dataclass(frozen=True)
class Unreport:
    """Remove what was decided about a model that is gone."""

    reason: str


Action = (
    AddFinalizer
    | RemoveFinalizer
    | listings.AskForListing
    | Assign
    | Forget
    | ForgetListing
    | Report
    | Unreport
    | volumes.CreateJob
    | volumes.DeleteJob
)


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they must happen, and when to look again, in seconds from now."""

    actions: tuple[Action, ...] = ()
    look_again_seconds: float | None = None
    # The Secret of which any change is a reason to look again at once.
    awaited_secret: SecretRef | None = None


@dataclass
class _Intent:
    """What a living model asks for, before it is compared with what is there."""

    report: fetch_pb2.ModelPlan
    source: ModelSource | None = None
    # Nodes that must hold the model now, and how. A node that holds it and is in neither of the sets lets it go.
    assign: dict[str, fetch_pb2.Assignment] = field(default_factory=dict)
    keep: set[str] = field(default_factory=set)
    ask: listings.AskForListing | None = None
    create: volumes.CreateJob | None = None
    delete: tuple[volumes.DeleteJob, ...] = ()
    look_again_seconds: float | None = None
    awaited_secret: SecretRef | None = None

    def look_again_in(self, seconds: float | None) -> None:
        """Look again after so many seconds, or earlier if that was decided already."""
        waits = (self.look_again_seconds, seconds)
        self.look_again_seconds = min((wait for wait in waits if wait is not None), default=None)


def plan(observed: Observed, rules: Rules, now: float) -> Plan:
    """What to do about one model; now is the time of a clock of this process that is never set."""
    if observed.model is None or observed.model.deleting:
        return _plan_removal(observed, rules, now)
    return _plan_life(observed, observed.model, rules, now)


def _plan_removal(observed: Observed, rules: Rules, now: float) -> Plan:
    actions: list[Action] = []
    waits: list[float] = []
    remaining = False
    # Last in any case: they go with the object by themselves, and must not hold it up.
    jobs = _delete_jobs(observed, "the model is deleted")
    for node in sorted({*observed.held, *observed.states}):
        action, wait = _let_go(observed, node, "the model is deleted", rules, now)
        if isinstance(action, Forget):
            actions.append(action)
            continue
        remaining = True
        if action:
            actions.append(action)
        if wait is not None:
            waits.append(wait)
    if remaining:
        if observed.plan:
            report = fetch_pb2.ModelPlan()
            report.CopyFrom(observed.plan)
            report.deleting = True
            report.ClearField("awaited_bytes")
            _set_use(report, observed)
            if report != observed.plan:
                actions.append(Report(report, "the model is deleted"))
        return Plan((*actions, *jobs), min(waits, default=None))
    actions += [ForgetListing(key, "the model is deleted") for key in sorted(observed.resolutions)]
    if observed.plan:
        actions.append(Unreport("no node holds the model"))
    if observed.model and observed.model.has_finalizer:
        actions.append(RemoveFinalizer("no node holds the model"))
    return Plan((*actions, *jobs))


def _plan_life(observed: Observed, model: ModelSpec, rules: Rules, now: float) -> Plan:
    intent = _intend(observed, model, rules, now)
    actions: list[Action] = []
    waits = [] if intent.look_again_seconds is None else [intent.look_again_seconds]
    if not model.has_finalizer and (intent.ask or intent.assign or observed.held):
        actions.append(AddFinalizer("nodes are about to hold the model"))
    if intent.ask:
        actions.append(intent.ask)
    # A fleet shares few messages, which need not be compared for each node.
    same: dict[tuple[int, int], bool] = {}
    for node, assignment in sorted(intent.assign.items(), key=lambda item: item[0]):
        held = observed.held.get(node)
        if held:
            pair = id(held.assignment), id(assignment)
            if pair not in same:
                same[pair] = _same(held.assignment, assignment)
        if held is None or not same[pair]:
            actions.append(Assign(node, assignment, held.revision if held else 0, "the node must hold the model"))
    for node in sorted({*observed.held, *observed.states} - intent.assign.keys() - intent.keep):
        action, wait = _let_go(observed, node, "the node is no longer meant to hold the model", rules, now)
        if action:
            actions.append(action)
        if wait is not None:
            waits.append(wait)
    if intent.source or intent.report.HasField("volume"):
        actions += [
            ForgetListing(key, "the source has changed")
            for key in sorted(observed.resolutions)
            if intent.source is None or key != intent.source.key
        ]
    _set_use(intent.report, observed)
    if observed.plan != intent.report:
        actions.append(Report(intent.report, "the decision has changed"))
    # Only now: what a Job has found is stored before it goes, and what keeps the next from starting holds up nothing.
    actions += intent.delete
    if intent.create:
        actions.append(intent.create)
    return Plan(tuple(actions), min(waits, default=None), intent.awaited_secret)


def _set_use(report: fetch_pb2.ModelPlan, observed: Observed) -> None:
    report.ClearField("use")
    if observed.use:
        report.use.CopyFrom(observed.use)


def _intend(observed: Observed, model: ModelSpec, rules: Rules, now: float) -> _Intent:
    holding = _holding(observed)
    existing = {node for node in holding if node in observed.nodes}
    intent = _Intent(
        fetch_pb2.ModelPlan(
            model=model.ref,
            generation=model.generation,
            spec_digest=model.spec_digest,
            disabled=model.disabled,
            history=observed.plan.history if observed.plan else model.recorded_history,
            pinned=observed.plan.pinned if observed.plan and observed.plan.HasField("pinned") else None,
        )
    )
    if model.disabled:
        # Disabling removes nothing and starts nothing.
        _keep(intent, existing, observed, model)
        intent.report.desired_nodes.extend(sorted(existing))
        if existing:
            intent.report.artifact.CopyFrom(_artifact_of(min(existing), observed, model))
        if observed.plan and observed.plan.HasField("volume"):
            intent.report.volume.CopyFrom(observed.plan.volume)
        intent.report.problem.CopyFrom(
            new_problem(Reason.DISABLED, "spec.disabled is true: no download starts; existing copies stay")
        )
        return intent
    try:
        place = volumes.place_of(model)
        intent.source = source_of(model, rules.operator_namespace, rules.secrets)
        placement = bases.placement_of(model, observed.base)
        check_placement(placement or {})
        check_paths(model, rules.confines)
    except InvalidValue as error:
        # What the nodes hold is better than nothing while the spec cannot be used.
        _keep(intent, existing, observed, model)
        intent.delete = _delete_jobs(observed, "the spec cannot be used")
        intent.report.desired_nodes.extend(sorted(existing))
        intent.report.problem.CopyFrom(new_problem(error.reason, error.message, fetch_pb2.PROBLEM_CLASS_INVALID))
        return intent
    if place is not None:
        _intend_volume(intent, place, observed, model, rules, now)
        if not intent.report.volume.inspection.HasField("found_at"):
            _keep(intent, existing, observed, model)
        return intent
    intent.delete = _delete_jobs(observed, "the model is no longer read from a claim")
    if intent.source is None:
        intent.report.problem.CopyFrom(
            new_problem(Reason.NO_STORAGE, "the model has no storage: there is nothing to fetch")
        )
        return intent
    if placement is None:
        _await_base(intent, observed, model, holding)
        return intent
    _restore_pinned(intent, intent.source, observed, model)
    _intend_nodes(intent, intent.source, observed, model, placement, holding, rules, now)
    return intent


def _restore_pinned(intent: _Intent, source: ModelSource, observed: Observed, model: ModelSpec) -> None:
    """Take the revision that a model is pinned to from its status where the plan has been lost, as with NATS's data."""
    if observed.plan is not None or model.follows or model.named_revision:
        return
    same = model.recorded if model.recorded_generation == model.generation else model_pb2.Artifact()
    if pinned := recorded_pinned(model.recorded_history, same, source.key):
        intent.report.pinned.CopyFrom(pinned)


def _await_base(intent: _Intent, observed: Observed, model: ModelSpec, holding: set[str]) -> None:
    """Leave a weight where it is as long as nothing says where it is to be."""
    existing = {node for node in holding if node in observed.nodes}
    _keep(intent, existing, observed, model)
    intent.report.desired_nodes.extend(sorted(existing))
    _adopt(intent, observed, model)
    missing = model.base.missing if model.base else "spec.baseModelRef names no base"
    why = f"{missing}: its nodes get the weights, as these have no nodeSelector and no nodeAffinity of their own"
    intent.report.problem.CopyFrom(new_problem(Reason.BASE_NOT_FOUND, why))


def _holding(observed: Observed) -> set[str]:
    """Nodes that have something of the model: as they were told, or as they say although nothing tells them to.

    NATS may have lost what they were told. So nothing is taken away from them because a key is missing.
    """
    told = {node for node, held in observed.held.items() if held.assignment.goal != fetch_pb2.GOAL_ABSENT}
    return told | {node for node, state in observed.states.items() if _claims(node, state, observed)}


def _claims(node: str, state: fetch_pb2.NodeModelState, observed: Observed) -> bool:
    """Whether a node says that it has something of the model although no assignment is stored for it."""
    return node not in observed.held and state.phase != model_pb2.NODE_PHASE_DELETED


def _keep(intent: _Intent, nodes: Iterable[str], observed: Observed, model: ModelSpec) -> None:
    """Leave nodes as they are, and say so to those that have not been told anything.

    What a node claims earns it nothing but this: no credentials, and no say in what others hold.
    """
    history = intent.report.history
    present = model.recorded if model.recorded.digest or not history else history[0].artifact
    kept = fetch_pb2.Assignment(
        model=model.ref,
        goal=fetch_pb2.GOAL_KEEP,
        generation=model.generation,
        artifact=model.recorded,
        kept_revisions=kept_revisions(history, present, model.kept_revisions),
    )
    for node in nodes:
        held = observed.held.get(node)
        if held and held.assignment.goal != fetch_pb2.GOAL_ABSENT:
            intent.keep.add(node)
        else:
            intent.assign[node] = kept


def _artifact_of(node: str, observed: Observed, model: ModelSpec) -> model_pb2.Artifact:
    """What a node is to hold or, where nobody tells it, what the status says; never what the node alone says."""
    held = observed.held.get(node)
    return held.assignment.artifact if held and held.assignment.artifact.digest else model.recorded


def _adopt(intent: _Intent, observed: Observed, model: ModelSpec) -> None:
    """Go on reporting what is known of this very spec while its source is not listed, as after NATS has lost its data.

    What is known is what was decided before or the object's own status, never what a node alone says. Where all nodes
    hold it, the listing that is missing is no problem.
    """
    before = observed.plan
    if before and before.spec_digest == model.spec_digest and before.artifact.digest:
        known = before.artifact
    elif model.recorded.digest and model.recorded_generation == model.generation:
        known = model.recorded
    else:
        return
    intent.report.artifact.CopyFrom(known)
    states = (observed.states.get(node) for node in intent.report.desired_nodes)
    if all(_is_ready_with(state, known.digest) for state in states):
        intent.report.ClearField("problem")


def _is_ready_with(state: fetch_pb2.NodeModelState | None, digest: str) -> bool:
    return state is not None and _is_settled(state) and state.artifact.digest == digest


def _is_settled(state: fetch_pb2.NodeModelState) -> bool:
    """Whether a node holds what it is to hold, rather than a good copy of something earlier."""
    return state.phase == model_pb2.NODE_PHASE_READY and not state.update


def _intend_volume(
    intent: _Intent, place: volumes.ClaimDirectory, observed: Observed, model: ModelSpec, rules: Rules, now: float
) -> None:
    before = observed.plan.volume if observed.plan else fetch_pb2.Volume()
    paces = volumes.VolumeRules(rules.volume_inspect_seconds, rules.retry_initial_seconds, rules.retry_max_seconds)
    look = volumes.look(model, place, observed.volume, before, paces, now, now + observed.clock_offset)
    intent.report.volume.CopyFrom(look.volume)
    if look.problem:
        intent.report.problem.CopyFrom(look.problem)
    intent.create, intent.delete, intent.look_again_seconds = look.create, look.delete, look.look_again_seconds


def _delete_jobs(observed: Observed, reason: str) -> tuple[volumes.DeleteJob, ...]:
    return tuple(volumes.delete_job(job, reason) for job in observed.volume.jobs if not job.deleting)


def _intend_nodes(
    intent: _Intent,
    source: ModelSource,
    observed: Observed,
    model: ModelSpec,
    placement: Mapping[str, Any],
    holding: set[str],
    rules: Rules,
    now: float,
) -> None:
    storage = model.storage or {}
    if observed.placed is None:
        views = observed.nodes.values()
        matching = [each for each in views if is_placed(placement, each.name, each.labels, each.name in holding)]
    else:
        # Both are small beside the fleet where they differ.
        staying = (observed.staying & holding) - observed.placed
        matching = [observed.nodes[node] for node in (*observed.placed, *staying) if node in observed.nodes]
    matched, (matching, waits) = matching, _with_fetchers(matching, observed, placement, rules, now)
    intent.look_again_in(min(waits, default=None))
    # A node that has the model keeps it, whatever keeps others away: taints come and go with repairs.
    kept_away = {view.name: taint for view in matching if (taint := untolerated(placement, view.taints))}
    desired = sorted(
        view.name for view in matching if view.name in holding or (view.accepts_new and view.name not in kept_away)
    )
    intent.report.desired_nodes.extend(desired)
    if not desired:
        if matched and not matching:
            why = f"no fetcher reports from {_some(view.name for view in matched)}"
        elif kept_away:
            why = _why_kept_away(kept_away, len(matching))
        elif len(matching) == 1:
            why = f"node {matching[0].name} matches but is cordoned or not ready"
        elif matching:
            why = f"all {len(matching)} matching nodes are cordoned or not ready"
        else:
            why = _why_nowhere(model, placement, observed.nodes.values())
        intent.report.problem.CopyFrom(new_problem(Reason.NO_MATCHING_NODE, why))
        return
    artifact = model_pb2.Artifact()
    scopes: tuple[str, ...] = ()
    if source.needs_listing:
        resolution = observed.resolutions.get(source.key)
        if resolution is None or not resolution.HasField("artifact"):
            _keep(intent, {node for node in desired if node in holding or model.recorded.digest}, observed, model)
            case = _listing_case(source, observed, model, desired, rules, now)
            pinned_source = _pinned_source(intent, source, model)
            _heed(intent, listings.await_listing(replace(case, pinned_source=pinned_source)))
            _adopt(intent, observed, model)
            return
        try:
            artifact = _artifact_to_hold(intent, source, model, resolution)
        except InvalidValue as error:
            _keep(intent, {node for node in desired if node in holding}, observed, model)
            _adopt(intent, observed, model)
            intent.report.problem.CopyFrom(new_problem(error.reason, error.message, fetch_pb2.PROBLEM_CLASS_INVALID))
            return
        if artifact.digest:
            intent.report.artifact.CopyFrom(artifact)
            scopes = trust_scopes(model, source, resolution.secret_version)
        elif not storage.get("path"):
            _keep(intent, {node for node in desired if node in holding}, observed, model)
            why = (
                "storage.path must name the directory that the vendor's own tools fill: "
                f"the fetchers have no driver for {source.source.uri}"
            )
            intent.report.problem.CopyFrom(new_problem(Reason.INVALID_PATH, why, fetch_pb2.PROBLEM_CLASS_INVALID))
            case = _listing_case(source, observed, model, desired, rules, now)
            _heed(intent, listings.list_again(case, "a driver may have been added"))
            return
    assignment = fetch_pb2.Assignment(
        model=model.ref,
        goal=fetch_pb2.GOAL_HOLD,
        generation=model.generation,
        source=source.source,
        artifact=artifact,
        path=storage.get("path") or "",
        schema_path=storage.get("schemaPath") or "",
        skip_parsing=model.skip_parsing,
        priority=_priority(observed, model),
        trust_scopes=scopes,
        confined=rules.confines and bool(model.ref.namespace),
        in_use_grace_seconds=model.in_use_grace_seconds,
        residency=_residency(model, observed),
        demand=model.demand,
        kept_revisions=kept_revisions(intent.report.history, artifact, model.kept_revisions),
    )
    assignment.content_digest = _content_digest(assignment)
    intent.report.content_digest = assignment.content_digest
    withheld = _withheld(intent, observed, artifact, holding)
    if withheld:
        staying = withheld & holding
        _keep(intent, staying, observed, model)
        _assign(intent, source, observed, model, holding, assignment, frozenset(), excluded=withheld)
    else:
        staying = _stage(intent, source, observed, model, assignment, rules, now)
        _assign(intent, source, observed, model, holding, assignment, staying)
    if source.needs_listing:
        case = _listing_case(source, observed, model, desired, rules, now)
        _look_for_revisions(intent, case, observed, model, (assignment, *_held_by(staying, observed)), rules)


def _tell_of_failures(intent: _Intent, resolution: fetch_pb2.Resolution | None, observed: Observed) -> None:
    """Report since when a source that was listed before cannot be listed, and why."""
    if resolution is None or not resolution.HasField("problem"):
        return
    failure, before = intent.report.follow_failure, observed.plan
    if before and before.HasField("follow_failure"):
        failure.since.CopyFrom(before.follow_failure.since)
        failure.first_attempt = before.follow_failure.first_attempt
    else:
        failure.since.CopyFrom(resolution.resolved_at)
        failure.first_attempt = resolution.attempt
    failure.problem.CopyFrom(resolution.problem)
    failure.attempts = max(1, resolution.attempt - failure.first_attempt + 1)


def _withheld(intent: _Intent, observed: Observed, artifact: model_pb2.Artifact, holding: set[str]) -> frozenset[str]:
    """The nodes that do not get an artifact because the budget of the namespace lacks room: all that need bytes for it.

    What a node holds already stays, however small the budget has become. One that gets nothing new needs nothing.
    """
    if observed.budget is None:
        return frozenset()
    lacking = [
        node
        for node in intent.report.desired_nodes
        if (observed.nodes[node].accepts_new or node not in holding)
        and _assigned_digest(node, observed) != artifact.digest
        and not _is_ready_with(observed.states.get(node), artifact.digest)
    ]
    shortage = observed.budget.shortage(artifact, lacking)
    if shortage is None:
        return frozenset()
    # int64 on the wire.
    intent.report.awaited_bytes = min(2**63 - 1, shortage.needed_bytes)
    intent.report.problem.CopyFrom(new_problem(Reason.BUDGET_EXCEEDED, shortage.message))
    return frozenset(lacking)


def _assigned_digest(node: str, observed: Observed) -> str:
    held = observed.held.get(node)
    return held.assignment.artifact.digest if held and held.assignment.goal != fetch_pb2.GOAL_ABSENT else ""


def _residency(model: ModelSpec, observed: Observed) -> fetch_pb2.Residency:
    """Whether nodes may give the model up: not while somebody waits for it or a service names it."""
    if observed.demanded and model.residency == fetch_pb2.RESIDENCY_EVICTABLE:
        return fetch_pb2.RESIDENCY_UNSPECIFIED
    return model.residency


def _artifact_to_hold(
    intent: _Intent, source: ModelSource, model: ModelSpec, resolution: fetch_pb2.Resolution
) -> model_pb2.Artifact:
    """What was listed, with what is odd about it; or the earlier revision that a person names. Raises InvalidValue."""
    named = named_revision(intent.report.history, model.named_revision, source.key)
    if named is not None and named.artifact.digest != resolution.artifact.digest:
        return named.artifact
    intent.report.warnings.extend(resolution.warnings)
    if resolution.HasField("completeness"):
        intent.report.completeness.CopyFrom(resolution.completeness)
    return resolution.artifact


def _look_for_revisions(
    intent: _Intent,
    case: listings.Case,
    observed: Observed,
    model: ModelSpec,
    held: Sequence[fetch_pb2.Assignment],
    rules: Rules,
) -> None:
    """List the source again where nodes miss something of it, or where the model follows it."""
    states = [observed.states.get(node) for node in intent.report.desired_nodes]
    distinct = {each.content_digest: each for each in held}.values()
    why = next(filter(None, (listings.why_again(states, each) for each in distinct)), "")
    if _awaits_branch(observed, model, case.source):
        why = "nobody names a revision any more"
    if why and not model.named_revision:
        _heed(intent, listings.list_again(case, why))
    if model.follows and held[0].artifact.digest:
        _tell_of_failures(intent, case.resolution, observed)
        interval = (model.storage or {}).get("followIntervalSeconds") or rules.follow_seconds
        _heed(intent, listings.follow(case, float(interval)))


def _held_by(nodes: Iterable[str], observed: Observed) -> Iterator[fetch_pb2.Assignment]:
    return (observed.held[node].assignment for node in nodes if node in observed.held)


def _stage(
    intent: _Intent,
    source: ModelSource,
    observed: Observed,
    model: ModelSpec,
    assignment: fetch_pb2.Assignment,
    rules: Rules,
    now: float,
) -> frozenset[str]:
    """The nodes that stay with an earlier revision for now; the report says which and why, and gets its history."""
    report, artifact = intent.report, assignment.artifact
    if not artifact.digest:
        return frozenset()
    wall_seconds, lost_since = now + observed.clock_offset, now - rules.node_unreachable_seconds
    pinned = _pinned(intent, source)
    decision = rollout.Decision()
    if pinned and pinned.artifact.digest != artifact.digest and not (model.follows or model.named_revision):
        standings = [_standing(node, observed, artifact.digest, lost_since) for node in report.desired_nodes]
        decision = rollout.keep_lost(
            _holding_pinned(standings, pinned.artifact.digest, observed),
            shown_revision(artifact),
            shown_revision(pinned.artifact),
        )
    if not decision.staying:
        if not model.named_revision and not _awaits_branch(observed, model, source):
            report.pinned.CopyFrom(fetch_pb2.Revision(artifact=artifact, source_key=source.key))
        decision = _roll_out(intent, observed, model, artifact, wall_seconds, lost_since)
    history = with_revision(report.history, artifact, source.key, wall_seconds)
    del report.history[:]
    report.history.extend(history)
    if decision.staying:
        report.rollout.stage = decision.stage
        report.rollout.message = decision.message
        report.rollout.digest = artifact.digest
        report.rollout.staying_nodes.extend(sorted(decision.staying))
    intent.look_again_in(decision.look_again_seconds)
    return decision.staying


def _pinned(intent: _Intent, source: ModelSource) -> fetch_pb2.Revision | None:
    report = intent.report
    return report.pinned if report.HasField("pinned") and report.pinned.source_key == source.key else None


def _pinned_source(intent: _Intent, source: ModelSource, model: ModelSpec) -> fetch_pb2.Source | None:
    """The source at the revision that the model is pinned to, or that a person names, which is to be listed again: of
    that nodes need the manifest.
    """
    revision = None if model.follows else _pinned(intent, source)
    if model.named_revision:
        try:
            revision = named_revision(intent.report.history, model.named_revision, source.key)
        except InvalidValue:
            # Told once the source is listed.
            return None
    return source_at(source.source, revision.artifact.source_revision) if revision else None


def _awaits_branch(observed: Observed, model: ModelSpec, source: ModelSource) -> bool:
    """Whether what was listed is a revision that was named after a loss and is named no more: it is not known what the
    source has, as a pinned model would take it then.
    """
    before, resolution = observed.plan, observed.resolutions.get(source.key)
    if before is None or resolution is None or model.named_revision or model.follows:
        return False
    asked = observed.asked.get(source.key)
    answered = asked is not None and 1 < asked.attempt == resolution.attempt
    return bool(before.history) and not before.HasField("pinned") and not answered


def _holding_pinned(standings: Iterable[rollout.Standing], digest: str, observed: Observed) -> list[rollout.Standing]:
    """The nodes that hold the revision which the model is pinned to; also those that are told to keep it, after a loss,
    and have not said yet what they have.
    """
    found = []
    for each in standings:
        held = observed.held.get(each.node)
        if _held_digest(each.node, observed) == digest:
            found.append(each)
        elif held and each.node not in observed.states and held.assignment.goal == fetch_pb2.GOAL_KEEP:
            found += [replace(each, earlier=True)] if held.assignment.artifact.digest == digest else []
    return found


def _roll_out(
    intent: _Intent,
    observed: Observed,
    model: ModelSpec,
    artifact: model_pb2.Artifact,
    wall_seconds: float,
    lost_since: float,
) -> rollout.Decision:
    report = intent.report
    strategy = rollout.strategy_of(model.storage or {})
    if strategy == rollout.Strategy():
        # The usual case, which costs a large fleet nothing.
        return rollout.Decision()
    # Most nodes may have another one than the last, which was given up before it came to them.
    counts = Counter(_held_digest(node, observed) for node in report.desired_nodes)
    earlier = [each.artifact for each in report.history if each.artifact.digest != artifact.digest]
    most = max(earlier, key=lambda each: counts[each.digest], default=None)
    before = shown_revision(most) if most else "the revision that they have"
    standings = [_standing(node, observed, artifact.digest, lost_since) for node in report.desired_nodes]
    last = observed.plan.rollout if observed.plan and observed.plan.rollout.digest == artifact.digest else None
    tried_at = last.tried_at if last and last.HasField("tried_at") else None
    tried_seconds = None if tried_at is None else max(0.0, wall_seconds - tried_at.ToMilliseconds() / 1000)
    decision = rollout.roll_out(standings, strategy, tried_seconds, shown_revision(artifact), before)
    if decision.staying:
        waited_for = (observed.nodes[each.node] for each in standings if each.told and not (each.ready or each.lost))
        silent = [view.unreachable_since for view in waited_for if view.unreachable_since is not None]
        intent.look_again_in(min((since - lost_since for since in silent), default=None))
    if decision.tried and tried_at is not None:
        report.rollout.tried_at.CopyFrom(tried_at)
    elif decision.tried:
        report.rollout.tried_at.FromMilliseconds(int(wall_seconds * 1000))
    return decision


def _standing(node: str, observed: Observed, digest: str, lost_since: float) -> rollout.Standing:
    held, state, view = observed.held.get(node), observed.states.get(node), observed.nodes[node]
    held_digest = _held_digest(node, observed)
    told = held_digest == digest
    answers = held is not None and state is not None and state.content_digest == held.assignment.content_digest
    evicted = answers and state is not None and state.phase == model_pb2.NODE_PHASE_EVICTED
    return rollout.Standing(
        node=node,
        told=told,
        earlier=not told and bool(held_digest),
        ready=evicted or (answers and state is not None and _is_settled(state)),
        reason=state.problem.reason if answers and state is not None else model_pb2.REASON_UNSPECIFIED,
        available=view.accepts_new and view.unreachable_since is None,
        evicted=evicted,
        lost=view.unreachable_since is not None and view.unreachable_since <= lost_since,
    )


def _held_digest(node: str, observed: Observed) -> str:
    """What a node is to hold; what it says that it serves where it was only told to keep that, as after a loss."""
    held, state = observed.held.get(node), observed.states.get(node)
    if held is None or held.assignment.goal == fetch_pb2.GOAL_ABSENT:
        return ""
    if held.assignment.goal == fetch_pb2.GOAL_KEEP:
        return state.artifact.digest if state and _is_settled(state) else ""
    return held.assignment.artifact.digest


def _with_fetchers(
    matching: Sequence[NodeView], observed: Observed, placement: Mapping[str, Any], rules: Rules, now: float
) -> tuple[list[NodeView], list[float]]:
    """The nodes on which a fetcher runs or may be about to, and after how many seconds this may be another answer.

    A node whose fetcher has never said anything of the model, and does not report, probably has none. It is waited for
    if the plan counts on it already, for as long as a node may be unreachable; and always if the model names it.
    """
    before = observed.plan
    expected = set(before.desired_nodes) if before and before.spec_digest == _digest_of(observed) else None
    kept, waits = [], []
    for view in matching:
        silent = view.unreachable_since
        if silent is None or view.name in observed.states or names_node(placement, view.name):
            kept.append(view)
            continue
        remaining = silent + rules.node_unreachable_seconds - now
        if remaining > 0 and (expected is None or view.name in expected):
            kept.append(view)
            waits.append(remaining)
    return kept, waits


def _some(nodes: Iterable[str]) -> str:
    first, *others = sorted(nodes)
    return f"node {first}, which matches" if not others else f"the {len(others) + 1} nodes that match, such as {first}"


def _digest_of(observed: Observed) -> str:
    return observed.model.spec_digest if observed.model else ""


def _why_kept_away(kept_away: Mapping[str, Taint], matching: int) -> str:
    node, taint = min(kept_away.items(), key=lambda item: item[0])
    others = f"; of {matching} matching nodes, {len(kept_away)} are kept from it so" if matching > 1 else ""
    return f"node {node} has the taint {taint}, which storage.tolerations does not tolerate{others}"


def _why_nowhere(model: ModelSpec, storage: Mapping[str, Any], nodes: Iterable[NodeView]) -> str:
    """That no node matches, and what the nodes lack that come nearest.

    What they have instead is told to those who may write models for the cluster, not to every namespace.
    """
    groups = group_misses(storage, ((view.name, view.labels) for view in nodes))
    nearest = nearest_misses(groups, with_values=not model.ref.namespace)
    why = "no node matches storage.nodeSelector and storage.nodeAffinity"
    return f"{why}: {nearest}" if nearest else f"{why}: there are no nodes"


def _priority(observed: Observed, model: ModelSpec) -> int:
    # int32 on the wire.
    return min(2**31 - 1, model.priority + DEMAND_PRIORITY) if observed.demanded else model.priority


def _assign(
    intent: _Intent,
    source: ModelSource,
    observed: Observed,
    model: ModelSpec,
    holding: set[str],
    assignment: fetch_pb2.Assignment,
    staying: Set[str],
    excluded: Set[str] = frozenset(),
) -> None:
    """Give the nodes that must hold the model, but for those excluded, their assignment with their credentials.

    Those that stay are left alone; of these, a node that holds nothing gets what the others stay with.
    """
    earlier = _earlier(staying, observed)
    # Nodes differ in nothing else, and there may be thousands of them.
    by_word: dict[tuple[str, _NodePart], fetch_pb2.Assignment] = {}
    for node in intent.report.desired_nodes:
        if node in excluded:
            continue
        if node in holding and not observed.nodes[node].accepts_new:
            # A cordoned or unready node keeps what it has and gets nothing new.
            _keep(intent, {node}, observed, model)
        elif node in staying:
            held = observed.held.get(node)
            if earlier is None or (held and held.assignment.goal == fetch_pb2.GOAL_HOLD):
                _keep(intent, {node}, observed, model)
            else:
                intent.assign[node] = earlier
        else:
            state = observed.states.get(node)
            if state and listings.awaits_credentials(source, state.problem):
                intent.awaited_secret = source.secret
            version = _secret_version(source, observed, node, node in holding)
            part = _part_of(node, model, observed, assignment)
            if (version, part) not in by_word:
                by_word[version, part] = part.of(_with_credentials(assignment, version))
            intent.assign[node] = by_word[version, part]


@dataclass(frozen=True)
class _NodePart:
    """What one node's assignment says on its own."""

    verify: str
    demand: str
    residency: fetch_pb2.Residency

    def of(self, assignment: fetch_pb2.Assignment) -> fetch_pb2.Assignment:
        """The assignment of such a node."""
        own = fetch_pb2.Assignment()
        own.CopyFrom(assignment)
        own.verify, own.demand, own.residency = self.verify, self.demand, self.residency
        return own


def _part_of(node: str, model: ModelSpec, observed: Observed, assignment: fetch_pb2.Assignment) -> _NodePart:
    """What is asked of a node: one gives its copy up only if all might, and as long as no Pod is known to use it."""
    residency = assignment.residency
    evictable = residency == fetch_pb2.RESIDENCY_EVICTABLE and node not in observed.used
    if evictable and node in model.requests.evicted:
        residency = fetch_pb2.RESIDENCY_EVICTED
    verify = model.requests.verify_on(node) if assignment.artifact.digest else ""
    return _NodePart(verify, model.requests.demand_on(node, assignment.demand), residency)


def _earlier(staying: Set[str], observed: Observed) -> fetch_pb2.Assignment | None:
    """The assignment that most of the nodes which stay have."""
    held = {each.content_digest: each for each in _held_by(sorted(staying), observed) if each.artifact.digest}
    counts = Counter(each.content_digest for each in _held_by(staying, observed) if each.artifact.digest)
    best = max(counts, key=lambda content: (counts[content], content), default=None)
    return None if best is None else held[best]


def _secret_version(source: ModelSource, observed: Observed, node: str, is_holding: bool) -> str:
    """Version of the credentials for a node: that which it was given first, until it fails and they have changed."""
    state, resolution = observed.states.get(node), observed.resolutions.get(source.key)
    if state and listings.awaits_credentials(source, state.problem):
        current = listings.secret_version_of(source, observed.secret_states)
        if current:
            return current
    if is_holding and node in observed.held:
        return observed.held[node].assignment.secret_version
    return resolution.secret_version if resolution else ""


def _listing_case(
    source: ModelSource, observed: Observed, model: ModelSpec, desired: Sequence[str], rules: Rules, now: float
) -> listings.Case:
    # A node without a fetcher is taken for one of the default pool, on whose queue nobody may be working.
    views = [observed.nodes[node] for node in desired]
    _, pool = min((view.unreachable_since is not None, view.pool) for view in views)
    return listings.Case(
        model=model.ref,
        generation=model.generation,
        source=source,
        resolution=observed.resolutions.get(source.key),
        heard_at=observed.heard.get(source.key, 0.0),
        asked=observed.asked.get(source.key),
        secret_version=listings.secret_version_of(source, observed.secret_states),
        pool=pool,
        retry_initial_seconds=rules.retry_initial_seconds,
        retry_max_seconds=rules.retry_max_seconds,
        now=now,
        resolved_at=_resolved_at(observed, source.key),
        announced_at=observed.announced_at,
    )


def _resolved_at(observed: Observed, source_key: str) -> float:
    """When a source was listed, by the clock that plan is told, if that of the node which did it is right."""
    resolution = observed.resolutions.get(source_key)
    return resolution.resolved_at.ToMilliseconds() / 1000 - observed.clock_offset if resolution else 0.0


def _heed(intent: _Intent, decision: listings.Decision) -> None:
    """Take what was decided about the listing into the intent, beside what was decided already."""
    intent.ask = intent.ask or decision.ask
    intent.look_again_in(decision.look_again_seconds)
    if decision.problem:
        intent.report.problem.CopyFrom(decision.problem)
    if decision.awaited_secret:
        intent.awaited_secret = decision.awaited_secret


def _with_credentials(assignment: fetch_pb2.Assignment, version: str) -> fetch_pb2.Assignment:
    copy = fetch_pb2.Assignment()
    copy.CopyFrom(assignment)
    copy.secret_version = version
    return copy


def _let_go(observed: Observed, node: str, reason: str, rules: Rules, now: float) -> tuple[Action | None, float | None]:
    """One step towards a node without the model, and after how many seconds to look again.

    The keys go when the node has confirmed, no longer exists, or has been unreachable for the configured time.
    """
    view = observed.nodes.get(node)
    if view is None:
        return Forget(node, "the node no longer exists"), None
    held, state = observed.held.get(node), observed.states.get(node)
    if held is None and (state is None or state.phase == model_pb2.NODE_PHASE_DELETED):
        return Forget(node, "nothing is assigned to the node"), None
    absence = _absence(observed, held, state, now)
    if held is None or held.assignment.goal != fetch_pb2.GOAL_ABSENT:
        return Assign(node, absence, held.revision if held else 0, reason), None
    if _terms(held.assignment) != _terms(absence):
        return Assign(node, absence, held.revision, "how the node lets go has changed"), None
    if state and state.phase == model_pb2.NODE_PHASE_DELETED and state.assignment_revision == held.revision:
        return Forget(node, "the node has confirmed that it holds nothing"), None
    if view.unreachable_since is None:
        return None, None
    remaining = view.unreachable_since + rules.node_unreachable_seconds - now
    if remaining <= 0:
        return Forget(node, f"the node has been unreachable for {rules.node_unreachable_seconds:g} s"), None
    return None, remaining


def _absence(
    observed: Observed, held: Held | None, state: fetch_pb2.NodeModelState | None, now: float
) -> fetch_pb2.Assignment:
    """That a node is to hold nothing, with what it had: a fetcher that has been restarted knows nothing else of it."""
    before = held.assignment if held else state or fetch_pb2.NodeModelState()
    absence = fetch_pb2.Assignment(
        model=observed.model.ref if observed.model else before.model,
        goal=fetch_pb2.GOAL_ABSENT,
        generation=before.generation,
        artifact=before.artifact if before.artifact.digest else None,
        # An object that has gone without a deletion may have been lost with the store of the API.
        unclaimed=observed.model is None
        and (held is None or held.assignment.unclaimed or held.assignment.goal != fetch_pb2.GOAL_ABSENT),
        # What no object stands for any more counts to nobody's budget.
        reserve=bool(observed.model and observed.model.deleting and observed.model.reserve and not observed.budget),
    )
    if observed.model is None and held and held.assignment.goal == fetch_pb2.GOAL_ABSENT:
        # What was said last counts for one whose object has gone.
        absence.reserve = held.assignment.reserve
    if observed.model:
        absence.MergeFrom(fetch_pb2.Assignment(in_use_grace_seconds=observed.model.in_use_grace_seconds))
    elif held and held.assignment.HasField("in_use_grace_seconds"):
        absence.in_use_grace_seconds = held.assignment.in_use_grace_seconds
    if observed.model and not observed.model.deleting:
        if held and held.assignment.goal == fetch_pb2.GOAL_ABSENT:
            if held.assignment.HasField("unselected_since"):
                absence.unselected_since.CopyFrom(held.assignment.unselected_since)
        else:
            absence.unselected_since.FromMilliseconds(int((now + observed.clock_offset) * 1000))
    return absence


def _terms(absence: fetch_pb2.Assignment) -> tuple[bool, int | None, bool]:
    """What decides how long a node keeps what it is to let go of, and whether its files stay."""
    grace = absence.in_use_grace_seconds if absence.HasField("in_use_grace_seconds") else None
    return absence.HasField("unselected_since"), grace, absence.reserve


def _content_digest(assignment: fetch_pb2.Assignment) -> str:
    """Names what readers are to find and where; neither who wins a queue nor which generation asked is a part of it."""
    content = [assignment.artifact.digest, assignment.path, assignment.schema_path, assignment.skip_parsing]
    if not assignment.artifact.digest:
        content.append(assignment.source.uri)
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _same(one: fetch_pb2.Assignment, other: fetch_pb2.Assignment) -> bool:
    """Whether two assignments ask for the same: an edit that changes neither place nor bytes moves nothing."""
    return _without_generation(one) == _without_generation(other)


def _without_generation(assignment: fetch_pb2.Assignment) -> fetch_pb2.Assignment:
    copy = fetch_pb2.Assignment()
    copy.CopyFrom(assignment)
    copy.generation = 0
    return copy
