"""Decides when a fetcher is asked to list a source: at first, again after a failure, at once with new credentials.

Pure, and writes nothing: each function says what it decides about a `Case`, and planning puts that into its plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.artifact.reasons import Reason
from libs.artifact.uri import HuggingFaceUri
from libs.model.problems import new_problem
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.pauses import growing_pause, spread
from services.controller.specification import ModelSource, SecretRef

# A listing that nobody answered is asked for again after this time: the stream may have been lost.
_ASK_AGAIN_SECONDS = 120.0
# The longest pause of a source that is respected; what is longer was written by a clock that is wrong.
_LONGEST_PAUSE_SECONDS = 86400.0
# A model that follows a source which announces a change has it listed so soon after, spread so that of many that follow
# one organization not all ask at once; and however much is announced, not more often than this, nor before a source
# that asked to be left alone has been.
_ANNOUNCED_SECONDS = 4.0
_LEAST_PAUSE_SECONDS = 30.0
_DEFAULT_BRANCH = "main"
# Failures that other credentials may end. A store may say of an expired token that it does not understand the request,
# and a hub that a private repository does not exist.
CREDENTIAL_REASONS = frozenset(
    {
        model_pb2.REASON_SECRET_NOT_FOUND,
        model_pb2.REASON_SECRET_REFUSED,
        model_pb2.REASON_INVALID_PARAMETER,
        model_pb2.REASON_FORBIDDEN,
        model_pb2.REASON_GATED,
        model_pb2.REASON_NOT_FOUND,
        model_pb2.REASON_RATE_LIMITED,
        model_pb2.REASON_UNAVAILABLE,
    }
)


@dataclass(frozen=True)
class Asked:
    """A listing that was asked for: which attempt, when, by the clock that plan is told, and with which credentials."""

    attempt: int
    at: float
    secret_version: str = ""


@dataclass(frozen=True)
class AskForListing:
    """Have a fetcher of a pool list the source.

    `message_id` names the asking. The stream drops a second message with one id, so a controller that asks again after
    a restart adds nothing, while a user who goes back to an earlier source is heard.
    """

    pool: str
    task: fetch_pb2.ResolveTask
    reason: str
    message_id: str
    # Version of the credentials that the task is meant to be done with, as far as it is known.
    secret_version: str = ""


@dataclass(frozen=True)
class Case:
    """What is known about the listing of one model's source. Times are by the clock that plan is told, in seconds."""

    model: model_pb2.ModelRef
    # metadata.generation of the model, which each edit of its source counts up.
    generation: int
    source: ModelSource
    # What the last listing found, and when that was heard of.
    resolution: fetch_pb2.Resolution | None
    heard_at: float
    asked: Asked | None
    # Version of the model's credentials as they are now; empty while that is not known.
    secret_version: str
    # Pool of fetchers that can list the source.
    pool: str
    retry_initial_seconds: float
    retry_max_seconds: float
    now: float
    # When the last listing was made, as far as the clock of the node that made it can be believed.
    resolved_at: float = 0.0
    # The source at the revision that it was listed with before all listings were lost, if it can be asked for that.
    pinned_source: fetch_pb2.Source | None = None
    # When the source has last announced a change.
    announced_at: float | None = None

    @property
    def asked_source(self) -> fetch_pb2.Source:
        """What to list first: what it was pinned to, unless the source said that it does not have that any more."""
        gone = self.resolution is not None and self.resolution.problem.reason == model_pb2.REASON_NOT_FOUND
        return self.source.source if self.pinned_source is None or gone else self.pinned_source


@dataclass(frozen=True)
class Decision:
    """What to do about a listing, what to tell meanwhile, and after how many seconds to look again."""

    ask: AskForListing | None = None
    problem: fetch_pb2.Problem | None = None
    look_again_seconds: float | None = None
    # The Secret of which any change is a reason to look again at once.
    awaited_secret: SecretRef | None = None


def await_listing(case: Case) -> Decision:
    """What to do while no listing of the source has succeeded."""
    if case.resolution is None:
        waiting = new_problem(Reason.RESOLVING, "waiting for a fetcher to list the source")
        ask, again = _ask(case, 1, "the source is not listed yet", case.asked_source)
        return Decision(ask, waiting, again)
    problem = fetch_pb2.Problem()
    problem.CopyFrom(case.resolution.problem)
    pause = _pause_seconds(case, case.resolution)
    # For people, by the clock of the node that answered.
    problem.retry_at.FromMilliseconds(case.resolution.resolved_at.ToMilliseconds() + int(pause * 1000))
    awaited = case.source.secret if awaits_credentials(case.source, problem) else None
    renewed = _has_new_credentials(case, case.resolution)
    due = case.heard_at + pause
    if due > case.now and not renewed:
        return Decision(None, problem, due - case.now, awaited)
    why = "the credentials have changed since the listing failed" if renewed else "the listing failed"
    ask, again = _ask(case, case.resolution.attempt + 1, why, case.asked_source)
    return Decision(ask, problem, again, awaited)


def list_again(case: Case, why: str) -> Decision:
    """When to ask what a listed source holds now; until the answer comes, what was listed before stays planned."""
    if case.resolution is None:
        return Decision()
    due = case.heard_at + _pause_seconds(case, case.resolution)
    if due > case.now:
        return Decision(look_again_seconds=due - case.now)
    ask, again = _ask(case, case.resolution.attempt + 1, why, case.source.source)
    return Decision(ask, look_again_seconds=again)


def follow(case: Case, interval_seconds: float) -> Decision:
    """When to ask a source that was listed whether it has something newer, as a model asks that follows it.

    The time of the last answer is that of the node which gave it, so it counts only as far as it lies before we heard
    of it; an answer to what we have asked ourselves is as old as our question.
    """
    resolution = case.resolution
    if resolution is None:
        return Decision()
    if resolution.HasField("problem"):
        listed_at = case.heard_at
        due = listed_at + min(_pause_seconds(case, resolution), interval_seconds)
        least = min(max(_LEAST_PAUSE_SECONDS, _asked_pause_seconds(resolution)), interval_seconds)
    else:
        asked = case.asked
        own = asked is not None and asked.attempt == resolution.attempt
        listed_at = asked.at if asked and own else min(case.resolved_at, case.heard_at)
        due = listed_at + _jittered(f"{case.source.key}/{resolution.attempt}", interval_seconds)
        least = _LEAST_PAUSE_SECONDS
    why = "the model follows its source"
    if case.announced_at is not None and case.announced_at >= listed_at:
        soon = case.announced_at + spread(f"{case.source.key}/{resolution.attempt}", _ANNOUNCED_SECONDS)
        due, why = min(due, max(soon, listed_at + least)), "the source has announced a change"
    if due > case.now:
        return Decision(look_again_seconds=due - case.now)
    ask, again = _ask(case, resolution.attempt + 1, why, case.source.source)
    return Decision(ask, look_again_seconds=again)


def is_named(source: ModelSource, repository: str, revisions: Sequence[str]) -> bool:
    """Whether a hub that announces a change of a repository means a source. Without revisions any may have changed."""
    uri = source.uri
    if not isinstance(uri, HuggingFaceUri) or uri.repository.casefold() != repository.casefold():
        return False
    revision = uri.revision or source.source.parameters.get("revision", "") or _DEFAULT_BRANCH
    return not revisions or revision in revisions


def awaits_credentials(source: ModelSource, problem: fetch_pb2.Problem) -> bool:
    """Whether other credentials may end a problem."""
    return source.source.has_secret and problem.reason in CREDENTIAL_REASONS


def secret_version_of(source: ModelSource, secret_states: Mapping[tuple[str, str], str]) -> str:
    """Version of a model's credentials as they are now; empty while that is not known."""
    if source.secret is None:
        return source.token_version
    state = secret_states.get(source.secret.place)
    return "" if state is None else source.secret.version(state)


def why_again(states: Iterable[fetch_pb2.NodeModelState | None], assignment: fetch_pb2.Assignment) -> str:
    """Why a source that was listed is asked again, by what nodes say of what they were to fetch; empty without reason.

    It no longer has what was listed; or that is not the whole model, which whoever publishes it may mend.
    """
    reasons = {state.problem.reason for state in states if state and state.content_digest == assignment.content_digest}
    if reasons & {model_pb2.REASON_NOT_FOUND, model_pb2.REASON_SOURCE_CHANGED}:
        return "the source no longer has what was listed"
    return "the source may have been mended" if model_pb2.REASON_INCOMPLETE in reasons else ""


def _has_new_credentials(case: Case, resolution: fetch_pb2.Resolution) -> bool:
    """Whether a failed listing may succeed with the credentials as they are now.

    Each version is tried once for this reason: what is known may be older than what the listing was made with.
    """
    if not awaits_credentials(case.source, resolution.problem):
        return False
    asked = case.asked
    if asked and asked.attempt == resolution.attempt and asked.secret_version == case.secret_version:
        return False
    return case.secret_version not in ("", resolution.secret_version)


def _ask(case: Case, attempt: int, why: str, source: fetch_pb2.Source) -> tuple[AskForListing | None, float]:
    """The question, unless this attempt was asked for and may still be answered; after how many seconds to look."""
    asked = case.asked
    if asked and asked.attempt == attempt and case.now - asked.at < _ASK_AGAIN_SECONDS:
        return None, asked.at + _ASK_AGAIN_SECONDS - case.now
    task = fetch_pb2.ResolveTask(source_key=case.source.key, source=source, model=case.model, attempt=attempt)
    message_id = f"{task.source_key}/{case.generation}/{attempt}"
    return AskForListing(case.pool, task, why, message_id, case.secret_version), _ASK_AGAIN_SECONDS


def _jittered(key: str, seconds: float) -> float:
    """A tenth more or less, by a key: models that were made together do not ask together for ever."""
    return seconds * (0.8 + 0.4 * spread(key, 1.0))


def _pause_seconds(case: Case, resolution: fetch_pb2.Resolution) -> float:
    """How long a failed listing is left alone: exponential backoff, spread per key, not less than the source asks for.

    What the source asks for is the distance of two times by the clock of the node that asked it. Neither is compared
    with ours: a node's clock may be set to another year, and ours may be set at any time.
    """
    initial = case.retry_initial_seconds
    if resolution.problem.problem_class == fetch_pb2.PROBLEM_CLASS_INVALID:
        initial = case.retry_max_seconds
    pause = growing_pause(case.source.key, resolution.attempt, initial, case.retry_max_seconds)
    return max(pause, _asked_pause_seconds(resolution))


def _asked_pause_seconds(resolution: fetch_pb2.Resolution) -> float:
    """For how long a source has asked to be left alone; no more than 0 if it has not."""
    asked: float = (resolution.problem.retry_at.ToMilliseconds() - resolution.resolved_at.ToMilliseconds()) / 1000
    return min(asked, _LONGEST_PAUSE_SECONDS)
