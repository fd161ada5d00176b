"""How far the nodes of a model are: what is said of it, and how often it is written."""

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from ome.fetch.v1.fetch_pb2 import FileProgress, Progress
from ome.model.v1.model_pb2 import REASON_INSUFFICIENT_DISK, REASON_QUEUED
from services.status.pacing import ProgressPacer, differs_in_progress_alone
from services.status.wording import fetched
from tests.unit.status.samples import (
    ARTIFACT,
    NOW,
    OLD_DIGEST,
    a_model,
    a_plan,
    a_problem,
    failed,
    folded,
    message,
    ready,
    updating,
)

MODEL = a_model()
PLAN = a_plan(MODEL, "a", "b")
TOTAL = ARTIFACT.bytes


def moving(share: float, rate: int = 1_000_000) -> Progress:
    """A node that has a share of the artifact."""
    done = int(share * TOTAL)
    return Progress(
        bytes_done=done, bytes_total=TOTAL, bytes_per_second=rate, eta_seconds=-(-(TOTAL - done) // rate) if rate else 0
    )


def test_the_two_largest_files_on_their_way_are_told_of_each_node_that_is_told() -> None:
    names = ("a.safetensors", "b.safetensors", "c.safetensors")
    files = [FileProgress(path=name, bytes_done=5, bytes_total=10, bytes_per_second=1, eta_seconds=5) for name in names]
    files[1].eta_seconds = 0
    transfer = moving(0.5)
    transfer.files.extend(files)
    [node] = folded(MODEL, PLAN, {"a": updating()}, transfers={"a": transfer}).status["progress"]["nodes"]
    assert node["files"] == [
        {"path": "a.safetensors", "bytes": 5, "totalBytes": 10, "bytesPerSecond": 1, "etaSeconds": 5},
        {"path": "b.safetensors", "bytes": 5, "totalBytes": 10, "bytesPerSecond": 1},
    ]


def test_the_figures_are_those_of_all_nodes_and_the_slowest_tells_the_time_left() -> None:
    view = folded(MODEL, PLAN, {"a": updating(), "b": updating()}, transfers={"a": moving(0.5), "b": moving(0.25)})

    assert view.status["progress"] == {
        "percent": "37%",
        "bytes": 68_250_000,
        "totalBytes": 182_000_000,
        "bytesPerSecond": 2_000_000,
        "slowestNode": "b",
        "etaSeconds": 69,
        "startedAt": "2026-03-01T12:00:00Z",
        "nodes": [
            {"node": "b", "bytes": 22_750_000, "bytesPerSecond": 1_000_000, "etaSeconds": 69},
            {"node": "a", "bytes": 45_500_000, "bytesPerSecond": 1_000_000, "etaSeconds": 46},
        ],
    }
    said = "37% fetched (65.1 MiB of 173.6 MiB, 1.9 MiB/s, about 69 seconds left; slowest is b)."
    assert message(view, "Complete") == "Waiting for 2 of 2 nodes: a and b."
    assert message(view, "Available") == f"No node holds the model: the condition Complete tells the cause. {said}"
    assert message(view, "Ready") == message(view, "Available")
    assert said not in message(view, "Complete")


def test_a_node_that_holds_the_model_counts_in_full_and_one_that_waits_not_at_all() -> None:
    plan = a_plan(MODEL, "a", "b", "c")
    states = {"a": ready(), "b": updating(), "c": updating(REASON_QUEUED)}
    view = folded(MODEL, plan, states, transfers={"b": moving(0.5)})

    assert view.status["progress"]["percent"] == "50%"
    assert view.status["progress"]["slowestNode"] == "b"
    assert message(view, "Available").startswith("1 of 3 nodes holds the model. 50% fetched (")


def test_of_many_nodes_the_slowest_are_told_apart() -> None:
    names = [f"n{number:02}" for number in range(30)]
    moved = {name: moving(number / 40) for number, name in enumerate(names)}
    view = folded(MODEL, a_plan(MODEL, *names), {name: updating() for name in names}, transfers=moved)
    assert [each["node"] for each in view.status["progress"]["nodes"]] == names[:10]


def test_what_is_not_known_is_not_said() -> None:
    progress = folded(MODEL, PLAN, {"a": updating(), "b": updating()}).status["progress"]

    assert progress["bytesPerSecond"] == 0
    assert "etaSeconds" not in progress
    assert fetched(progress) == " 0% fetched (0 bytes of 173.6 MiB; slowest is a)."


def test_it_is_never_said_that_all_is_there_while_something_is_left_to_do() -> None:
    view = folded(MODEL, PLAN, {"a": ready(), "b": updating()}, transfers={"b": moving(1.0)})

    assert view.status["progress"]["percent"] == "99%"


@pytest.mark.parametrize(
    "states",
    [
        {"a": ready(), "b": ready()},
        {"a": ready(), "b": failed(REASON_INSUFFICIENT_DISK)},
        {"a": updating(REASON_QUEUED), "b": updating(REASON_QUEUED)},
        {},
    ],
)
def test_where_nothing_is_fetched_there_is_no_progress(states: dict[str, Any]) -> None:
    view = folded(MODEL, PLAN, states, transfers={"a": moving(0.5)})

    assert "progress" not in view.status
    assert "fetched" not in message(view, "Available")


def test_a_node_that_does_not_report_has_no_progress() -> None:
    states = {"a": updating(), "b": updating()}
    view = folded(MODEL, PLAN, states, {"a": True, "b": False}, transfers={"a": moving(0.5), "b": moving(0.1)})

    assert view.status["progress"]["slowestNode"] == "a"


@pytest.mark.parametrize(
    ("seconds", "said"), [(69, "about 69 seconds"), (150, "about 2 minutes"), (9000, "about 2 hours")]
)
def test_the_time_left_is_said_as_people_say_it(seconds: int, said: str) -> None:
    transfers = {"a": Progress(bytes_done=1, bytes_per_second=1, eta_seconds=seconds)}
    view = folded(MODEL, a_plan(MODEL, "a"), {"a": updating()}, transfers=transfers)

    assert said in message(view, "Available")


def test_the_end_of_a_download_says_how_long_it_took() -> None:
    begun = folded(MODEL, PLAN, {"a": updating(), "b": updating()}).status
    halfway = folded(
        MODEL, PLAN, {"a": ready(), "b": updating()}, previous=begun, now=NOW + timedelta(seconds=40)
    ).status
    states = {"a": ready(), "b": ready()}
    done = folded(MODEL, PLAN, states, previous=halfway, now=NOW + timedelta(seconds=95)).status
    later = folded(MODEL, PLAN, states, previous=done, now=NOW + timedelta(days=1)).status

    assert halfway["progress"]["startedAt"] == begun["progress"]["startedAt"]
    assert "progress" not in done
    assert done["download"] == {"bytes": 2 * TOTAL, "seconds": 95, "finishedAt": "2026-03-01T12:01:35Z"}
    assert later["download"] == done["download"]


def test_the_last_download_of_another_artifact_is_not_told() -> None:
    before = {"artifact": {"digest": OLD_DIGEST}, "download": {"bytes": 1, "seconds": 1}}

    assert "download" not in folded(MODEL, PLAN, {"a": ready(), "b": ready()}, previous=before).status


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    begun = folded(MODEL, PLAN, {"a": updating(), "b": updating()}).status
    done = folded(MODEL, PLAN, {"a": ready(), "b": ready()}, previous=begun, now=NOW - timedelta(days=1)).status

    assert done["download"]["seconds"] == 0


def test_more_bytes_are_no_news_but_anything_else_is() -> None:
    states = {"a": updating(), "b": updating()}
    first = folded(MODEL, PLAN, states, transfers={"a": moving(0.1)}).status
    second = folded(MODEL, PLAN, states, previous=first, transfers={"a": moving(0.2), "b": moving(0.1)}).status
    other = {"a": updating(), "b": failed(REASON_INSUFFICIENT_DISK)}
    third = folded(MODEL, PLAN, other, previous=first, transfers={"a": moving(0.2)}).status

    assert differs_in_progress_alone(first, second)
    assert not differs_in_progress_alone(first, third)
    assert not differs_in_progress_alone({}, first)
    assert not differs_in_progress_alone(first, folded(MODEL, PLAN, {"a": ready(), "b": ready()}).status)


@dataclass
class Written:
    """What the loop that owns the writes does, by a clock of the model."""

    pacer: ProgressPacer[str] = field(default_factory=ProgressPacer)
    status: dict[str, Any] = field(default_factory=dict)
    alone: list[float] = field(default_factory=list)

    def look(self, now: float, status: dict[str, Any]) -> None:
        """Look at one moment."""
        if "progress" not in status:
            self.pacer.ended("m")
        if status == self.status:
            return
        if differs_in_progress_alone(self.status, status):
            if self.pacer.remaining_seconds("m", now) > 0:
                return
            self.pacer.written("m", now)
            self.alone.append(now)
        self.status = status


def test_progress_alone_is_written_at_most_twice_a_minute_and_soon_for_the_first_time() -> None:
    written = Written()
    for second in range(600):
        # A hundred reports of other things come in between, which are written at once.
        problem = a_problem(REASON_QUEUED) if second % 7 == 0 else None
        states = {"a": updating(), "b": updating(REASON_QUEUED) if problem else updating()}
        transfers = {"a": moving(second / 600), "b": moving(second / 900)}
        status = folded(MODEL, PLAN, states, transfers=transfers, previous=written.status).status
        written.look(float(second), status)

    assert 0 < written.alone[0] <= 9
    assert 19 <= len(written.alone) <= 20
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(written.alone))
