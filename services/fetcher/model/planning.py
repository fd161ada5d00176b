"""Decides what the node does next about one model, and what it says about it.

plan() is total and deterministic: it compares what the controller wants with what is on disk and under way, and
answers with idempotent actions, none when they agree. describe() turns the same comparison into the state that other
services see. Must not do I/O, nor remember anything.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.artifact.uri import ALLOW_INCOMPLETE
from libs.chassis.errors import Invalid, Unavailable
from libs.model.problems import problem_of
from ome.fetch.v1.fetch_pb2 import (
    GOAL_ABSENT,
    GOAL_KEEP,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_UNAVAILABLE,
    HeldCopy,
    NodeModelState,
    PodUse,
    Problem,
)
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_ARTIFACT_DAMAGED,
    REASON_DELETING,
    REASON_DOWNLOADING,
    REASON_EVICTED,
    REASON_IN_USE,
    REASON_QUEUED,
    REASON_RESOLVING,
)
from ome.model.v1.model_pb2 import Reason as ReasonNumber
from services.fetcher.model.observed import (
    Desired,
    Kept,
    Observed,
    PublishedName,
    Setback,
    Spared,
    Transfer,
    TransferPhase,
)
from services.fetcher.model.removal import Fate, shown_use

# Copies without a name that are told of one model; of more there is nothing that a person would want to know.
_MOST_HELD = 8


@dataclass(frozen=True)
class StopTransfer:
    """Have the transfer stop; the model is looked at again when it has."""

    why: str


@dataclass(frozen=True)
class Refuse:
    """Record that the assignment cannot be brought about as things stand."""

    error: Exception


@dataclass(frozen=True)
class StartTransfer:
    """Have the artifact fetched, repaired when some of its files are damaged, or proven when it is another's."""

    root: str
    digest: str
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class Prioritize:
    """Have the transfer begin sooner or later than others, as the assignment now says."""

    priority: int


@dataclass(frozen=True)
class Publish:
    """Lead the readers of path to the artifact."""

    root: str
    path: str
    digest: str


@dataclass(frozen=True)
class Unpublish:
    """Take the model's name out of a root, and its bytes when no other name leads to them."""

    root: str


@dataclass(frozen=True)
class Reserve:
    """Leave the model's name and bytes in a root where they are, and know nothing of them any more."""

    root: str


@dataclass(frozen=True)
class Abandon:
    """Remove what was fetched of an artifact and not published, unless another model wants it."""

    root: str
    digest: str


@dataclass(frozen=True)
class Parse:
    """Ask the parser for facts about the model's files. Fails when these are known not to be the whole model."""


Action = StopTransfer | Refuse | StartTransfer | Prioritize | Publish | Unpublish | Reserve | Abandon | Parse


def plan(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    """The actions that bring the node closer to what is desired, in order; none when there is nothing to do now.

    now is the time of a clock that is never set.
    """
    if desired.assignment.goal == GOAL_KEEP:
        return ()
    if desired.assignment.goal == GOAL_ABSENT:
        return _plan_absence(desired, observed, now)
    if observed.away:
        if observed.transfer:
            return _stop(observed.transfer, "the model is evicted")
        return _unpublish(observed, keep="") + _abandon(observed)
    if observed.evicted:
        # Whoever the place belongs to waits for it.
        return tuple(Unpublish(root) for root in observed.evicted) + _plan_holding(desired, observed, now)
    return _plan_holding(desired, observed, now)


def _plan_holding(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    if desired.copies:
        return _plan_copy(desired, observed, now)
    return _plan_directory(desired, observed, now)


def describe(desired: Desired, observed: Observed) -> NodeModelState:
    """What this node says about the model; phase_since is left to whoever knows what was said before."""
    assignment = desired.assignment
    state = NodeModelState(
        model=assignment.model,
        assignment_revision=desired.revision,
        generation=assignment.generation,
        content_digest=assignment.content_digest,
    )
    setback = _setback(desired, observed)
    state.held.extend(_held(each) for each in observed.kept[:_MOST_HELD] if not each.revision)
    state.kept_revisions.extend(sorted({each.artifact.digest for each in observed.kept if each.revision})[:_MOST_HELD])
    if assignment.goal == GOAL_KEEP:
        _describe_kept(state, observed)
        return state
    if assignment.goal == GOAL_ABSENT:
        _describe_absence(state, observed, setback)
        return state
    if observed.away:
        there = observed.publications or observed.transfer
        state.phase = NODE_PHASE_UPDATING if there else NODE_PHASE_EVICTED
        state.problem.CopyFrom(_waiting(REASON_EVICTED, observed.away))
        return state
    state.path = observed.path
    if observed.parsing and observed.parsing.refusal and observed.copy.complete:
        _describe_refusal(state, desired, observed)
        return state
    if _converged(desired, observed):
        state.phase = NODE_PHASE_READY
        if desired.copies:
            state.artifact.CopyFrom(assignment.artifact)
        _describe_parsing(state, observed)
        return state
    _describe_delay(state, desired, observed, setback)
    _describe_readable(state, desired, observed)
    return state


def incomplete(why: str) -> Invalid:
    """That files are not the whole model: another attempt with the same files changes nothing."""
    return Invalid(Reason.INCOMPLETE, f'{why}; mend the source, or set parameters.{ALLOW_INCOMPLETE} to "true"')


def is_due(retry_at: float | None, now: float) -> bool:
    """Whether something that failed may be tried again; None means never."""
    return retry_at is not None and now >= retry_at


def next_attempt_at(desired: Desired, setback: Setback | None, planned_at: float) -> float | None:
    """When what failed is attempted again; None when nothing failed, or all that was due has been done at planned_at.

    What failed for an earlier assignment is not attempted again, whatever was appointed for it then.
    """
    if setback is None or setback.revision != desired.revision or is_due(setback.retry_at, planned_at):
        return None
    return setback.retry_at


def retry_delay_seconds(
    attempt: int, initial_seconds: float, max_seconds: float, dice: float, retry_after_seconds: float | None
) -> float:
    """Delay before the next attempt after failure number attempt, counted from 1.

    Exponential with full jitter above the initial delay; dice is a random number in [0, 1). What the other side asked
    for is waited for in any case, and the jitter comes on top, so that a fleet does not return in one moment.
    """
    ceiling = min(max_seconds, initial_seconds * 2.0 ** min(attempt - 1, 30))
    delay = initial_seconds + dice * max(0.0, ceiling - initial_seconds)
    return delay + (retry_after_seconds or 0.0)


def _plan_absence(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    if _blocked(desired, observed, now):
        return ()
    if observed.transfer:
        return _stop(observed.transfer, "the model is deleted")
    if observed.spared:
        return ()
    reserved = {each.root for each in observed.publications if desired.assignment.reserve and each.intact}
    removed = tuple(each for each in _unpublish(observed, keep="") if each.root not in reserved)
    return (*map(Reserve, sorted(reserved)), *removed, *_abandon(observed))


def _plan_copy(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    transfer, digest = observed.transfer, desired.assignment.artifact.digest
    if transfer and (transfer.root, transfer.digest) != (observed.root, digest):
        return _stop(transfer, "another artifact is desired")
    if transfer and transfer.source not in (None, desired.source):
        # What it has verified stays, and is not fetched again.
        return _stop(transfer, "the source is to be asked in another way")
    if _converged(desired, observed):
        return _tidy(observed) + _plan_parsing(desired, observed, now)
    if transfer and transfer.priority != desired.assignment.priority:
        return (Prioritize(desired.assignment.priority),)
    if transfer or _blocked(desired, observed, now):
        return ()
    if observed.obstacle:
        return (Refuse(observed.obstacle),)
    if observed.copy.damaged and observed.repair_at is not None and now < observed.repair_at:
        return ()
    if not observed.copy.complete or observed.copy.foreign:
        return (StartTransfer(observed.root, digest, observed.copy.damaged),)
    parsing = _plan_parsing(desired, observed, now)
    if not parsing and observed.parsing and observed.parsing.refusal:
        return (Refuse(incomplete(observed.parsing.refusal)),)
    # The parser is asked first: what it knows to be incomplete gets no name, and readers keep what they have. The new
    # name stands before an old one in another root goes.
    return (*parsing, Publish(observed.root, observed.path, digest), *_tidy(observed))


def _plan_directory(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    if observed.transfer:
        return _stop(observed.transfer, "the model is read in place")
    if observed.copy.complete:
        return _unpublish(observed, keep="") + _abandon(observed) + _plan_parsing(desired, observed, now)
    if _blocked(desired, observed, now) or observed.obstacle is None:
        return ()
    return (Refuse(observed.obstacle),)


def _plan_parsing(desired: Desired, observed: Observed, now: float) -> tuple[Action, ...]:
    if desired.assignment.skip_parsing:
        return ()
    parsing = observed.parsing
    if parsing is None:
        return (Parse(),)
    if parsing.outdated:
        due = parsing.retry_at is None or is_due(parsing.retry_at, now)
    else:
        due = not parsing.found and is_due(parsing.retry_at, now)
    return (Parse(),) if due else ()


def _tidy(observed: Observed) -> tuple[Action, ...]:
    return _unpublish(observed, keep=observed.root) + _abandon(observed)


def _unpublish(observed: Observed, keep: str) -> tuple[Unpublish, ...]:
    return tuple(Unpublish(publication.root) for publication in observed.publications if publication.root != keep)


def _abandon(observed: Observed) -> tuple[Action, ...]:
    # What Pods may still use goes later, and whatever is then in the way has to be told.
    kept = {each.artifact.digest for each in observed.kept}
    return tuple(Abandon(root, digest) for root, digest in observed.leftovers if digest not in kept)


def _stop(transfer: Transfer, why: str) -> tuple[Action, ...]:
    return () if transfer.phase is TransferPhase.STOPPING else (StopTransfer(why),)


def _converged(desired: Desired, observed: Observed) -> bool:
    """Whether readers of the desired path see the desired model, complete."""
    if not observed.copy.complete or observed.obstacle:
        return False
    if not desired.copies:
        return True
    return any(
        publication.intact
        and publication.root == observed.root
        and publication.path == observed.path
        and publication.artifact.digest == desired.assignment.artifact.digest
        for publication in observed.publications
    )


def _setback(desired: Desired, observed: Observed) -> Setback | None:
    """The setback of this very assignment; one of an earlier assignment says nothing."""
    setback = observed.setback
    return setback if setback and setback.revision == desired.revision else None


def _blocked(desired: Desired, observed: Observed, now: float) -> bool:
    setback = _setback(desired, observed)
    return setback is not None and not is_due(setback.retry_at, now)


def _readable(observed: Observed) -> PublishedName | None:
    """The complete copy that readers see while the desired one is not there."""
    for publication in observed.publications:
        same = publication.artifact.digest == observed.copy.identity or not observed.copy.identity
        damaged = observed.copy.damaged and publication.root == observed.root and same
        if publication.intact and not publication.damaged and not damaged:
            return publication
    return None


def _describe_absence(state: NodeModelState, observed: Observed, setback: Setback | None) -> None:
    """Say how far the removal is, and what it waits for."""
    named = observed.publications or observed.transfer
    state.phase = NODE_PHASE_UPDATING
    if observed.complete and not (named or observed.leftovers or observed.kept):
        state.phase = NODE_PHASE_DELETED
    elif setback:
        state.phase = NODE_PHASE_FAILED
        state.problem.CopyFrom(setback.problem)
    elif observed.spared:
        readable = _readable(observed)
        if readable:
            state.artifact.CopyFrom(readable.artifact)
            state.path = readable.path
        state.problem.CopyFrom(_waiting(REASON_IN_USE, _why_spared(observed.spared)))
    elif not named and (held := [each for each in observed.kept if each.use and each.use.pods]):
        latest = max(held, key=lambda each: each.until)
        why = f"{shown_use(latest.use)}: the files stay until {_shown_time(latest.until)} at the latest"
        state.problem.CopyFrom(_waiting(REASON_IN_USE, why))
    else:
        state.problem.CopyFrom(_waiting(REASON_DELETING, "the node is removing the model"))


def _why_spared(spared: Spared) -> str:
    selected = "the node is no longer meant to hold the model"
    if spared.fate is Fate.SPARED:
        return f"{selected}, which stays for a moment in case it is again"
    return f"{selected}; {shown_use(spared.use)}: it stays until {_shown_time(spared.until)} at the latest"


def _held(kept: Kept) -> HeldCopy:
    held = HeldCopy(artifact=kept.artifact, path=kept.path)
    held.released_at.FromMilliseconds(int(kept.released_at * 1000))
    held.until.FromMilliseconds(int(kept.until * 1000))
    if kept.use:
        held.use.pods = kept.use.pods
        held.use.users.extend(PodUse(namespace=each.namespace, name=each.name) for each in kept.use.holders)
    return held


def _shown_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe_refusal(state: NodeModelState, desired: Desired, observed: Observed) -> None:
    """Say that the files are here, and are not the model."""
    assert observed.parsing is not None
    state.phase = NODE_PHASE_FAILED
    state.problem.CopyFrom(problem_of(incomplete(observed.parsing.refusal), "fetcher"))
    _describe_parsing(state, observed)
    _describe_readable(state, desired, observed)


def _describe_readable(state: NodeModelState, desired: Desired, observed: Observed) -> None:
    """Say what readers see in the meantime. A good copy of an earlier wish is what counts, and the desired one comes.

    What is wrong with the very copy that they see, or with the disk that it is on, counts before that.
    """
    readable = _readable(observed)
    if readable is None:
        return
    state.artifact.CopyFrom(readable.artifact)
    state.path = readable.path
    wanted = readable.artifact.digest == desired.assignment.artifact.digest and readable.path == observed.path
    if wanted or (isinstance(observed.obstacle, Unavailable) and observed.obstacle.reason is Reason.DISK_ERROR):
        return
    state.update, state.phase = state.phase, NODE_PHASE_READY
    # What is said about files by no name would be taken for what is said about those that readers see.
    state.ClearField("facts")
    state.ClearField("parse_problem")


def _describe_kept(state: NodeModelState, observed: Observed) -> None:
    """Say what there is of a model of which nobody knows what it is to be."""
    readable = next((each for each in observed.publications if each.intact), None)
    state.phase = NODE_PHASE_UPDATING
    if readable is None:
        state.problem.CopyFrom(_waiting(REASON_RESOLVING, "waiting to be told what the model is"))
        return
    state.path = readable.path
    if not observed.copy.complete:
        why = "some of its files are damaged on disk, which are fetched again once the source is listed"
        state.problem.CopyFrom(_waiting(REASON_ARTIFACT_DAMAGED, why))
        return
    state.phase = NODE_PHASE_READY
    state.artifact.CopyFrom(readable.artifact)
    _describe_parsing(state, observed)


def _describe_parsing(state: NodeModelState, observed: Observed) -> None:
    parsing = observed.parsing
    if parsing and parsing.facts_key:
        state.facts_key = parsing.facts_key
    elif parsing and parsing.facts is not None:
        state.facts.CopyFrom(parsing.facts)
    if parsing and parsing.problem is not None:
        state.parse_problem.CopyFrom(parsing.problem)


def _describe_delay(
    state: NodeModelState,
    desired: Desired,
    observed: Observed,
    setback: Setback | None,
) -> None:
    """Say why the model is not as desired: what is under way, or what went wrong last."""
    transfer = observed.transfer
    state.phase = NODE_PHASE_UPDATING
    if setback and not (transfer and transfer.moving):
        # Another attempt is news only once it does better than the last one.
        final = setback.problem.problem_class == PROBLEM_CLASS_INVALID
        state.phase = NODE_PHASE_FAILED if final or not _readable(observed) else NODE_PHASE_UPDATING
        state.problem.CopyFrom(setback.problem)
        if transfer:
            state.problem.ClearField("retry_at")
    elif observed.copy.damaged:
        files = ", ".join(observed.copy.damaged[:3]) + (" and more" if len(observed.copy.damaged) > 3 else "")
        state.problem.CopyFrom(_waiting(REASON_ARTIFACT_DAMAGED, f"files were changed or damaged on disk: {files}"))
    elif transfer and transfer.phase is TransferPhase.RUNNING:
        state.bytes_done = transfer.bytes_done
        size = shown_size(desired.assignment.artifact.bytes)
        state.problem.CopyFrom(_waiting(REASON_DOWNLOADING, f"fetching {size} from {desired.assignment.source.uri}"))
    else:
        state.problem.CopyFrom(_waiting(REASON_QUEUED, "waiting for other downloads on this node"))


def _waiting(reason: ReasonNumber, message: str) -> Problem:
    return Problem(reason=reason, message=message, problem_class=PROBLEM_CLASS_UNAVAILABLE)
