"""Which changes of a model's status a person would want to read as events.

Compares the status that was written with the one that is about to be: changes that pass between two writes make no
event. Must not do I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.artifact.reasons import Reason
from libs.model.explanation import CAUSE_HOMES

# Limit of Event.note in k8s.io/api/events/v1.
NOTE_BYTES = 1024

NORMAL = "Normal"
WARNING = "Warning"


@dataclass(frozen=True)
class EventDraft:
    """An event without its time and address."""

    type: str
    reason: str
    message: str


def transitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[EventDraft, ...]:
    """The events of a change of .status, at most one per reason; new warnings of one reason share theirs."""
    drafts: dict[str, EventDraft] = {}
    for draft in (*_progress(before, after), *_warnings(before, after)):
        drafts.setdefault(draft.reason, draft)
    return (*drafts.values(), *_remarks(before, after))


def _remarks(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[EventDraft]:
    known = before.get("warnings") or []
    by_reason: dict[str, list[str]] = {}
    for each in after.get("warnings") or []:
        if each not in known:
            by_reason.setdefault(each["reason"], []).append(each["message"])
    for reason, messages in by_reason.items():
        yield EventDraft(WARNING, reason, together(messages, NOTE_BYTES))


def together(messages: Sequence[str], most_bytes: int) -> str:
    """As many of the messages, in their order, as fit; the others are counted, and the first is cut if it must be."""
    for shown in range(len(messages), 0, -1):
        left = f" {len(messages) - shown} more: see .status.warnings." if shown < len(messages) else ""
        note = " ".join(messages[:shown]) + left
        if len(note.encode()) <= most_bytes:
            return note
    return messages[0].encode()[: most_bytes - len(left.encode())].decode(errors="ignore") + left


def _progress(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[EventDraft]:
    was, now = _conditions(before), _conditions(after)
    completed = _became_true("Complete", was, now)
    if completed:
        recovered = "True" in (_status("Degraded", was), _status("Stalled", was))
        yield EventDraft(NORMAL, "Recovered" if recovered else "Ready", now["Complete"]["message"])
    elif _status("Degraded", was) == "True" != _status("Degraded", now) and _status("Complete", now) == "True":
        yield EventDraft(NORMAL, "Recovered", now["Degraded"]["message"])
    elif _became_true("Available", was, now):
        yield EventDraft(NORMAL, "Available", now["Available"]["message"])
    coming = _coming(after)
    if coming and coming not in (_coming(before), (before.get("artifact") or {}).get("digest")) and not completed:
        yield EventDraft(NORMAL, "Resolved", now["Resolved"]["message"])
    if _status("Following", was) == "False" and _status("Following", now) == "True":
        yield EventDraft(NORMAL, now["Following"]["reason"], now["Following"]["message"])
    lifecycle = after.get("lifecycle")
    if lifecycle in ("Deleting", "Disabled") and lifecycle != before.get("lifecycle"):
        yield EventDraft(NORMAL, str(lifecycle), _cause("Complete", now))
    if _reason("Complete", now) == Reason.IN_USE != _reason("Complete", was):
        yield EventDraft(NORMAL, str(Reason.IN_USE), _cause("Complete", now))
    if _reason("Complete", now) == Reason.NO_STORAGE != _reason("Complete", was):
        yield EventDraft(NORMAL, str(Reason.NO_STORAGE), _cause("Complete", now))


def _coming(status: Mapping[str, Any]) -> str:
    """The artifact that the nodes are to hold, as far as it is known."""
    return str((status.get("update") or status.get("artifact") or {}).get("digest", ""))


def _warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[EventDraft]:
    known = {failure["reason"] for failure in before.get("failures") or []}
    was, now = _conditions(before), _conditions(after)
    known |= {_reason(name, was) for name in ("Degraded", "Stalled") if _status(name, was) == "True"}
    for name in ("Stalled", "Degraded"):
        if _status(name, now) == "True" and _reason(name, now) not in known:
            yield EventDraft(WARNING, now[name]["reason"], _cause(name, now))
    for failure in after.get("failures") or []:
        if failure["reason"] not in known:
            yield EventDraft(WARNING, failure["reason"], f"{failure['node']}: {failure['message']}")
    if _status("Whole", now) == "False" != _status("Whole", was) and _reason("Whole", now) not in known:
        yield EventDraft(WARNING, now["Whole"]["reason"], _cause("Whole", now))
    for name in ("BaseFound", "Compatible"):
        if _status(name, now) == "False" != _status(name, was) and _reason(name, now) not in known:
            yield EventDraft(WARNING, now[name]["reason"], _cause(name, now))
    if _status("Following", now) == "False" and _reason("Following", now) != _reason("Following", was):
        yield EventDraft(WARNING, now["Following"]["reason"], now["Following"]["message"])
    if _reason("Referenced", now) == Reason.DELETING != _reason("Referenced", was):
        yield EventDraft(WARNING, "BaseDeleted", now["Referenced"]["message"])
    if _status("Parsed", now) == "False" and (_status("Parsed", was), _reason("Parsed", was)) != (
        "False",
        _reason("Parsed", now),
    ):
        yield EventDraft(WARNING, now["Parsed"]["reason"], now["Parsed"]["message"])


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    return {condition["type"]: condition for condition in status.get("conditions") or []}


def _status(name: str, conditions: Mapping[str, Mapping[str, str]]) -> str:
    return conditions[name]["status"] if name in conditions else "Unknown"


def _reason(name: str, conditions: Mapping[str, Mapping[str, str]]) -> str:
    return conditions[name]["reason"] if name in conditions else ""


def _cause(name: str, conditions: Mapping[str, Mapping[str, str]]) -> str:
    """What a condition says, or the one that tells the cause of both."""
    reason = _reason(name, conditions)
    home = next((each for each in (*CAUSE_HOMES, name) if _reason(each, conditions) == reason), name)
    return conditions[home]["message"]


def _became_true(name: str, was: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> bool:
    return _status(name, was) != "True" and _status(name, now) == "True"
