"""What a person who waits is told: which hub is used, and what is missing."""

import itertools

from ome.model.v1 import model_pb2
from ome.status.v1 import status_pb2
from tools.localcluster.__main__ import last_line
from tools.localcluster.demo import Applied, waiting_sentence
from tools.localcluster.hub import hub_sentence
from tools.localcluster.reminder import Reminder


def test_the_hub_of_the_environment_is_named_with_the_way_to_be_rid_of_it() -> None:
    assert hub_sentence({"HF_ENDPOINT": "http://127.0.0.1:9"}) == (
        "Models come from http://127.0.0.1:9, as HF_ENDPOINT says; unset it to use a hub on this machine."
    )
    assert hub_sentence({"HF_ENDPOINT": ""}) == hub_sentence({}) == "Models come from a hub on this machine."


def test_a_wait_is_explained_within_ten_seconds_and_again_but_a_short_one_not_at_all() -> None:
    said: list[tuple[float, str]] = []
    now = 0.0
    reminder = Reminder(lambda what: said.append((now, what)), lambda: now)
    for tick in range(1, 250):
        now = tick / 10
        reminder.waits_for(f"step {tick // 100}")

    assert [what for _, what in said] == ["step 0", "step 1", "step 2"]
    assert said[0][0] <= 10
    assert all(later - earlier <= 10 for (earlier, _), (later, _) in itertools.pairwise(said))


def test_models_that_are_awaited_are_named_with_the_reason() -> None:
    applied = [Applied("ClusterBaseModel", "", "one", "u1"), Applied("BaseModel", "team-a", "two", "u2")]
    model = status_pb2.Model(ref=model_pb2.ModelRef(name="one", uid="u1"))
    model.conditions.add(
        type="Available",
        status=status_pb2.CONDITION_STATUS_FALSE,
        reason="Unavailable",
        message="http://127.0.0.1:9 cannot be reached.",
    )

    assert waiting_sentence(applied, [model]) == (
        "waiting for one (Unavailable: http://127.0.0.1:9 cannot be reached.), two (nothing is known of it yet)"
    )


def test_the_last_words_of_an_output_are_those_that_say_anything() -> None:
    assert last_line("  1.0 s starting etcd\n  2.0 s waiting for etcd\n\n") == "2.0 s waiting for etcd"
    assert last_line("") == "it has not begun yet"
