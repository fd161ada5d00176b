"""Who leads, and who is told so, by a model clock: requests take long, get lost, or come back when it is too late."""

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.chassis.leadership import Term
from tests.support.lease_model import LEASE_SECONDS, QUICK_SECONDS, Cluster, Fate, Line, Server


def test_a_term_that_ends_before_its_renewal_is_answered_ends_and_begins_again() -> None:
    cluster = Cluster(Line(Server(), [Fate(), Fate(there=4.0, back=4.0)]))

    cluster.run(60)

    # Asked at 5 s, answered at 13 s; the first term was over after 10 s.
    assert cluster.told(0) == [(0.0, True), (10.0, False), (13.0, True)]


def test_a_renewal_that_takes_longer_than_the_term_it_would_give_is_not_waited_for() -> None:
    cluster = Cluster(Line(Server(), [Fate(), Fate(back=500.0)]))

    cluster.run(60)

    # Asked at 5 s, given up at 15 s, asked again after a tenth of the Lease.
    assert cluster.told(0) == [(0.0, True), (10.0, False), (16.5, True)]


def test_a_machine_that_slept_through_a_term_takes_up_what_it_dropped() -> None:
    cluster = Cluster(Line(Server()))

    cluster.run(60, pauses=[(3.0, 30.0)])

    assert cluster.told(0) == [(0.0, True), (33.0, False), (33.0, True)]


def test_a_leader_that_is_cut_off_stops_before_the_next_one_begins() -> None:
    server = Server()
    cut_off = Line(server, [Fate(back=8.0), *[Fate(arrives=False)] * 40])
    cluster = Cluster(cut_off, Line(server, [Fate(there=0.2)]))

    cluster.run(60)

    # The server may have taken the request at once, so the term is as short as if it had said so.
    assert cluster.told(0) == [(8.0, True), (10.0, False)]
    # A Lease after it saw the only write of the other.
    assert cluster.told(1) == [(15.0, True)]


def test_a_leader_that_ends_in_order_is_followed_at_once() -> None:
    server = Server()
    cluster = Cluster(Line(server), Line(server, [Fate(there=0.2)]))

    cluster.run(60, restarts=[(7.0, 0)])

    assert cluster.told(0) == []
    assert cluster.told(1) == [(7.0, True)]


async def test_a_term_that_ran_out_just_before_it_is_extended_has_ended_all_the_same() -> None:
    now = 100.0
    told: list[bool] = []
    term = Term("lead", lambda: now)
    term.on_change = told.append

    term.extend(110.0)
    now = 110.0
    # Whoever asks in this moment leaves his work undone.
    assert not term.lasts
    term.extend(115.0)

    assert told == [True, False, True]
    term.end()


_SECONDS = st.one_of(st.sampled_from((QUICK_SECONDS, 4.0, 7.0, 12.0)), st.floats(0.01, 1.5 * LEASE_SECONDS))
_FATES = st.lists(st.builds(Fate, _SECONDS, _SECONDS, st.booleans(), st.booleans()), max_size=8)
_WATCHES = st.lists(st.tuples(_SECONDS, _SECONDS), max_size=6)
_LINES = st.lists(st.tuples(_FATES, _WATCHES), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    lines=_LINES,
    restarts=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2)), max_size=3),
    pauses=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 2 * LEASE_SECONDS)), max_size=3),
)
def test_one_leads_at_a_time_and_everyone_has_been_told_how_it_stands(
    lines: list[tuple[list[Fate], list[tuple[float, float]]]],
    restarts: list[tuple[float, float]],
    pauses: list[tuple[float, float]],
) -> None:
    server = Server()
    cluster = Cluster(*(Line(server, fates, watches) for fates, watches in lines))

    cluster.run(600, restarts, pauses)

    # However it went, after so long everything works again.
    assert cluster.leaders_at_the_end == 1
