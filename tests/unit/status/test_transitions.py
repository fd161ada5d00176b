"""Which events tell of which change."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1.fetch_pb2 import PROBLEM_CLASS_MISSING
from ome.model.v1.model_pb2 import (
    REASON_ARTIFACT_DAMAGED,
    REASON_INSUFFICIENT_DISK,
    REASON_NO_CONFIG,
    REASON_NOT_FOUND,
)
from services.status.folding import StatusView
from services.status.transitions import NOTE_BYTES, together
from tests.unit.status.samples import a_model, a_plan, a_problem, failed, folded, ready, updating

MODEL = a_model()
PLAN = a_plan(MODEL, "a", "b")


def told(view: StatusView) -> list[tuple[str, str]]:
    """Type and reason of each event."""
    return [(event.type, event.reason) for event in view.events]


def after(before: StatusView, states: dict[str, Any], **more: Any) -> StatusView:
    """Fold anew on top of what was written."""
    return folded(MODEL, PLAN, states, previous=before.status, **more)


def test_a_model_that_is_ready_at_once_has_one_event() -> None:
    view = folded(MODEL, PLAN, {"a": ready(), "b": ready()})

    assert told(view) == [("Normal", "Ready")]
    assert view.events[0].message == "All 2 nodes hold the model."


def test_a_long_download_is_told_by_its_stages() -> None:
    first = folded(MODEL, PLAN, {"a": updating(), "b": updating()})
    second = after(first, {"a": ready(), "b": updating()})
    third = after(second, {"a": ready(), "b": ready()})

    assert told(first) == [("Normal", "Resolved")]
    assert told(second) == [("Normal", "Available")]
    assert told(third) == [("Normal", "Ready")]


def test_each_reason_of_failure_is_told_once_for_all_nodes() -> None:
    first = folded(MODEL, PLAN, {"a": failed(REASON_INSUFFICIENT_DISK), "b": updating()})
    second = after(first, {"a": failed(REASON_INSUFFICIENT_DISK), "b": failed(REASON_INSUFFICIENT_DISK)})

    assert ("Warning", "InsufficientDisk") in told(first)
    assert told(second) == []


def test_recovery_is_told_as_such() -> None:
    broken = folded(MODEL, PLAN, {"a": ready(), "b": failed(REASON_INSUFFICIENT_DISK)})

    assert told(after(broken, {"a": ready(), "b": ready()})) == [("Normal", "Recovered")]


def test_a_file_that_was_changed_on_a_node_is_a_warning_and_its_repair_is_told() -> None:
    before = folded(MODEL, PLAN, {"a": ready(), "b": ready()})
    changed = after(before, {"a": ready(), "b": updating(REASON_ARTIFACT_DAMAGED)})

    assert told(changed) == [("Warning", "ArtifactDamaged")]
    assert told(after(changed, {"a": ready(), "b": ready()})) == [("Normal", "Recovered")]


def test_a_missing_repository_is_a_warning_with_the_reason() -> None:
    plan = a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_NOT_FOUND, kind=PROBLEM_CLASS_MISSING))

    assert told(folded(MODEL, plan)) == [("Warning", "NotFound")]


def test_a_failed_parse_is_a_warning_beside_ready() -> None:
    plan = a_plan(MODEL, "a")
    view = folded(MODEL, plan, {"a": ready(parse_problem=a_problem(REASON_NO_CONFIG))})

    assert told(view) == [("Normal", "Ready"), ("Warning", "NoConfig")]


def test_a_node_that_falls_silent_is_a_warning() -> None:
    both = {"a": ready(), "b": ready()}
    before = folded(MODEL, PLAN, both)

    assert told(after(before, both, nodes={"a": True, "b": False})) == [("Warning", "NodeUnreachable")]


def test_a_node_that_is_heard_again_is_a_recovery() -> None:
    both = {"a": ready(), "b": ready()}
    before = folded(MODEL, PLAN, both, nodes={"a": True, "b": False})

    assert told(after(before, both)) == [("Normal", "Recovered")]


def test_nothing_to_fetch_and_disabled_are_told() -> None:
    assert told(folded(a_model(""))) == [("Normal", "NoStorage")]
    assert told(folded(a_model(disabled=True))) == [("Normal", "Disabled")]


@given(st.lists(st.text(min_size=1, max_size=1200), min_size=1, max_size=16))
def test_a_note_of_many_warnings_fits_and_says_how_many_it_leaves_out(messages: list[str]) -> None:
    note = together(messages, NOTE_BYTES)
    assert len(note.encode()) <= NOTE_BYTES
    whole = " ".join(messages)
    assert note == whole or len(whole.encode()) > NOTE_BYTES


def test_a_note_counts_the_warnings_for_which_there_is_no_room() -> None:
    assert together(["first.", "second.", "third."], 60) == "first. second. third."
    assert together(["first.", "second " * 9, "third " * 9], 60) == "first. 2 more: see .status.warnings."
    assert together(["é" * 60], 11) == "ééééé"
