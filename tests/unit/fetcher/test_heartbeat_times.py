"""Heartbeats of nodes whose clocks agree come together, and none comes much earlier or later than it should."""

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.fleet.heartbeat import seconds_to_next

WALL_SECONDS = st.floats(1.7e9, 2.0e9)


@given(interval=st.floats(2.0, 300.0), wall=WALL_SECONDS)
def test_a_heartbeat_comes_at_a_whole_second_near_its_interval(interval: float, wall: float) -> None:
    seconds = seconds_to_next(interval, wall)
    assert abs(seconds - interval) <= 0.5 + 1e-6
    assert abs((wall + seconds) - round(wall + seconds)) < 1e-5


@given(interval=st.integers(2, 300), second=st.integers(1_700_000_000, 2_000_000_000))
def test_who_was_on_time_is_on_time_again(interval: int, second: int) -> None:
    assert seconds_to_next(interval, second) == interval


@given(interval=st.floats(0.1, 1.9), wall=WALL_SECONDS)
def test_a_short_interval_is_kept(interval: float, wall: float) -> None:
    assert seconds_to_next(interval, wall) == interval
