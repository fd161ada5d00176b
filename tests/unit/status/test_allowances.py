"""Shares of callers: rates, seats, and what is remembered of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.status.allowances import Rate, Remembered, Seats


def test_what_is_remembered_holds_until_its_time() -> None:
    remembered: Remembered[str, str] = Remembered(2)
    remembered.put("a", "yes", 10.0)
    assert remembered.get("a", 9.9) == "yes"
    assert remembered.get("a", 10.0) is None
    assert len(remembered) == 0


def test_an_answer_of_no_is_an_answer() -> None:
    remembered: Remembered[str, bool] = Remembered(2)
    remembered.put("a", False, 10.0)
    assert remembered.get("a", 1.0) is False


def test_of_too_many_the_longest_unused_is_forgotten() -> None:
    remembered: Remembered[str, int] = Remembered(2)
    remembered.put("a", 1, 10.0)
    remembered.put("b", 2, 10.0)
    remembered.get("a", 1.0)
    remembered.put("c", 3, 10.0)
    assert [remembered.get(key, 1.0) for key in "abc"] == [1, None, 3]


def test_a_rate_permits_a_burst_and_then_so_much_per_second() -> None:
    rate: Rate[str] = Rate(2.0, 3.0, 10)
    for _ in range(3):
        assert rate.wait_seconds("a", 0.0) == 0.0
        rate.take("a", 0.0)
    assert rate.wait_seconds("a", 0.0) == pytest.approx(0.5)
    assert rate.wait_seconds("b", 0.0) == 0.0
    assert rate.wait_seconds("a", 0.5) == 0.0


@given(st.lists(st.floats(0.0, 2.0), max_size=200))
def test_nobody_gets_more_than_burst_and_rate(pauses: list[float]) -> None:
    rate: Rate[str] = Rate(2.0, 5.0, 10)
    now = taken = 0.0
    for pause in pauses:
        now += pause
        if rate.wait_seconds("a", now) == 0.0:
            rate.take("a", now)
            taken += 1
    assert taken <= 5.0 + 2.0 * now + 1e-6


def test_seats_are_bounded_for_each_and_for_all() -> None:
    seats: Seats[str] = Seats(2, 5)
    assert [seats.take("a") for _ in range(3)] == [True, True, False]
    assert [seats.take("b") for _ in range(2)] == [True, True]
    assert [seats.take(key) for key in "cd"] == [True, False]
    seats.free("a")
    assert seats.take("d")


@given(st.integers(1, 100), st.integers(1, 60))
def test_callers_who_take_all_they_can_leave_a_seat_for_one_who_comes_later(most_each: int, greedy: int) -> None:
    seats: Seats[int] = Seats(most_each, 500)
    taken = [0] * greedy
    for _ in range(most_each):
        for key in range(greedy):
            taken[key] += seats.take(key)
    assert sum(taken) < 500
    assert max(taken) - min(taken) <= 1
    assert min(taken) >= min(most_each, 500 // (greedy + 1))
    assert seats.take(-1)
