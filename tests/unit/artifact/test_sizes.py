"""Sizes as people read them."""

import pytest

from libs.artifact.sizes import shown_size


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (135, "135 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (91_000_000, "86.8 MiB"),
        (40_273_670_144, "37.5 GiB"),
        (10 << 40, "10 TiB"),
        ((1 << 40) - 1, "1 TiB"),
        (5000 << 40, "4.9 PiB"),
        (1 << 60, "1 EiB"),
        (5000 << 60, "5000 EiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_of_which_there_is_one(size_bytes: int, shown: str) -> None:
    assert shown_size(size_bytes) == shown
