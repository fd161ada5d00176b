"""Which copy is read next when people ask for it, also when somebody asks without end."""

from services.fetcher.model.reading_turns import ReadingTurns, Wish


def test_who_has_a_copy_read_again_and_again_keeps_disks_busy_for_a_part_of_the_time_only() -> None:
    turns, now, reading = ReadingTurns(), 0.0, 0.0
    for number in range(50):
        turns.ask("model", Wish(f"request-{number}", "team-a", "/models", "d"))
        now += turns.seconds_to_rest(now) or 0.0
        taken = turns.take(now)
        assert taken
        turns.ended(taken[1], now, now + 60)
        now, reading = now + 60, reading + 60
    assert reading < now / 4


def test_a_model_made_anew_of_the_same_files_does_not_end_the_rest_of_its_namespace() -> None:
    turns = ReadingTurns()
    for uid, now in (("first", 0.0), ("second", 60.0)):
        wish = Wish("r", "team-a", "/models", "d")
        turns.ask(uid, wish)
        assert turns.take(now) == (uid, wish)
        turns.ended(wish, now, now + 60)
    turns.ask("third", Wish("r", "team-a", "/models", "d"))
    assert turns.take(121.0) is None
    assert turns.take(361.0) is not None


def test_copies_that_were_not_read_yet_and_models_of_the_cluster_wait_for_nothing() -> None:
    turns = ReadingTurns()
    for namespace, digest in (("team-a", "d"), ("team-a", "d"), ("", "e"), ("", "e")):
        wish = Wish("r", namespace, "/models", digest)
        turns.ask("model", wish)
        taken = turns.take(0.0)
        assert taken == ("model", wish)
        turns.ended(wish, 0.0, 60.0)
    turns.ask("of the team", Wish("r", "team-a", "/models", "another"))
    assert turns.take(60.0)
    turns.ask("of the cluster", Wish("r", "", "/models", "e"))
    assert turns.take(60.0)


def test_namespaces_take_turns_whatever_number_of_copies_they_want_read() -> None:
    turns = ReadingTurns()
    for number in range(10):
        turns.ask(f"a-{number}", Wish("r", "team-a", "/models", f"a-{number}"))
    turns.ask("b-0", Wish("r", "team-b", "/models", "b-0"))
    order = []
    for now in (10.0, 20.0, 30.0):
        taken = turns.take(now)
        assert taken
        order.append(taken[0])
        turns.ended(taken[1], now, now + 1)
    assert order == ["a-0", "b-0", "a-1"]


def test_nothing_is_due_when_nobody_asks() -> None:
    turns = ReadingTurns()
    turns.ask("model", Wish("r", "team-a", "/models", "d"))
    turns.withdraw("model")
    assert turns.seconds_to_rest(0.0) is None
    assert turns.take(0.0) is None
