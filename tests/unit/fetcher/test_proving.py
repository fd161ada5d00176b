"""Which parts of a file its source is asked for."""

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.transfer.proving import RANGE_BYTES, RANGES, WHOLE_BYTES, sampled_ranges


@given(st.integers(1, WHOLE_BYTES))
def test_a_small_file_is_compared_as_a_whole(size: int) -> None:
    assert list(sampled_ranges(size)) == [(0, size)]


@given(st.integers(WHOLE_BYTES + 1, 1 << 45))
def test_a_large_file_is_compared_in_each_of_its_equal_parts(size: int) -> None:
    ranges = list(sampled_ranges(size))
    assert len(ranges) == RANGES
    for part, (start, end) in enumerate(ranges):
        assert size * part // RANGES <= start < end <= size
        assert end - start == RANGE_BYTES
        assert end <= size * (part + 1) // RANGES


def test_the_places_are_not_to_be_foreseen() -> None:
    assert list(sampled_ranges(1 << 30)) != list(sampled_ranges(1 << 30))
