"""Folds what the fetchers say about one model into one statement about it: its status, its facts, its events.

Decides state, conditions, counts and wording. It is total and deterministic, does not depend on the order of its
inputs, and folding its own result again changes nothing. Must not do I/O and must not know the time but by argument.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from libs.artifact.specification import planning_digest, skips_parsing
from libs.model.reasons import word_of
from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_CORRUPT,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    ModelPlan,
    NodeModelState,
    Problem,
    Volume,
)
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UNSPECIFIED,
    NODE_PHASE_UPDATING,
    REASON_DELETING,
    REASON_DISABLED,
    REASON_NO_MATCHING_NODE,
    REASON_NO_STORAGE,
    REASON_NODE_UNREACHABLE,
    REASON_PARSE_FAILED,
    REASON_QUEUED,
    REASON_RESOLVING,
    Artifact,
    NodePhase,
    Reason,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status.facts import facts_document, spec_to_apply
from services.status.transitions import EventDraft, transitions

FAILURES_LIMIT = 50

# Sources that have to be listed before anything can be fetched; of the others nothing is copied.
_LISTED_SCHEMES = ("hf://", "oci://", "s3://", "gs://", "az://")
# Classes of problems that more waiting alone does not cure.
_LASTING = (PROBLEM_CLASS_INVALID, PROBLEM_CLASS_MISSING, PROBLEM_CLASS_CORRUPT)
# Reasons that say what a model is waiting for, or that it needs nothing; none of them is a failure.
_NEUTRAL = (
    REASON_DELETING,
    REASON_DISABLED,
    REASON_NO_MATCHING_NODE,
    REASON_NO_STORAGE,
    REASON_RESOLVING,
    REASON_QUEUED,
)
_NAMES_LISTED = 3
# Words for what is as it should be; everything else is spelled by ome.model.v1.Reason.
_AS_EXPECTED = "AsExpected"
_PENDING = "Pending"


@dataclass(frozen=True)
class NodeView:
    """How a model stands on one node, all things considered."""

    node: str
    desired: bool
    phase: NodePhase
    reason: Reason
    message: str
    reachable: bool
    path: str = ""
    bytes_done: int = 0


@dataclass(frozen=True)
class StatusView:
    """What there is to say about a model: status is .status as a document, spec_facts the spec to apply, if any."""

    status: dict[str, Any]
    spec_facts: dict[str, Any] | None
    events: tuple[EventDraft, ...]
    nodes: tuple[NodeView, ...]
    artifact: Artifact | None
    facts: ModelFacts | None


@dataclass(frozen=True)
class _Cause:
    """Why something does not hold. failing tells a failure from something awaited."""

    reason: str
    message: str
    failing: bool = False
    lasting: bool = False


@dataclass(frozen=True)
class _Situation:
    """Everything that the conditions are judged by."""

    desired: tuple[NodeView, ...]
    ready: tuple[str, ...]
    failed: tuple[NodeView, ...]
    unreachable: tuple[NodeView, ...]
    obstacle: _Cause | None
    artifact: Artifact | None
    listed: bool
    # Where the model lies when no node holds it.
    volume: Volume | None = None
    nodes: tuple[NodeView, ...] = field(default=())

    @property
    def in_volume(self) -> bool:
        """Whether the model was found in its volume."""
        return self.volume is not None and self.volume.inspection.HasField("found_at")

    @property
    def resolved(self) -> bool:
        """Whether it is known which bytes the nodes must hold."""
        return self.artifact is not None or not self.listed

    @property
    def complete(self) -> bool:
        """Whether every node that must hold the model holds what the object asks for now."""
        if self.volume:
            return self.in_volume and not self.obstacle
        return bool(self.desired) and len(self.ready) == len(self.desired) and self.resolved and not self.obstacle

    @property
    def state(self) -> str:
        """The seed's word for the model as a whole."""
        if self.ready or self.in_volume:
            return "Ready"
        all_failed = bool(self.desired) and len(self.failed) == len(self.desired)
        if all_failed or (self.obstacle and self.obstacle.lasting):
            return "Failed"
        return "Creating"

    @property
    def cause(self) -> _Cause:
        """The foremost reason why the model is not complete."""
        if self.obstacle:
            return self.obstacle
        if self.failed:
            return _failure_of(self.failed, len(self.desired))
        if self.unreachable:
            return _unreachable(self.unreachable)
        return _waiting([view for view in self.desired if view.phase != NODE_PHASE_READY], len(self.desired))


def fold(
    model: Mapping[str, Any],
    plan: ModelPlan | None,
    states: Mapping[str, NodeModelState],
    nodes: Mapping[str, bool],
    previous: Mapping[str, Any],
    now: datetime,
) -> StatusView:
    """Fold one model.

    model is the object as the API server has it, plan what the controller decided, states what each node says, nodes
    the nodes that exist and whether each can be reached, previous the .status that was last written.
    """
    spec = model.get("spec") or {}
    deleting = "deletionTimestamp" in model["metadata"]
    current = plan is not None and plan.spec_digest == planning_digest(spec, _annotations(model))
    situation = _assess(spec, deleting, plan, states, nodes)

    facts, parse_cause = _facts(model, situation, states)
    metadata = facts_document(facts) if facts else _kept_metadata(model, situation, previous)
    conditions = _conditions(situation, facts, metadata, parse_cause, previous, now)
    status: dict[str, Any] = {
        "state": situation.state,
        "lifecycle": _lifecycle(spec, deleting, situation),
        "nodesReady": list(situation.ready),
        "nodesFailed": [view.node for view in situation.failed],
        "nodes": {
            "desired": len(situation.desired),
            "ready": len(situation.ready),
            "updating": len(situation.desired) - len(situation.ready) - len(situation.failed),
            "failed": len(situation.failed),
            "summary": "-" if situation.volume else f"{len(situation.ready)}/{len(situation.desired)}",
        },
        "conditions": conditions,
        "failures": _failures(situation),
    }
    generation = _observed_generation(model, plan, current, previous)
    if generation:
        status["observedGeneration"] = generation
    if situation.artifact and situation.artifact.digest:
        status["artifact"] = {
            "digest": situation.artifact.digest,
            "sourceRevision": situation.artifact.source_revision,
            "bytes": situation.artifact.bytes,
            "files": situation.artifact.files,
        }
    path = next((view.path for view in situation.desired if view.phase == NODE_PHASE_READY and view.path), "")
    if path:
        status["path"] = path
    if metadata:
        status["metadata"] = metadata
    return StatusView(
        status=status,
        spec_facts=spec_to_apply(model, facts) if facts and not deleting else None,
        events=transitions(previous, status),
        nodes=situation.nodes,
        artifact=situation.artifact,
        facts=facts,
    )


def _assess(
    spec: Mapping[str, Any],
    deleting: bool,
    plan: ModelPlan | None,
    states: Mapping[str, NodeModelState],
    nodes: Mapping[str, bool],
) -> _Situation:
    artifact = plan.artifact if plan and plan.HasField("artifact") else None
    uri = (spec.get("storage") or {}).get("storageUri") or ""
    volume = plan.volume if plan and plan.HasField("volume") and uri.startswith("pvc://") else None
    if volume and volume.inspection.HasField("artifact"):
        artifact = volume.inspection.artifact
    if deleting:
        desired = {node for node, state in states.items() if state.phase != NODE_PHASE_DELETED}
    elif not spec.get("storage"):
        desired = set()
    elif spec.get("disabled"):
        desired = {node for node, state in states.items() if state.phase == NODE_PHASE_READY}
    else:
        desired = set(plan.desired_nodes) if plan else set()
    holders = {node for node, state in states.items() if state.phase != NODE_PHASE_DELETED and node in nodes}
    views = tuple(
        _view(node, node in desired, states.get(node), plan, nodes.get(node)) for node in sorted(desired | holders)
    )
    wanted = tuple(view for view in views if view.desired)
    unreachable = tuple(view for view in wanted if not view.reachable)
    return _Situation(
        desired=wanted,
        ready=tuple(view.node for view in wanted if view.phase == NODE_PHASE_READY),
        failed=tuple(view for view in wanted if view.phase == NODE_PHASE_FAILED),
        unreachable=unreachable,
        obstacle=_obstacle(spec, deleting, plan, wanted, unreachable),
        artifact=artifact,
        listed=uri.startswith(_LISTED_SCHEMES),
        volume=volume,
        nodes=views,
    )


def _view(
    node: str, desired: bool, state: NodeModelState | None, plan: ModelPlan | None, reachable: bool | None
) -> NodeView:
    """Judge one node; reachable is None for a node that does not exist."""
    phase = state.phase if state else NODE_PHASE_UNSPECIFIED
    reason, message = (state.problem.reason, state.problem.message) if state else (REASON_QUEUED, "")
    if reachable is None:
        phase, reason, message = NODE_PHASE_UPDATING, REASON_NODE_UNREACHABLE, "The node does not exist."
    elif phase in (NODE_PHASE_UNSPECIFIED, NODE_PHASE_DELETED):
        phase, reason, message = NODE_PHASE_UPDATING, REASON_QUEUED, "The node has not reported yet."
    elif state and plan and phase == NODE_PHASE_READY and _is_outdated(state, plan):
        phase, reason = NODE_PHASE_UPDATING, REASON_QUEUED
        message = "The node holds what was asked for earlier and has yet to begin with this."
    if reachable is False and phase != NODE_PHASE_FAILED:
        # What the node held when it was last heard of is still the best guess, so a Ready copy stays Ready.
        reason, message = REASON_NODE_UNREACHABLE, "The node's fetcher does not report."
    return NodeView(
        node=node,
        desired=desired,
        phase=phase,
        reason=reason,
        message=message,
        reachable=bool(reachable),
        path=state.path if state else "",
        bytes_done=state.bytes_done if state else 0,
    )


def _is_outdated(state: NodeModelState, plan: ModelPlan) -> bool:
    """Whether a node answers an earlier assignment, with other bytes or at another place."""
    if plan.HasField("artifact") and plan.artifact.digest != state.artifact.digest:
        return True
    return bool(plan.content_digest) and plan.content_digest != state.content_digest


def _obstacle(
    spec: Mapping[str, Any],
    deleting: bool,
    plan: ModelPlan | None,
    desired: Sequence[NodeView],
    unreachable: Sequence[NodeView],
) -> _Cause | None:
    """What stands between the object and its nodes as a whole, if anything does."""
    if deleting:
        if unreachable:
            return _unreachable(unreachable)
        waiting = f"Waiting for {_names([view.node for view in desired])} to delete the model." if desired else ""
        return _Cause(word_of(REASON_DELETING), waiting or "No node holds the model any more.")
    if not spec.get("storage"):
        return _Cause(word_of(REASON_NO_STORAGE), "There is nothing to fetch: spec.storage is not set.")
    if spec.get("disabled"):
        message = "Nothing is fetched, as spec.disabled is true; copies that exist are kept."
        return _Cause(word_of(REASON_DISABLED), message)
    if plan is None:
        return _Cause(_PENDING, "The controller has not planned this model yet.")
    if plan.HasField("problem"):
        problem = plan.problem
        return _Cause(
            word_of(problem.reason),
            _sentence(problem.message),
            failing=problem.reason not in _NEUTRAL,
            lasting=problem.reason not in _NEUTRAL and problem.problem_class in _LASTING,
        )
    if not desired and not plan.HasField("volume"):
        message = "No node matches storage.nodeSelector and storage.nodeAffinity."
        return _Cause(word_of(REASON_NO_MATCHING_NODE), message)
    return None


def _conditions(
    situation: _Situation,
    facts: ModelFacts | None,
    metadata: Mapping[str, Any],
    parse_cause: _Cause | None,
    previous: Mapping[str, Any],
    now: datetime,
) -> list[dict[str, str]]:
    desired, ready, cause = len(situation.desired), len(situation.ready), situation.cause
    in_volume = ("True", "VolumeReady", f"{_claim(situation.volume)} holds the model.") if situation.in_volume else None
    available = in_volume or (
        ("True", "NodesReady", f"{ready} of {_count(desired, 'node')} {_hold(ready)} the model.")
        if ready
        else ("False", cause.reason, cause.message)
    )
    complete = (
        in_volume or ("True", "AllNodesReady", _all_hold(situation.ready))
        if situation.complete
        else ("False", cause.reason, cause.message)
    )
    judged = {
        "Available": available,
        "Complete": complete,
        "Degraded": _problem(
            _trouble(situation), "Nothing is wrong." if situation.volume else "No node is in trouble."
        ),
        "Resolved": _resolved(situation),
        "Parsed": _parsed(facts, metadata, parse_cause),
        "Stalled": _problem(_stalled(situation), "Nothing is stuck."),
    }
    return [_condition(name, *judgement, previous, now) for name, judgement in judged.items()]


def _condition(
    name: str, status: str, reason: str, message: str, previous: Mapping[str, Any], now: datetime
) -> dict[str, str]:
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for condition in previous.get("conditions") or []:
        if condition["type"] == name and condition["status"] == status:
            since = condition["lastTransitionTime"]
    return {"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def _problem(cause: _Cause | None, otherwise: str) -> tuple[str, str, str]:
    return ("True", cause.reason, cause.message) if cause else ("False", _AS_EXPECTED, otherwise)


def _trouble(situation: _Situation) -> _Cause | None:
    if situation.failed:
        return _failure_of(situation.failed, len(situation.desired))
    if situation.unreachable:
        return _unreachable(situation.unreachable)
    return situation.obstacle if situation.obstacle and situation.obstacle.failing else None


def _stalled(situation: _Situation) -> _Cause | None:
    if situation.state == "Failed":
        return situation.cause
    obstacle = situation.obstacle
    if obstacle and (obstacle.lasting or obstacle.reason == word_of(REASON_NO_MATCHING_NODE)):
        return obstacle
    return None


def _resolved(situation: _Situation) -> tuple[str, str, str]:
    artifact = situation.artifact
    if artifact and artifact.digest:
        revision = f" at {artifact.source_revision}" if artifact.source_revision else ""
        return (
            "True",
            "Resolved",
            f"The source{revision} has {_count(artifact.files, 'file')} of {_size(artifact.bytes)}.",
        )
    if situation.in_volume:
        return "True", "NothingToResolve", _found(situation)
    if situation.obstacle:
        status = "False" if situation.obstacle.failing or situation.obstacle.reason == "Resolving" else "Unknown"
        return status, situation.obstacle.reason, situation.obstacle.message
    if situation.listed:
        return "False", word_of(REASON_RESOLVING), "Waiting for the source to be listed."
    return "True", "NothingToResolve", "The model is used where it lies: nothing is copied."


def _parsed(facts: ModelFacts | None, metadata: Mapping[str, Any], cause: _Cause | None) -> tuple[str, str, str]:
    if cause:
        return "Unknown" if not cause.failing else "False", cause.reason, cause.message
    if facts or metadata:
        described = [metadata.get("architecture") or metadata.get("modelType"), metadata.get("parameterSize")]
        found = ", ".join(word for word in described if word)
        return (
            "True",
            "Parsed",
            f"The model's files were parsed: {found}." if found else "The model's files were parsed.",
        )
    return "Unknown", _PENDING, "The model's files have not been parsed yet."


def _facts(
    model: Mapping[str, Any], situation: _Situation, states: Mapping[str, NodeModelState]
) -> tuple[ModelFacts | None, _Cause | None]:
    """The facts to report, and why there are none. Facts of another artifact than the planned one do not count."""
    artifact = situation.artifact
    if skips_parsing(_annotations(model)):
        return None, _Cause("ParsingSkipped", "The annotation ome.io/skip-config-parsing asks for no facts.")
    if situation.volume:
        inspection = situation.volume.inspection
        if inspection.HasField("parse_problem"):
            return None, _parse_failure(inspection.parse_problem)
        return (inspection.facts, None) if inspection.HasField("facts") else (None, None)
    matching = sorted(
        (state.phase != NODE_PHASE_READY, node)
        for node, state in states.items()
        if not artifact or state.artifact.digest == artifact.digest
    )
    for _, node in matching:
        if states[node].HasField("facts"):
            return states[node].facts, None
    for _, node in matching:
        if states[node].HasField("parse_problem"):
            return None, _parse_failure(states[node].parse_problem)
    return None, None


def _parse_failure(problem: Problem) -> _Cause:
    return _Cause(word_of(problem.reason or REASON_PARSE_FAILED), _sentence(problem.message), failing=True)


def _kept_metadata(model: Mapping[str, Any], situation: _Situation, previous: Mapping[str, Any]) -> dict[str, Any]:
    """What was known of the same artifact stays known while no node says it."""
    if situation.volume:
        # The plan says all that is known of a volume.
        return {}
    digest = situation.artifact.digest if situation.artifact else ""
    if skips_parsing(_annotations(model)) or (previous.get("artifact") or {}).get("digest", "") != digest:
        return {}
    return dict(previous.get("metadata") or {})


def _annotations(model: Mapping[str, Any]) -> Mapping[str, str]:
    return model["metadata"].get("annotations") or {}


def _failures(situation: _Situation) -> list[dict[str, str]]:
    troubled = {view.node: view for view in (*situation.unreachable, *situation.failed)}
    return [
        {"node": node, "reason": word_of(view.reason) or "Internal", "message": _sentence(view.message)}
        for node, view in sorted(troubled.items())
    ][:FAILURES_LIMIT]


def _lifecycle(spec: Mapping[str, Any], deleting: bool, situation: _Situation) -> str:
    if deleting:
        return "Deleting"
    return "Disabled" if spec.get("disabled") else situation.state


def _observed_generation(
    model: Mapping[str, Any], plan: ModelPlan | None, current: bool, previous: Mapping[str, Any]
) -> int:
    """The generation that this status answers: the object's own as soon as nothing that planning reads is newer."""
    if current or not (model.get("spec") or {}).get("storage"):
        return int(model["metadata"].get("generation") or 0)
    return max(int(previous.get("observedGeneration") or 0), plan.generation if plan else 0)


def _failure_of(failed: Sequence[NodeView], desired: int) -> _Cause:
    """One cause for many failed nodes: the most frequent reason, told by its first node."""
    reason, _ = min(Counter(view.reason for view in failed).items(), key=lambda item: (-item[1], item[0]))
    first = next(view for view in failed if view.reason == reason)
    message = _sentence(first.message)
    if desired > 1:
        message = f"Failed on {len(failed)} of {desired} nodes. {first.node}: {message}"
    return _Cause(word_of(reason) or "Internal", message, failing=True)


def _unreachable(unreachable: Sequence[NodeView]) -> _Cause:
    names = _names([view.node for view in unreachable])
    return _Cause(word_of(REASON_NODE_UNREACHABLE), f"The fetcher does not report from {names}.", failing=True)


def _waiting(waiting: Sequence[NodeView], desired: int) -> _Cause:
    if not waiting:
        return _Cause(word_of(REASON_RESOLVING), "Waiting for the source to be listed.")
    reasons = Counter(view.reason or REASON_QUEUED for view in waiting)
    reason, _ = min(reasons.items(), key=lambda item: (-item[1], -item[0]))
    names = _names([view.node for view in waiting])
    return _Cause(word_of(reason), f"Waiting for {len(waiting)} of {_count(desired, 'node')}: {names}.")


def _claim(volume: Volume | None) -> str:
    return f"PersistentVolumeClaim {volume.namespace}/{volume.claim}" if volume else ""


def _found(situation: _Situation) -> str:
    if situation.artifact is None or not situation.artifact.files:
        return "The model is used where it lies: nothing is copied."
    size = f"{_count(situation.artifact.files, 'file')} of {_size(situation.artifact.bytes)}"
    return f"The model has {size} and is used where it lies: nothing is copied."


def _names(names: Sequence[str]) -> str:
    shown = sorted(names)[:_NAMES_LISTED]
    more = len(names) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _hold(number: int) -> str:
    return "holds" if number == 1 else "hold"


def _all_hold(ready: Sequence[str]) -> str:
    return f"Node {ready[0]} holds the model." if len(ready) == 1 else f"All {len(ready):,} nodes hold the model."


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return "No further details were given."
    if "://" not in text.split(maxsplit=1)[0]:
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
