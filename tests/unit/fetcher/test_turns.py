"""Whose listing is next, whatever is asked and in what order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.fleet.turns import Turns

Task = tuple[str, int]


def taken(turns: Turns[Task]) -> list[Task]:
    found = []
    while (task := turns.next()) is not None:
        found.append(task)
    return found


def test_a_namespace_has_one_slot_and_its_others_wait() -> None:
    turns: Turns[Task] = Turns(4, 100)
    for number in range(5):
        turns.add("a", ("a", number))
    assert taken(turns) == [("a", 0)]
    assert turns.wants_more
    turns.add("b", ("b", 0))
    assert taken(turns) == [("b", 0)]
    turns.done(("a", 0))
    assert taken(turns) == [("a", 1)]


def test_cluster_scoped_models_have_all_slots_but_one() -> None:
    turns: Turns[Task] = Turns(4, 100)
    for number in range(5):
        turns.add("", ("", number))
    assert len(taken(turns)) == 3
    turns.add("a", ("a", 0))
    assert taken(turns) == [("a", 0)]
    assert not turns.wants_more


def test_namespaces_take_turns_whoever_asked_first() -> None:
    turns: Turns[Task] = Turns(1, 100)
    for number, namespace in enumerate(("a", "a", "a", "b", "b", "c")):
        turns.add(namespace, (namespace, number))
    order = []
    while (task := turns.next()) is not None:
        order.append(task[0])
        turns.done(task)
    assert order == ["a", "b", "c", "a", "b", "a"]


def test_who_has_most_waiting_gives_up_the_last() -> None:
    turns: Turns[Task] = Turns(1, 3)
    assert turns.add("a", ("a", 0)) is None
    assert turns.add("a", ("a", 1)) is None
    assert turns.add("b", ("b", 0)) is None
    assert turns.add("c", ("c", 0)) == ("a", 1)


STEPS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "done"]), st.integers(0, 3)), max_size=60)


@given(STEPS, st.integers(1, 5), st.integers(1, 10))
def test_no_namespace_takes_more_than_its_share_and_none_waits_beside_a_free_slot(
    steps: list[tuple[str, int]], slots: int, most_waiting: int
) -> None:
    turns: Turns[Task] = Turns(slots, most_waiting)
    running: list[Task] = []
    waiting: list[Task] = []
    for number, (step, chosen) in enumerate(steps):
        if step == "done":
            if running:
                turns.done(running.pop(chosen % len(running)))
        else:
            waiting.append((step, number))
            crowded = turns.add(step, (step, number))
            if crowded is not None:
                waiting.remove(crowded)
        for task in taken(turns):
            running.append(task)
            waiting.remove(task)
        held = Counter(namespace for namespace, _ in running)
        assert len(running) <= slots
        assert len(waiting) <= most_waiting
        assert all(count <= 1 for namespace, count in held.items() if namespace)
        assert held[""] <= max(1, slots - 1)
        idle = [namespace for namespace, _ in waiting if held[namespace] < (1 if namespace else max(1, slots - 1))]
        assert len(running) == slots or not idle
        assert turns.wants_more == (len(running) < slots)
