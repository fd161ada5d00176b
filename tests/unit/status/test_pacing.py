"""What is written at once and what may wait."""

from ome.model.v1.model_pb2 import REASON_INSUFFICIENT_DISK
from services.status.pacing import WAITING_SECONDS, Pacer, Spread, StoragePacer, status_patience_seconds
from tests.unit.status.samples import a_model, a_plan, failed, folded, ready, updating

MODEL = a_model()
PLAN = a_plan(MODEL, "a", "b")


def test_an_outcome_on_every_node_is_written_at_once() -> None:
    for states in ({"a": ready(), "b": ready()}, {"a": ready(), "b": failed(REASON_INSUFFICIENT_DISK)}):
        assert status_patience_seconds({}, folded(MODEL, PLAN, states).status) == 0


def test_the_first_ready_nodes_wait_briefly_for_the_others() -> None:
    status = folded(MODEL, PLAN, {"a": ready(), "b": updating()}).status

    assert 0 < status_patience_seconds({}, status) < 0.1


def test_the_news_that_fetching_began_waits_longest() -> None:
    status = folded(MODEL, PLAN, {"a": updating(), "b": updating()}).status

    assert status_patience_seconds({}, status) == WAITING_SECONDS


def test_a_large_fleet_is_written_less_often() -> None:
    names = [f"n{number}" for number in range(5000)]
    status = folded(MODEL, a_plan(MODEL, *names), {"n1": ready()}).status

    assert status_patience_seconds({}, status) > 5


def test_what_the_user_has_to_change_is_written_at_once() -> None:
    for model, plan in ((MODEL, a_plan(MODEL)), (a_model(""), None), (a_model(disabled=True), None)):
        assert status_patience_seconds({}, folded(model, plan).status) == 0


def test_a_change_waits_from_when_it_was_first_seen() -> None:
    pacer: Pacer[str] = Pacer()

    assert pacer.remaining_seconds("m", 1.0, now=10.0) == 1.0
    assert pacer.remaining_seconds("m", 1.0, now=10.75) == 0.25
    assert pacer.remaining_seconds("m", 0.0, now=10.8) <= 0


def test_a_change_that_went_away_waits_anew_when_it_comes_back() -> None:
    pacer: Pacer[str] = Pacer()
    pacer.remaining_seconds("m", 1.0, now=10.0)
    pacer.settled("m")

    assert pacer.remaining_seconds("m", 1.0, now=20.0) == 1.0


def test_a_slow_write_makes_the_next_wait_in_proportion() -> None:
    pacer: Pacer[str] = Pacer(interval_seconds=0.05)
    pacer.written("n", started=10.0, now=10.5)

    assert pacer.remaining_seconds("n", 0.0, now=10.5) == 1.0


def test_a_node_is_written_less_often_the_more_nodes_there_are_and_while_models_are_to_come() -> None:
    spread = Spread(busy_seconds_per_node=0.03, settled_seconds_per_node=0.005, longest_seconds=30)

    assert spread.interval_seconds(3, busy=True) < 0.1
    assert spread.interval_seconds(1000, busy=False) == 5
    assert spread.interval_seconds(1000, busy=True) == spread.interval_seconds(5000, busy=True) == 30


def test_the_room_of_a_node_is_written_once_in_five_minutes_also_by_a_process_that_has_just_begun() -> None:
    pacer = StoragePacer()
    assert pacer.remaining_seconds("n1", False, 1000.0) == 0
    pacer.written("n1", 1000.0)
    assert pacer.remaining_seconds("n1", True, 1001.0) == 299

    turns = [StoragePacer().remaining_seconds(f"n{number}", True, 0.0) for number in range(1000)]
    assert 0 <= min(turns) < 5
    assert 295 < max(turns) < 300
    pacer.forget("n1")
    assert pacer.remaining_seconds("n1", False, 1002.0) == 0
