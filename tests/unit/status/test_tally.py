"""What metrics say of models: counts that follow every change, and how long a model was awaited."""

from typing import Any

import pytest

from services.status.tally import Tally, waited_seconds


def counts(tally: Tally) -> tuple[dict[str, int], dict[str, int]]:
    """Counts that are not zero."""
    states = {state: number for state, number in tally.states() if number}
    return states, {reason: number for reason, number in tally.failures() if number}


def test_counts_follow_models_that_change_and_go() -> None:
    tally = Tally()
    tally.put("a", "Failed", ["Gated", "Gated", "DiskError"])
    tally.put("b", "Ready", ["DiskError"])
    assert counts(tally) == ({"Failed": 1, "Ready": 1}, {"Gated": 2, "DiskError": 2})
    tally.put("a", "Ready", [])
    tally.remove("absent")
    assert counts(tally) == ({"Ready": 2}, {"DiskError": 1})
    tally.remove("b")
    tally.remove("a")
    assert counts(tally) == ({}, {})
    assert set(dict(tally.states())) == {"Failed", "Ready"}, "a state that no model has any more is told as 0"


def said(status: str, time: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Available", "status": status, "lastTransitionTime": f"2026-11-28T{time}Z"}]}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], float | None]] = {
    "a new model that is Ready at once": ({}, said("True", "10:00:05"), 5),
    "a new model that was first said to be on its way": (said("False", "10:00:02"), said("True", "10:10:00"), 600),
    "a model that had lost its last copy": (said("False", "12:00:00"), said("True", "12:00:30"), 30),
    "a model that is Ready already": (said("True", "10:00:05"), said("True", "10:00:05"), None),
    "a model that is not Ready yet": (said("False", "10:00:02"), said("False", "10:00:02"), None),
    "a clock that was set back": ({}, said("True", "09:00:00"), 0),
}


@pytest.mark.parametrize(("before", "after", "seconds"), CASES.values(), ids=CASES.keys())
def test_the_wait_is_counted_from_creation_or_loss(
    before: dict[str, Any], after: dict[str, Any], seconds: float | None
) -> None:
    model = {"metadata": {"creationTimestamp": "2026-11-28T10:00:00Z"}}
    assert waited_seconds(model, before, after) == seconds
