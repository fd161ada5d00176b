"""What a node gives up when its disk is full: by cases, by properties, and over a long trace of demands."""

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.model.eviction import (
    Resident,
    Watermarks,
    bytes_over,
    choose,
    comes_back,
    fits_below,
)
from tests.support.demands import clairvoyant, plain_lru, trace

GB = 10**9
MARKS = Watermarks()


def resident(
    name: str, size: int = 1, last_used: float = 0.0, evictable: bool = True, used: bool | None = False
) -> Resident:
    return Resident(name, (name,), size, last_used, evictable, used)


CASES: dict[str, tuple[list[Resident], int, str]] = {
    "the one that was not used for longest goes": ([resident("a", last_used=2), resident("b", last_used=1)], 1, "b"),
    "no more go than are needed": ([resident(name, last_used=ord(name)) for name in "abc"], 2, "ab"),
    "what a Pod uses stays": ([resident("a", used=True), resident("b", last_used=9)], 1, "b"),
    "what a Pod may use stays": ([resident("a", used=None), resident("b", last_used=9)], 1, "b"),
    "what may not be evicted stays": ([resident("a", evictable=False), resident("b", last_used=9)], 1, "b"),
    "a large one spares the small one before it": ([resident("a", 1, 1), resident("b", 9, 2)], 8, "b"),
    "nothing goes where it would be in vain": ([resident("a"), resident("b", used=True)], 2, ""),
    "nothing goes where nothing is needed": ([resident("a")], 0, ""),
}


@pytest.mark.parametrize(("residents", "needed", "gone"), CASES.values(), ids=CASES.keys())
def test_copies_go_in_order(residents: list[Resident], needed: int, gone: str) -> None:
    assert "".join(each.digest for each in choose(residents, needed)) == gone


def test_a_watermark_takes_what_it_can_get_and_nothing_that_was_used_a_moment_ago() -> None:
    residents = [resident("a", last_used=50), resident("b", last_used=99)]
    assert [each.digest for each in choose(residents, 10, settled_before=60)] == ["a"]


def test_copies_go_above_the_high_watermark_until_the_low_one() -> None:
    assert bytes_over(MARKS, 100, 15) == 0
    assert bytes_over(MARKS, 100, 14) == 11
    assert bytes_over(Watermarks(1.0, 1.0), 100, 0) == 0


def test_a_copy_comes_back_by_itself_only_where_it_does_not_bring_the_disk_near_the_watermark_again() -> None:
    assert fits_below(MARKS, 100, 40, 15)
    assert not fits_below(MARKS, 100, 40, 16)


@pytest.mark.parametrize(
    ("evictable", "demanded", "used", "invited", "back"),
    [
        (True, False, False, False, False),
        (False, False, False, False, True),
        (True, True, False, False, True),
        (True, False, True, False, True),
        (True, False, False, True, True),
    ],
)
def test_a_model_comes_back_when_it_is_needed(
    evictable: bool, demanded: bool, used: bool, invited: bool, back: bool
) -> None:
    assert comes_back(evictable, demanded, used, invited) is back


residents = st.lists(
    st.builds(
        Resident,
        digest=st.uuids().map(str),
        models=st.just(("m",)),
        bytes=st.integers(0, 50),
        last_used=st.floats(0, 100),
        evictable=st.booleans(),
        used=st.sampled_from([True, False, None]),
    ),
    max_size=12,
    unique_by=lambda each: each.digest,
)


@given(residents, st.integers(1, 200))
def test_what_is_chosen_suffices_is_free_and_none_of_it_is_one_too_many(known: list[Resident], needed: int) -> None:
    chosen = choose(known, needed)
    assert all(each.evictable and each.used is False for each in chosen)
    gained = sum(each.bytes for each in chosen)
    free = [each for each in known if each.evictable and each.used is False]
    assert bool(chosen) == (sum(each.bytes for each in free) >= needed), "room that can be made is made"
    assert all(gained - each.bytes < needed for each in chosen)


@dataclass
class Disk:
    """A disk of 10 GB below a node that is asked for one model after the other."""

    held: dict[str, Resident]
    hits: int = 0
    refused: int = 0

    @property
    def free(self) -> int:
        return 10 * GB - sum(each.bytes for each in self.held.values())

    def demand(self, name: str, size: int, now: float, used: frozenset[str]) -> None:
        """A Pod names a model."""
        if name in self.held:
            self.hits += 1
            self.held[name] = replace(self.held[name], last_used=now)
            return
        known = [replace(each, used=each.digest in used) for each in self.held.values()]
        could = sum(each.bytes for each in known if not each.used) + self.free
        lacking = size - self.free
        if lacking > 0:
            for victim in choose(known, lacking):
                assert self.held.pop(victim.digest).digest not in used
        if self.free < size:
            self.refused += 1
            assert could < size, "room could have been made"
            return
        self.held[name] = resident(name, size, now)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_gigabytes_of_models_share_a_disk_of_ten_as_well_as_the_best_order_allows(seed: int) -> None:
    dice = random.Random(seed)
    sizes = {f"m{number:02}": dice.randrange(GB // 2, 3 * GB) for number in range(17)}
    while sum(sizes.values()) < 30 * GB:
        sizes[f"m{len(sizes):02}"] = dice.randrange(GB // 2, 3 * GB)
    demands = list(trace(seed, sizes, 3000))
    disk = Disk({})
    for now, (name, used) in enumerate(demands):
        disk.demand(name, sizes[name], float(now), used)
    names = [name for name, _ in demands]
    ours, lru, best = (
        disk.hits / len(names),
        plain_lru(sizes, names, 10 * GB) / len(names),
        clairvoyant(sizes, names, 10 * GB) / len(names),
    )
    print(
        f"{sum(sizes.values()) / GB:.1f} GB on 10 GB: hit rate {ours:.3f}, plain LRU {lru:.3f}, clairvoyant {best:.3f}"
    )
    assert disk.refused == 0
    assert ours >= lru - 0.02
    assert lru <= best
