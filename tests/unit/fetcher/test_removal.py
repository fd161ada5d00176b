"""What is to go stays while it is spared, unknown or used, goes at the latest with its time, and never comes back."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1.fetch_pb2 import Assignment
from services.fetcher.model.keeping import hold_seconds
from services.fetcher.model.removal import (
    SETTLED_SECONDS,
    Fate,
    Holder,
    Leaving,
    Use,
    judge,
    seconds_until_question,
    shown_use,
)

POD = Use(1, (Holder("serving", "llama-0"),))
DAY = 86400.0

CASES = {
    "a copy that no Pod uses goes as soon as that is known": (Leaving(2, 0, DAY, Use()), Fate.GOES, 0),
    "a copy of which nothing is known stays": (Leaving(2, 0, DAY), Fate.UNKNOWN, DAY - 2),
    "a copy that a Pod uses stays": (Leaving(2, 0, DAY, POD), Fate.HELD, DAY - 2),
    "a copy that a Pod uses goes when its time is over": (Leaving(DAY, 0, DAY, POD), Fate.GOES, 0),
    "a copy of which nothing is known goes when its time is over": (Leaving(DAY, 0, DAY), Fate.GOES, 0),
    "no time means at once, whoever uses it": (Leaving(0, 0, 0, POD), Fate.GOES, 0),
    "a name is spared though nobody uses it": (Leaving(5, 60, DAY, Use()), Fate.SPARED, 55),
    "a name is spared though Pods may hold nothing": (Leaving(5, 60, 0, POD), Fate.SPARED, 55),
    "a name that is no longer spared goes when nobody uses it": (Leaving(60, 60, DAY, Use()), Fate.GOES, 0),
    "a name that is no longer spared stays while a Pod uses it": (Leaving(60, 60, DAY, POD), Fate.HELD, DAY - 60),
}

USES = st.one_of(st.none(), st.builds(Use, st.integers(0, 3)))
LEAVINGS = st.builds(Leaving, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), USES)


@pytest.mark.parametrize("case", CASES)
def test_fate(case: str) -> None:
    leaving, fate, remaining = CASES[case]
    verdict = judge(leaving)
    assert (verdict.fate, verdict.remaining_seconds) == (fate, remaining)


@given(LEAVINGS)
def test_what_pods_use_goes_only_when_its_time_is_over(leaving: Leaving) -> None:
    used = dataclasses.replace(leaving, use=POD)
    if judge(used).fate is Fate.GOES:
        assert used.for_seconds >= max(used.grace_seconds, used.spared_seconds)


@given(LEAVINGS)
def test_everything_goes_at_the_latest_with_its_time(leaving: Leaving) -> None:
    verdict = judge(leaving)
    while verdict.fate is not Fate.GOES:
        assert verdict.remaining_seconds > 0
        later = leaving.for_seconds + verdict.remaining_seconds
        assert later > leaving.for_seconds or verdict.remaining_seconds < 1e-6
        leaving = dataclasses.replace(leaving, for_seconds=later + 1e-6)
        verdict = judge(leaving)


@given(LEAVINGS, st.floats(0, 1e6))
def test_what_goes_goes_also_later_and_when_less_use_is_known(leaving: Leaving, later: float) -> None:
    if judge(leaving).fate is Fate.GOES:
        assert judge(dataclasses.replace(leaving, for_seconds=leaving.for_seconds + later)).fate is Fate.GOES
        assert judge(dataclasses.replace(leaving, use=Use())).fate is Fate.GOES


def test_the_first_question_waits_until_the_controller_has_heard_of_pods_that_were_quicker() -> None:
    assert seconds_until_question(0, asked_before=False) == SETTLED_SECONDS
    assert seconds_until_question(5, asked_before=False) == 0


@pytest.mark.parametrize(("for_seconds", "wait"), [(1, 2), (60, 6), (3600, 30)])
def test_questions_are_rarer_the_longer_a_pod_holds_a_copy(for_seconds: float, wait: float) -> None:
    assert seconds_until_question(for_seconds, asked_before=True) == wait


@pytest.mark.parametrize(
    ("use", "shown"),
    [
        (None, "the controller has not said yet which Pods use it"),
        (POD, "Pod serving/llama-0 uses it"),
        (Use(3, POD.holders), "Pod serving/llama-0 and 2 more Pods use it"),
        (Use(2, POD.holders), "Pod serving/llama-0 and 1 more Pod use it"),
        (Use(1, (Holder("", ""),)), "a Pod uses it"),
        (Use(12), "12 Pods use it"),
    ],
)
def test_pods_are_told_by_name_as_far_as_they_may_be_known(use: Use | None, shown: str) -> None:
    assert shown_use(use) == shown


def test_a_model_may_be_held_for_less_time_than_the_node_says_and_not_for_more() -> None:
    assert hold_seconds(60, None) == 60
    assert hold_seconds(60, Assignment()) == 60
    assert hold_seconds(60, Assignment(in_use_grace_seconds=0)) == 0
    assert hold_seconds(60, Assignment(in_use_grace_seconds=600)) == 60
    assert hold_seconds(60, Assignment(in_use_grace_seconds=-1)) == 0
