"""Who gets an origin's connections and who gives one back."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.transfer.seating import Seat, Table


def taken(table: Table, user: str, count: int) -> list[Seat]:
    seats = [table.take(user) for _ in range(count)]
    assert all(seats)
    return [seat for seat in seats if seat]


def test_a_table_without_a_limit_has_a_seat_for_everybody() -> None:
    assert len(taken(Table(None), "one", 1000)) == 1000


def test_nobody_sits_beyond_the_limit() -> None:
    table = Table(2)
    first, _ = taken(table, "one", 2)
    assert table.take("two") is None
    table.leave(first)
    assert table.take("two")


def test_a_free_seat_goes_to_whoever_has_fewest_of_those_who_wait() -> None:
    table = Table(3)
    first, _, _ = taken(table, "rich", 3)
    table.begin_wait("rich")
    table.begin_wait("poor")
    table.leave(first)
    assert table.take("rich") is None
    assert table.take("poor")


def test_an_idle_seat_is_called_back_before_one_in_use() -> None:
    table = Table(3)
    seats = taken(table, "rich", 2) + taken(table, "other", 1)
    seats[2].idle = True
    table.begin_wait("poor")
    assert table.recall("poor") is seats[2]
    assert not seats[2].urgent


def test_one_who_has_nothing_is_due_a_seat_at_once_and_only_one() -> None:
    table = Table(4)
    taken(table, "rich", 4)
    table.begin_wait("poor")
    seat = table.recall("poor")
    assert seat
    assert seat.recalled
    assert seat.urgent
    assert table.recall("poor") is None


def test_shares_are_evened_out_without_breaking_anything_off() -> None:
    table = Table(4)
    taken(table, "rich", 3)
    taken(table, "poor", 1)
    table.begin_wait("poor")
    seat = table.recall("poor")
    assert seat
    assert (seat.user, seat.urgent) == ("rich", False)


def test_shares_that_are_even_stay() -> None:
    table = Table(5)
    taken(table, "one", 3)
    taken(table, "two", 2)
    table.begin_wait("two")
    assert table.recall("two") is None


def test_more_users_than_seats_take_turns() -> None:
    table = Table(1)
    held = {"a": taken(table, "a", 1)[0]}
    turns = []
    for user in "bc":
        table.begin_wait(user)
    for _ in range(9):
        (sitting, seat), *_ = held.items()
        waiting = [user for user in "abc" if user != sitting]
        recalled = table.recall(waiting[0])
        assert recalled is seat
        assert not recalled.urgent
        table.begin_wait(sitting)
        table.leave(held.pop(sitting))
        for user in ("a", "b", "c"):
            granted = table.take(user)
            if granted:
                held[user] = granted
                table.end_wait(user)
                turns.append(user)
    assert Counter(turns) == {"a": 3, "b": 3, "c": 3}


@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80))
def test_the_limit_holds_and_everybody_who_waits_sits_in_the_end(limit: int, moves: list[tuple[str, bool]]) -> None:
    table, seats = Table(limit), list[Seat]()
    for user, comes in moves:
        mine = [seat for seat in seats if seat.user == user]
        if comes and (seat := table.take(user)):
            seats.append(seat)
        elif not comes and mine:
            seats.remove(mine[0])
            table.leave(mine[0])
        assert len(table) == len(seats) <= limit
    table.begin_wait("newcomer")
    for _ in range(limit + 1):
        if table.take("newcomer"):
            return
        recalled = table.recall("newcomer")
        assert recalled
        seats.remove(recalled)
        table.leave(recalled)
    raise AssertionError("the newcomer never sat")
