"""Whose transfer is next and whose makes room, for whatever models there are."""

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.model.shares import Claim, Pace, Shares

NAMESPACES = ["", "a", "b", "c"]
CLAIM = st.builds(Claim, st.sampled_from(NAMESPACES), st.integers(-3, 10))
CLAIMS = st.lists(CLAIM, min_size=1, max_size=3).map(tuple)
RUNNING = st.lists(CLAIMS, min_size=1, max_size=4)
PACE = st.builds(Pace, st.integers(0, 5))


@given(PACE, RUNNING, CLAIMS, st.integers(0, 3))
def test_two_transfers_never_make_room_for_each_other_in_turn(
    pace: Pace, running: list[tuple[Claim, ...]], waiting: tuple[Claim, ...], chosen: int
) -> None:
    shares = Shares(pace)
    chosen %= len(running)
    leaving = running[chosen]
    if shares.makes_room(leaving, waiting, running):
        after = [*running[:chosen], *running[chosen + 1 :], waiting]
        assert not shares.makes_room(waiting, leaving, after)


@given(PACE, RUNNING, st.integers(-3, 10), st.integers(-3, 10))
def test_a_priority_beyond_the_operators_bound_gains_nothing_over_another_namespace(
    pace: Pace, running: list[tuple[Claim, ...]], one: int, other: int
) -> None:
    one, other = max(one, pace.most_priority_across), max(other, pace.most_priority_across)
    shares = Shares(pace)
    ranks = [shares.rank([Claim("a", priority)], running)[:3] for priority in (one, other)]
    assert ranks[0] == ranks[1]
    assert shares.makes_room([Claim("b", 0)], [Claim("a", one)], running) == shares.makes_room(
        [Claim("b", 0)], [Claim("a", other)], running
    )


@given(PACE, st.integers(0, 10), st.integers(0, 10))
def test_within_a_namespace_the_larger_priority_is_first_and_has_others_make_room(
    pace: Pace, one: int, other: int
) -> None:
    shares = Shares(pace)
    first, second = (Claim("a", one),), (Claim("a", other),)
    assert (shares.rank(first, []) < shares.rank(second, [])) == (one > other)
    assert shares.makes_room(first, second, [first]) == (other > one)


def test_a_transfer_that_serves_several_namespaces_does_not_make_room_for_a_wish_of_one() -> None:
    shares, shared = Shares(Pace()), (Claim("a", 0), Claim("b", 0))
    assert not shares.makes_room(shared, (Claim("a", 5),), [shared])


def test_namespaces_take_turns() -> None:
    shares = Shares(Pace())
    a, b = (Claim("a", 0),), (Claim("b", 0),)
    shares.serve(a)
    assert shares.rank(b, []) < shares.rank(a, [])
    shares.serve(b)
    assert shares.rank(a, []) < shares.rank(b, [])
    shares.forget_all_but({"b"})
    assert shares.rank(a, []) < shares.rank(b, [])
