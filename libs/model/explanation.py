"""Explains how a model stands: on one node, and in the cluster. One pure function for everybody who is asked why.

Reads the model's object with its .status, and what is known of nodes; says in sentences whether the node is wanted and
by which rule, what happened last, what happens next and when, and who must do what. Decides nothing: placement and
the status do. Imports no protobuf, so that a command line starts fast.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from libs.artifact.durations import shown_duration
from libs.artifact.errors import InvalidValue
from libs.artifact.labels import STORAGE_LABELS
from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.artifact.uri import VolumeClaimUri, parse_uri
from libs.model.annotated import annotation_details
from libs.model.matching import Rule, group_misses, judge_rules, missing_rules, shown_group
from libs.model.placement import check_placement
from libs.model.remedies import CREDENTIALS_PLACE, Remedy, Retry, Who, remedy_of, retry_of_listing

READY, UPDATING, FAILED, EVICTED = "Ready", "Updating", "Failed", "Evicted"
# Of many nodes in one state, and of many groups that fail different rules, so many are named.
_NODES_NAMED, _GROUPS_NAMED = 3, 5
_NOTHING_TO_DO = "Nobody needs to do anything."
_UNKNOWN = Remedy(Who.OWNER, "Read the message; the reason is newer than this program.", Retry.WORKING)
# The conditions that tell a cause of several, in this order; the others name the one that does.
CAUSE_HOMES = ("Whole", "Degraded", "Stalled", "RolledOut", "Complete")
# Conditions in the order of their importance, each with the status that is bad news.
_BAD = {
    "Degraded": "True",
    "Stalled": "True",
    "Whole": "False",
    "RolledOut": "False",
    "Complete": "False",
    "Parsed": "False",
    "Following": "False",
}
# A failure that this condition tells is one of a listing, whatever was listed before.
_FOLLOWING = "Following"
_WARNINGS_TOLD = 3
# A weight whose base does not exist goes nowhere, whatever else there is to say of it.
_BASE_NOT_FOUND = "BaseNotFound"
_ROOM_COUNTED = "How much room a node has decides whether it gets a model, and not whether it keeps one."


@dataclass(frozen=True)
class Standing:
    """What a node last said of the model. Figures are of a transfer under way."""

    state: str
    reason: str = ""
    message: str = ""
    path: str = ""
    retry_at: datetime | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_second: int = 0
    eta_seconds: int = 0
    # While Ready: how the node is with another copy that is to come in place of the good one; empty if none is.
    update: str = ""


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node.

    closed says why it gets no new models, such as "is cordoned"; empty if it does, or if that is not known. reports
    says whether its fetcher was heard of lately, planned whether the controller has told it to hold the model; None
    where that is not known. standing is None while the node has said nothing of the model.
    """

    name: str
    labels: Mapping[str, str]
    exists: bool = True
    closed: str = ""
    reports: bool | None = None
    planned: bool | None = None
    standing: Standing | None = None


@dataclass(frozen=True)
class Explanation:
    """Sentences in the order in which they are read, each empty where there is nothing to say.

    wanted is whether the node is meant to hold the model; of a whole cluster, whether any is. who is empty if nobody
    has to do anything.
    """

    verdict: str
    wanted: bool
    rules: tuple[Rule, ...] = ()
    details: tuple[str, ...] = ()
    last: str = ""
    next: str = ""
    who: str = ""
    todo: str = ""

    def lines(self) -> tuple[str, ...]:
        """All of it, a sentence a line."""
        acts = f"To do, by {self.who}: {self.todo}" if self.who else self.todo
        parts = (self.verdict, *(f"{rule}." for rule in self.rules), *self.details, self.last, self.next, acts)
        return tuple(filter(None, parts))


@dataclass(frozen=True)
class _Cause:
    """The foremost cause that the conditions tell, and the condition that tells it.

    listing says that the source is not listed, so that it is for OME as a whole to try again, rather than for a node.
    """

    condition: str
    reason: str
    message: str
    listing: bool


def explain_node(
    model: Mapping[str, Any], node: NodeFacts, now: datetime, placement: Mapping[str, Any] | None = None
) -> Explanation:
    """Why the model is, or is not, on a node. now has a time zone.

    placement is the storage whose rules choose the nodes, if that is another's: a weight goes where its base is.
    """
    if not node.exists and not node.standing:
        return Explanation(f"There is no node {node.name}.", False, todo="Check the name of the node.")
    if whole := _about_all(model):
        return _with_standing(whole, node)
    storage: Mapping[str, Any] = placement or model["spec"]["storage"]
    rules = judge_rules(storage, node.name, node.labels)
    missing = _missing(node, rules)
    if missing:
        return _not_chosen(node, rules, missing)
    standing = node.standing
    details = (_ROOM_COUNTED,) if missing_rules(rules) else ()
    if node.planned is False and not standing:
        return _not_given(model, storage, node, rules)
    if not node.exists:
        verdict = f"{node.name} holds the model as far as anybody knows, but there is no such node any more."
        return Explanation(verdict, False, rules, next="OME forgets the node by itself.", todo=_NOTHING_TO_DO)
    if node.reports is False:
        remedy = _remedy(Reason.NODE_UNREACHABLE)
        held = f" It was {standing.state} when it was last heard of." if standing else ""
        verdict = f"Node {node.name} is meant to hold the model, but its fetcher does not report."
        return Explanation(verdict, True, rules, last=held.strip(), next=remedy.retry, who=remedy.who, todo=remedy.what)
    if standing is None or not standing.state:
        return _not_begun(model, node, rules)
    return replace(_by_state(node, standing, rules, now), details=details)


def explain_model(
    model: Mapping[str, Any],
    nodes: Iterable[NodeFacts],
    placement: Mapping[str, Any] | None = None,
    with_labels: bool = True,
) -> Explanation:
    """Why the model is not on more nodes of the cluster: the foremost cause, then nodes by what keeps them.

    placement is as for one node. with_labels tells what labels nodes have, which not everybody may know.
    """
    known = sorted(nodes, key=lambda node: node.name)
    if whole := _about_all(model):
        return whole
    storage: Mapping[str, Any] = placement or model["spec"]["storage"]
    chosen = [node for node in known if node.exists and not _missing(node, _rules_for(storage, node))]
    held = [node for node in chosen if node.standing and node.standing.state == READY]
    names = {node.name for node in chosen}
    others = [node for node in known if node.name not in names]
    details = [*_standing_details(chosen, _closed(storage)), *missed_details(storage, _places(others), with_labels)]
    told_besides = (*annotation_details(model["metadata"]), *_warning_details(model))
    verdict = f"{len(held):,} of {_count(len(known), 'node')} {'holds' if len(held) == 1 else 'hold'} the model"
    verdict += f"; {len(chosen):,} {'is' if len(chosen) == 1 else 'are'} chosen by its rules."
    cause = _foremost(model)
    if cause is None:
        nothing = len(held) == len(chosen) and bool(held)
        return Explanation(
            verdict,
            bool(chosen),
            details=(*details, *told_besides),
            next="" if nothing else Retry.WORKING,
            todo=_more_nodes(storage, len(chosen), len(known)) if nothing else _NOTHING_TO_DO,
        )
    remedy = _remedy(cause.reason)
    retry = _retry_of(cause, remedy)
    who, todo = _acts(remedy)
    last = f"{cause.condition} says {cause.reason}{'' if _is_told(cause.message, details) else f': {cause.message}'}"
    last, todo = _sentence(last), _with_secret(todo, storage)
    return Explanation(
        verdict, bool(chosen), details=(*details, *told_besides), last=last, next=retry, who=who, todo=todo
    )


def foremost_cause(status: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The condition to read first, its reason and message; None if nothing is wrong and nothing is awaited."""
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    wrong = {
        name: conditions[name] for name, bad in _BAD.items() if name in conditions and conditions[name]["status"] == bad
    }
    for each in wrong.values():
        # A cause of several conditions is told by one of them, and named by the others.
        told = next(
            wrong[name] for name in (*CAUSE_HOMES, *wrong) if name in wrong and wrong[name]["reason"] == each["reason"]
        )
        return told["type"], told["reason"], told.get("message") or ""
    return None


def _foremost(model: Mapping[str, Any]) -> _Cause | None:
    status = model.get("status") or {}
    found = foremost_cause(status)
    resolved = any(each["type"] == "Resolved" and each["status"] == "True" for each in status.get("conditions") or ())
    return _Cause(*found, listing=not resolved or found[0] == _FOLLOWING) if found else None


def _about_all(model: Mapping[str, Any]) -> Explanation | None:
    """What is to be said before any node is looked at: the model is meant for none, or its rules cannot be read."""
    metadata, spec = model["metadata"], model.get("spec") or {}
    storage = spec.get("storage") or {}
    if "deletionTimestamp" in metadata:
        cause = _foremost(model)
        remedy = _remedy(Reason.DELETING)
        last = cause.message if cause else ""
        return Explanation("The model is being deleted.", False, last=last, next=remedy.retry, todo=remedy.what)
    if not storage:
        remedy = _remedy(Reason.NO_STORAGE)
        return Explanation("The model has no spec.storage: there is nothing to fetch.", False, todo=remedy.what)
    if spec.get("disabled"):
        remedy = _remedy(Reason.DISABLED)
        verdict = "The model is disabled (spec.disabled): no download starts; existing copies stay."
        return Explanation(verdict, False, next=remedy.retry, who=remedy.who, todo=remedy.what)
    if base := _missing_base(model):
        return base
    try:
        uri = parse_uri(storage.get("storageUri") or "")
        check_placement(storage)
    except InvalidValue as error:
        remedy = _remedy(error.reason)
        verdict = f"OME cannot use the model as it is written: {error.message}."
        return Explanation(verdict, False, next=remedy.retry, who=remedy.who, todo=remedy.what)
    if isinstance(uri, VolumeClaimUri):
        return _in_a_claim(model)
    return None


def _missing_base(model: Mapping[str, Any]) -> Explanation | None:
    cause = _foremost(model)
    if cause is None or cause.reason != _BASE_NOT_FOUND:
        return None
    remedy = _remedy(_BASE_NOT_FOUND)
    verdict = f"The base of this weight does not exist: {cause.message}"
    return Explanation(verdict, False, next=remedy.retry, who=remedy.who, todo=remedy.what)


def _in_a_claim(model: Mapping[str, Any]) -> Explanation:
    verdict = "The model is used in its PersistentVolumeClaim: no node is meant to hold a copy."
    if cause := _foremost(model):
        remedy = _remedy(cause.reason)
        who, todo = _acts(remedy)
        return Explanation(verdict, False, last=cause.message, next=_retry_of(cause, remedy), who=who, todo=todo)
    return Explanation(verdict, False, todo=_NOTHING_TO_DO)


def _with_standing(whole: Explanation, node: NodeFacts) -> Explanation:
    """What is said of all nodes, with what this one has."""
    if not node.standing or not node.standing.state:
        return whole
    details = (*whole.details, f"Node {node.name} has a copy in state {node.standing.state}.")
    return Explanation(whole.verdict, whole.wanted, whole.rules, details, whole.last, whole.next, whole.who, whole.todo)


def _rules_for(storage: Mapping[str, Any], node: NodeFacts) -> tuple[Rule, ...]:
    return judge_rules(storage, node.name, node.labels)


def _missing(node: NodeFacts, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The rules that keep a model away from a node: those about its room do not where the model has taken of it."""
    if node.standing is None or not node.standing.state:
        return missing_rules(rules)
    return missing_rules([replace(rule, satisfied=rule.satisfied or rule.key in STORAGE_LABELS) for rule in rules])


def _closed(storage: Mapping[str, Any]) -> str:
    """What keeps new models from a node that matches, as far as the model tells."""
    tainted = ", or has a taint that storage.tolerations does not tolerate"
    return f"is cordoned or not ready{tainted if storage.get('tolerations') is not None else ''}"


def _not_chosen(node: NodeFacts, rules: tuple[Rule, ...], missing: Sequence[Rule]) -> Explanation:
    failing = " and ".join(rule.requirement for rule in missing)
    verdict = f"Node {node.name} is not meant to hold the model: it lacks {failing}."
    labels = [
        rule.requirement for rule in missing if rule.key and "=" in rule.requirement and rule.key != "metadata.name"
    ]
    if len(labels) == len(missing):
        todo = f"To have it here: kubectl label node {node.name} --overwrite {' '.join(labels)}"
    else:
        todo = (
            "To have it here, change storage.nodeSelector or storage.nodeAffinity of the model, or the node's labels."
        )
    held = node.standing is not None and bool(node.standing.state)
    return Explanation(
        verdict,
        False,
        rules,
        last=f"The node still has a copy in state {node.standing.state}." if held and node.standing else "",
        next="The node lets go of its copy." if held else Retry.WATCHED,
        todo=todo,
    )


def _not_given(
    model: Mapping[str, Any], storage: Mapping[str, Any], node: NodeFacts, rules: tuple[Rule, ...]
) -> Explanation:
    """The rules choose the node, but the controller has not told it to hold the model."""
    if node.closed:
        verdict = f"Node {node.name} matches, but {node.closed}: such a node keeps what it has and gets nothing new."
        todo = f"Make the node ready and schedulable again: kubectl uncordon {node.name}"
        return Explanation(verdict, False, rules, next=Retry.WATCHED, who=Who.ADMINISTRATOR, todo=todo)
    cause = _foremost(model)
    if cause and cause.reason != Reason.NO_MATCHING_NODE:
        remedy = _remedy(cause.reason)
        who, todo = _acts(remedy)
        return Explanation(
            f"Node {node.name} matches, but has not been told to hold the model.",
            True,
            rules,
            last=cause.message,
            next=_retry_of(cause, remedy),
            who=who,
            todo=todo,
        )
    if node.reports is False:
        remedy = _remedy(Reason.NODE_UNREACHABLE)
        verdict = f"Node {node.name} matches, but has not been told to hold the model: no fetcher reports from it."
        return Explanation(verdict, False, rules, next=remedy.retry, who=remedy.who, todo=remedy.what)
    verdict = f"Node {node.name} matches, but has not been told to hold the model: it {_closed(storage)}."
    todo = f"Look at the node: kubectl describe node {node.name}"
    return Explanation(verdict, False, rules, next=Retry.WATCHED, who=Who.ADMINISTRATOR, todo=todo)


def _not_begun(model: Mapping[str, Any], node: NodeFacts, rules: tuple[Rule, ...]) -> Explanation:
    verdict = f"Node {node.name} is meant to hold the model, and has not begun."
    cause = _foremost(model)
    if cause is None or cause.reason in (Reason.QUEUED, Reason.DOWNLOADING):
        return Explanation(verdict, True, rules, next=_remedy(Reason.QUEUED).retry, todo=_NOTHING_TO_DO)
    remedy = _remedy(cause.reason)
    who, todo = _acts(remedy)
    todo = _with_secret(todo, model["spec"]["storage"])
    return Explanation(verdict, True, rules, last=cause.message, next=_retry_of(cause, remedy), who=who, todo=todo)


def _by_state(node: NodeFacts, standing: Standing, rules: tuple[Rule, ...], now: datetime) -> Explanation:
    where = f" at {standing.path}" if standing.path else ""
    if standing.state == READY and not standing.reason:
        return Explanation(
            f"Node {node.name} holds a verified copy{where}.",
            True,
            rules,
            next="OME reads the files again from time to time and mends what is damaged.",
            todo=_NOTHING_TO_DO,
        )
    remedy = _remedy(standing.reason)
    who, todo = _acts(remedy)
    last = _sentence(standing.message)
    if standing.state == READY and standing.update:
        verdict = f"Node {node.name} holds a good copy{where}, and "
        verdict += "cannot get" if standing.update == FAILED else "gets"
        verdict += f" another that is to come in its place: {standing.reason or Reason.QUEUED}."
        if standing.reason == Reason.DOWNLOADING:
            last = _shown_figures(standing) or last
    elif standing.state == READY:
        verdict = f"Node {node.name} holds a copy{where}, with a problem: {standing.reason}."
    elif standing.state == FAILED:
        verdict = (
            f"Node {node.name} is meant to hold the model and has failed: {standing.reason or 'it does not say why'}."
        )
    elif standing.state == EVICTED:
        verdict = f"Node {node.name} is meant for the model and has given up its copy."
        return Explanation(verdict, True, rules, last=last, next=remedy.retry, who=who, todo=todo)
    elif standing.reason == Reason.DOWNLOADING:
        verdict = f"Node {node.name} is fetching the model."
        last = _shown_figures(standing) or last
        left = standing.eta_seconds
        upcoming = f"It is expected to be Ready in about {shown_duration(left)}." if left else str(remedy.retry)
        return Explanation(verdict, True, rules, last=last, next=upcoming, who=who, todo=todo)
    else:
        verdict = f"Node {node.name} is meant to hold the model and waits: {standing.reason or Reason.QUEUED}."
    return Explanation(verdict, True, rules, last=last, next=_next_attempt(standing, remedy, now), who=who, todo=todo)


def _next_attempt(standing: Standing, remedy: Remedy, now: datetime) -> str:
    if standing.retry_at is None:
        return remedy.retry
    seconds = (standing.retry_at - now).total_seconds()
    if seconds <= 0:
        return "The node is about to try again."
    return f"The node tries again at {standing.retry_at:%H:%M:%S} {standing.retry_at:%Z}, in {shown_duration(seconds)}."


def _shown_figures(standing: Standing) -> str:
    if not standing.bytes_total:
        return ""
    done = min(standing.bytes_done, standing.bytes_total)
    share = f"{100 * done // standing.bytes_total}% ({shown_size(done)} of {shown_size(standing.bytes_total)})"
    rate = f", at {shown_size(standing.bytes_per_second)}/s" if standing.bytes_per_second else ""
    return f"It has {share}{rate}."


def _standing_details(chosen: Sequence[NodeFacts], closed: str) -> Iterable[str]:
    """Chosen nodes that do not hold the model, by what keeps them."""
    groups: dict[str, list[NodeFacts]] = {}
    for node in chosen:
        standing = node.standing
        if standing and standing.state == READY:
            continue
        if node.reports is False:
            said = "does not report"
        elif standing and standing.state == FAILED:
            said = f"has failed ({standing.reason})"
        elif standing and standing.state == EVICTED:
            said = "has given up its copy"
        elif standing and standing.state:
            said = f"is updating ({standing.reason or Reason.QUEUED})"
        elif node.planned is False:
            said = node.closed or closed
        else:
            said = "has not begun"
        groups.setdefault(said, []).append(node)
    for said, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        first = members[0].standing
        because = f" On {members[0].name}: {_sentence(first.message)}" if first and first.message else ""
        yield (
            f"{_names([node.name for node in members])}: each {said}.{because}"
            if len(members) > 1
            else (f"{_names([members[0].name])} {said}.{because}")
        )


def _warning_details(model: Mapping[str, Any]) -> Iterator[str]:
    """What is odd about the files, and who can do what about it."""
    warnings = (model.get("status") or {}).get("warnings") or ()
    for warning in warnings[:_WARNINGS_TOLD]:
        remedy = _remedy(warning["reason"])
        yield f"{warning['reason']}: {_sentence(warning['message'])} For {remedy.who}: {remedy.what}"
    if (more := len(warnings) - _WARNINGS_TOLD) > 0:
        yield f"{_count(more, 'more warning')}: see .status.warnings."


def _places(nodes: Iterable[NodeFacts]) -> Iterator[tuple[str, Mapping[str, str]]]:
    return ((node.name, node.labels) for node in nodes if node.exists)


def missed_details(
    storage: Mapping[str, Any], nodes: Iterable[tuple[str, Mapping[str, str]]], with_labels: bool
) -> Iterator[str]:
    """The nodes, given by name and labels, that the rules do not choose, and which rule each fails; nearest first."""
    groups = group_misses(storage, nodes)
    for group in groups[:_GROUPS_NAMED]:
        yield f"Not chosen: {shown_group(group, with_labels)}."
    if rest := sum(len(group.nodes) for group in groups[_GROUPS_NAMED:]):
        yield f"Not chosen: {_count(rest, 'more node')}, for other rules."


def _is_told(message: str, details: Iterable[str]) -> bool:
    """Whether one of the details ends in what the message says, which then need not be read twice."""
    ends = (detail.rpartition(": ")[2].rstrip(".").casefold() for detail in details)
    return any(end and end in message.casefold() for end in ends)


def _with_secret(todo: str, storage: Mapping[str, Any]) -> str:
    """What to do, with the name of the model's Secret where that is what has to be changed."""
    if key := storage.get("storageKey"):
        return todo.replace(CREDENTIALS_PLACE, f"Secret {key}, which the model names")
    return todo.replace(CREDENTIALS_PLACE, "a Secret, and name it in storage.storageKey")


def _more_nodes(storage: Mapping[str, Any], chosen: int, known: int) -> str:
    if chosen == known or not (storage.get("nodeSelector") or storage.get("nodeAffinity")):
        return _NOTHING_TO_DO
    return "To have it on more nodes, label them as the rules ask, or change the rules."


def _remedy(word: str) -> Remedy:
    return remedy_of(word) or _UNKNOWN


def _retry_of(cause: _Cause, remedy: Remedy) -> str:
    return retry_of_listing(remedy.retry) if cause.listing else remedy.retry


def _acts(remedy: Remedy) -> tuple[str, str]:
    return ("" if remedy.who is Who.NOBODY else str(remedy.who)), remedy.what


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NODES_NAMED])
    more = f" and {len(names) - _NODES_NAMED:,} more" if len(names) > _NODES_NAMED else ""
    return f"{'Node' if len(names) == 1 else 'Nodes'} {shown}{more}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
