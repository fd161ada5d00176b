"""Judges a model's situation: its state, its conditions, and the one reason that stands for them.

Decides what holds and why; how that is put into English is wording's. Pure, the time is a parameter.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from libs.artifact.reasons import Reason
from libs.model.explanation import CAUSE_HOMES
from libs.model.reasons import reason_of
from ome.fetch.v1 import fetch_pb2
from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_CORRUPT,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    Problem,
    Rollout,
    Volume,
)
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import NODE_PHASE_EVICTED, NODE_PHASE_READY, Artifact, NodePhase
from services.status import wording

# Classes of problems that more waiting alone does not cure.
_LASTING = (PROBLEM_CLASS_INVALID, PROBLEM_CLASS_MISSING, PROBLEM_CLASS_CORRUPT)
# Reasons that say what a model is waiting for, or that it needs nothing; none of them is a failure.
_NEUTRAL = (
    Reason.DELETING,
    Reason.IN_USE,
    Reason.DISABLED,
    Reason.NO_MATCHING_NODE,
    Reason.NO_STORAGE,
    Reason.BASE_NOT_FOUND,
    Reason.BUDGET_EXCEEDED,
    Reason.RESOLVING,
    Reason.QUEUED,
)
# Those of them that nothing but an edit ends.
_WAITING_FOR_PEOPLE = (Reason.NO_MATCHING_NODE, Reason.BASE_NOT_FOUND, Reason.BUDGET_EXCEEDED)
# Words of conditions for what is as it should be, or not known yet; all others are reasons.
_AS_EXPECTED = "AsExpected"
_PENDING = "Pending"
# A source that fails so often in a row, with growing pauses, is told of: one failure passes by itself.
_TOLD_FAILURES = 3
# Conditions that are bad news while they hold.
_TROUBLE = ("Degraded", "Stalled")

# Status, reason and message of a condition.
Judgement = tuple[str, str, str]


@dataclass(frozen=True)
class NodeStanding:
    """How a model stands on one node, all things considered."""

    node: str
    desired: bool
    phase: NodePhase
    reason: model_pb2.Reason
    message: str
    reachable: bool
    path: str = ""
    bytes_done: int = 0
    # Readers see a good copy that is not the desired one, which is on its way or has failed.
    revising: bool = False
    revision_failed: bool = False


@dataclass(frozen=True)
class Cause:
    """Why something does not hold. `failing` tells a failure from something awaited."""

    reason: str
    message: str
    failing: bool = False
    lasting: bool = False


@dataclass(frozen=True)
class Situation:
    """Everything that the conditions are judged by."""

    nodes: tuple[NodeStanding, ...]
    desired: tuple[NodeStanding, ...]
    ready: tuple[str, ...]
    failed: tuple[NodeStanding, ...]
    unreachable: tuple[NodeStanding, ...]
    obstacle: Cause | None
    artifact: Artifact | None
    listed: bool
    # Ready nodes that hold an earlier revision, and cannot get the desired one.
    failed_revisions: tuple[NodeStanding, ...] = ()
    # Where the model lies when no node holds it.
    volume: Volume | None = None
    # How the nodes come to a new revision, while some of them keep an earlier one.
    rollout: Rollout | None = None
    # Why a source that the model follows cannot be listed.
    follow_failure: fetch_pb2.FollowFailure | None = None
    # Nodes that have given up their copy and are as they are to be.
    evicted: tuple[NodeStanding, ...] = ()

    @property
    def staged(self) -> Cause | None:
        """Why nodes keep an earlier revision that they are to give up, if they do."""
        if self.rollout is None or self.rollout.stage == fetch_pb2.ROLLOUT_STAGE_DIVERGED:
            return None
        return _rollout_cause(self.rollout)

    @property
    def found_in(self) -> Volume | None:
        """The volume in which the model was found."""
        return self.volume if self.volume and self.volume.inspection.HasField("found_at") else None

    @property
    def troubled(self) -> tuple[NodeStanding, ...]:
        """Nodes that have failed to get what they are to hold, whether or not they hold something else."""
        return (*self.failed, *self.failed_revisions)

    @property
    def resolved(self) -> bool:
        """Whether it is known which bytes the nodes must hold."""
        return self.artifact is not None or not self.listed

    @property
    def complete(self) -> bool:
        """Whether every node that must hold the model holds what the object asks for now."""
        if self.volume:
            return self.found_in is not None and not self.obstacle
        if self.staged:
            return False
        as_told = len(self.ready) + len(self.evicted) == len(self.desired)
        settled = as_told and not any(each.revising for each in self.desired)
        return bool(self.ready) and settled and self.resolved and not self.obstacle

    @property
    def state(self) -> str:
        """The seed's word for the model as a whole."""
        if self.ready or self.found_in:
            return "Ready"
        all_failed = bool(self.desired) and len(self.failed) == len(self.desired)
        if all_failed or (self.obstacle and self.obstacle.lasting):
            return "Failed"
        return "Creating"

    @property
    def cause(self) -> Cause:
        """The foremost reason why the model is not complete."""
        if self.obstacle:
            return self.obstacle
        staged = self.staged
        if staged and staged.failing:
            return staged
        if self.troubled:
            return _failure_of(self.troubled, len(self.desired))
        if self.unreachable:
            return unreachable_cause(self.unreachable)
        if staged:
            return staged
        done = (NODE_PHASE_READY, NODE_PHASE_EVICTED)
        waiting = [each for each in self.desired if each.phase not in done or each.revising]
        if self.evicted and not waiting:
            return Cause(Reason.EVICTED, wording.evicted([each.node for each in self.evicted], self.evicted[0].message))
        return _waiting(waiting, len(self.desired))


def judge(
    situation: Situation,
    metadata: Mapping[str, Any] | None,
    parse_cause: Cause | None,
    whole: Judgement,
    relations: Mapping[str, Judgement],
    progress: Mapping[str, Any],
    previous: Mapping[str, Any],
    now: datetime,
) -> list[dict[str, str]]:
    """The conditions, as .status has them; one whose status has not changed keeps its time.

    metadata is what the files were parsed into, None as long as they were not; progress is .status.progress, empty
    while nothing is fetched; relations are the conditions that tell of other models.
    """
    otherwise = wording.NOTHING_WRONG if situation.volume else wording.NO_NODE_IN_TROUBLE
    judged = {
        "Available": _available(situation),
        "Complete": _complete(situation),
        "Degraded": _problem(_trouble(situation), otherwise),
        "Resolved": _resolved(situation),
        "Parsed": _parsed(metadata, parse_cause),
        "Whole": whole,
        "Stalled": _problem(_stalled(situation), wording.NOTHING_STUCK),
        **relations,
    }
    if rolled_out := _rolled_out(situation, previous):
        judged["RolledOut"] = rolled_out
    if following := _following(situation, previous):
        judged["Following"] = following
    told = _told_once(judged)
    status, reason, message = told["Available"]
    told["Available"] = status, reason, message + wording.fetched(progress)
    # Ready is another name of Available: what people and tools wait for by habit.
    named = {"Available": told["Available"], "Ready": told["Available"], **told}
    return [made_condition(name, *judgement, previous, now) for name, judgement in named.items()]


def foremost_reason(conditions: Sequence[Mapping[str, str]]) -> str:
    """The reason to show where there is room for one: the worst news before the best."""
    by_type = {condition["type"]: condition for condition in conditions}
    # Whatever else is wrong with weights, nobody can use them without their base.
    if "BaseFound" in by_type and by_type["BaseFound"]["reason"] == Reason.BASE_NOT_FOUND:
        return by_type["BaseFound"]["reason"]
    for name in ("Stalled", "Degraded"):
        if by_type[name]["status"] == "True":
            return by_type[name]["reason"]
    for name in ("Whole", "Compatible", "BaseFound"):
        if name in by_type and by_type[name]["status"] == "False":
            return by_type[name]["reason"]
    return by_type["Complete"]["reason"]


def obstacle_of(problem: Problem) -> Cause:
    """What the controller says stands in the way."""
    reason = reason_of(problem.reason)
    failing = reason not in _NEUTRAL
    return Cause(
        reason or Reason.INTERNAL,
        wording.sentence(problem.message),
        failing=failing,
        lasting=failing and problem.problem_class in _LASTING,
    )


def deletion_cause(waiting: Sequence[NodeStanding]) -> Cause:
    """Nodes that have not deleted their copies yet: Pods that use one are what a person can do something about."""
    held = [each for each in waiting if each.reason == model_pb2.REASON_IN_USE]
    if held:
        return Cause(Reason.IN_USE, wording.deletion_held(held[0].node, len(held), held[0].message))
    return Cause(Reason.DELETING, wording.deletion_awaits([each.node for each in waiting]))


def not_planned() -> Cause:
    """The controller has said nothing yet."""
    return Cause(_PENDING, wording.NOT_PLANNED)


def unreachable_cause(unreachable: Sequence[NodeStanding]) -> Cause:
    """Nodes whose fetchers do not report."""
    return Cause(Reason.NODE_UNREACHABLE, wording.silent([each.node for each in unreachable]), failing=True)


def parse_failure(problem: Problem) -> Cause:
    """Why there are no facts although there should be."""
    return Cause(reason_of(problem.reason) or Reason.PARSE_FAILED, wording.sentence(problem.message), failing=True)


def parsing_skipped() -> Cause:
    """The user wants no facts."""
    return Cause("ParsingSkipped", wording.PARSING_SKIPPED)


def _told_once(judged: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """The judgements, each cause told by the condition where it belongs; others have its reason, and name that one."""
    causes = {
        name: judgement[1:] for name, judgement in judged.items() if (judgement[0] == "True") == (name in _TROUBLE)
    }
    homes: dict[tuple[str, str], str] = {}
    for name in sorted(causes, key=lambda each: CAUSE_HOMES.index(each) if each in CAUSE_HOMES else len(CAUSE_HOMES)):
        homes.setdefault(causes[name], name)
    told = dict(judged)
    for name, cause in causes.items():
        if (home := homes[cause]) != name:
            told[name] = judged[name][0], judged[name][1], wording.told_by(name, home)
    return told


def _available(situation: Situation) -> Judgement:
    if situation.found_in:
        return "True", "VolumeReady", wording.volume_holds(situation.found_in)
    if situation.ready:
        return "True", "NodesReady", wording.some_hold(len(situation.ready), len(situation.desired))
    return "False", situation.cause.reason, situation.cause.message


def _complete(situation: Situation) -> Judgement:
    if not situation.complete:
        return "False", situation.cause.reason, situation.cause.message
    if situation.found_in:
        return "True", "VolumeReady", wording.volume_holds(situation.found_in)
    return "True", "AllNodesReady", wording.all_hold(situation.ready)


def _resolved(situation: Situation) -> Judgement:
    artifact, obstacle = situation.artifact, situation.obstacle
    if artifact and artifact.digest:
        return "True", "Resolved", wording.resolved(artifact)
    if situation.found_in:
        return "True", "NothingToResolve", wording.found(artifact)
    if obstacle:
        known = obstacle.failing or obstacle.reason == Reason.RESOLVING
        return "False" if known else "Unknown", obstacle.reason, obstacle.message
    if situation.listed:
        return "False", Reason.RESOLVING, wording.NOT_LISTED
    return "True", "NothingToResolve", wording.NOTHING_COPIED


def _parsed(metadata: Mapping[str, Any] | None, cause: Cause | None) -> Judgement:
    if cause:
        return "False" if cause.failing else "Unknown", cause.reason, cause.message
    if metadata is None:
        return "Unknown", _PENDING, wording.NOT_PARSED
    described = [metadata.get("architecture") or metadata.get("modelType"), metadata.get("parameterSize")]
    return "True", "Parsed", wording.parsed([word for word in described if word])


def _rolled_out(situation: Situation, previous: Mapping[str, Any]) -> Judgement | None:
    """Whether all nodes have the same revision; of a model whose nodes always had there is nothing to say."""
    rollout = situation.rollout
    if rollout:
        cause = _rollout_cause(rollout)
        return "False", cause.reason, cause.message
    known = any(condition["type"] == "RolledOut" for condition in previous.get("conditions") or ())
    return ("True", "AllNodesUpdated", wording.ROLLED_OUT) if known else None


def _following(situation: Situation, previous: Mapping[str, Any]) -> Judgement | None:
    """Whether a source that is followed can be listed; of one that always could there is nothing to say."""
    failure = situation.follow_failure
    if failure and failure.attempts >= _TOLD_FAILURES:
        reason = reason_of(failure.problem.reason) or Reason.INTERNAL
        return "False", reason, wording.not_followed(failure)
    known = any(condition["type"] == "Following" for condition in previous.get("conditions") or ())
    return ("True", "Listed", wording.FOLLOWED) if known else None


def _rollout_cause(rollout: Rollout) -> Cause:
    """Why nodes keep an earlier revision."""
    message = wording.sentence(rollout.message)
    match rollout.stage:
        case fetch_pb2.ROLLOUT_STAGE_HALTED:
            return Cause("RolloutHalted", message, failing=True)
        case fetch_pb2.ROLLOUT_STAGE_PAUSED:
            return Cause("RolloutPaused", message)
        case fetch_pb2.ROLLOUT_STAGE_DIVERGED:
            return Cause("RevisionLost", message)
    return Cause("RollingOut", message)


def _trouble(situation: Situation) -> Cause | None:
    if situation.staged and situation.staged.failing:
        return situation.staged
    if situation.troubled:
        return _failure_of(situation.troubled, len(situation.desired))
    damaged = [each for each in situation.desired if each.reason == model_pb2.REASON_ARTIFACT_DAMAGED]
    if damaged:
        message = wording.damage(damaged[0].node, len(damaged), len(situation.desired), damaged[0].message)
        return Cause(Reason.ARTIFACT_DAMAGED, message, failing=True)
    if situation.unreachable:
        return unreachable_cause(situation.unreachable)
    return situation.obstacle if situation.obstacle and situation.obstacle.failing else None


def _stalled(situation: Situation) -> Cause | None:
    if situation.state == "Failed":
        return situation.cause
    obstacle = situation.obstacle
    return obstacle if obstacle and (obstacle.lasting or obstacle.reason in _WAITING_FOR_PEOPLE) else None


def _problem(cause: Cause | None, otherwise: str) -> Judgement:
    return ("True", cause.reason, cause.message) if cause else ("False", _AS_EXPECTED, otherwise)


def made_condition(
    name: str, status: str, reason: str, message: str, previous: Mapping[str, Any], now: datetime
) -> dict[str, str]:
    """A condition as .status has it; one whose status has not changed keeps its time."""
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for condition in previous.get("conditions") or []:
        if condition["type"] == name and condition["status"] == status:
            since = condition.get("lastTransitionTime") or since
    return {"type": name, "status": status, "reason": str(reason), "message": message, "lastTransitionTime": since}


def _failure_of(failed: Sequence[NodeStanding], desired: int) -> Cause:
    """One cause for many failed nodes: the most frequent reason, told by its first node."""
    number, _ = min(Counter(each.reason for each in failed).items(), key=lambda item: (-item[1], item[0]))
    first = next(each for each in failed if each.reason == number)
    message = wording.failure(first.node, len(failed), desired, first.message)
    return Cause(reason_of(number) or Reason.INTERNAL, message, failing=True)


def _waiting(waiting: Sequence[NodeStanding], desired: int) -> Cause:
    if not waiting:
        return Cause(Reason.RESOLVING, wording.NOT_LISTED)
    reasons = Counter(each.reason or model_pb2.REASON_QUEUED for each in waiting)
    number, _ = min(reasons.items(), key=lambda item: (-item[1], -item[0]))
    message = wording.waiting([each.node for each in waiting], desired)
    return Cause(reason_of(number) or Reason.QUEUED, message)
