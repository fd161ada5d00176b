"""The matrix of the page: what a cell says, what a browser is sent, and in which order nodes stand."""

import base64
from typing import Any

import pytest

from ome.fetch.v1.fetch_pb2 import Progress
from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    NODE_PHASE_EVICTED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_EVICTED,
    REASON_NODE_UNREACHABLE,
    REASON_QUEUED,
    ModelRef,
)
from ome.status.v1.status_pb2 import CONDITION_STATUS_TRUE, MODEL_STATE_READY, Condition, Model, NodeStatus
from services.status.page.cells import (
    EVICTED,
    FAILED,
    LEFTOVER,
    MOVING,
    NOTHING,
    READY,
    UNREACHABLE,
    WAITING,
    Row,
    cell,
    changed_places,
    in_order,
    row,
)
from services.status.page.figures import duration, percent, rate
from services.status.page.sight import Sight

DOWNLOADING = NodeStatus(phase=NODE_PHASE_UPDATING, reason=REASON_DOWNLOADING, bytes_done=10, bytes_total=200)


def a_model(name: str, *nodes: NodeStatus, namespace: str = "") -> Model:
    """A model that stands so on its nodes."""
    kind = MODEL_KIND_BASE_MODEL if namespace else MODEL_KIND_CLUSTER_BASE_MODEL
    ref = ModelRef(kind=kind, namespace=namespace, name=name, uid=f"uid-{name}")
    return Model(ref=ref, state=MODEL_STATE_READY, nodes=nodes)


def ready(*names: str) -> list[NodeStatus]:
    """Nodes that hold a model."""
    return [NodeStatus(node=name, phase=NODE_PHASE_READY) for name in names]


def no_progress(node: str, uid: str) -> Progress | None:
    """Nobody downloads."""
    return None


def rows_of(models: list[Model], columns: dict[str, int]) -> dict[str, Row]:
    """The rows of models that are wanted where they are."""
    return {
        model.ref.uid: row(model, frozenset(each.node for each in model.nodes), columns, no_progress)
        for model in models
    }


def decoded(text: str) -> list[int]:
    """The cells of a row as it is sent."""
    return list(base64.b64decode(text))


@pytest.mark.parametrize(
    ("status", "desired", "progress", "code"),
    [
        (NodeStatus(phase=NODE_PHASE_READY), True, None, READY),
        (NodeStatus(phase=NODE_PHASE_READY), False, None, LEFTOVER),
        (NodeStatus(phase=NODE_PHASE_FAILED), True, None, FAILED),
        (NodeStatus(phase=NODE_PHASE_FAILED), False, None, FAILED),
        (NodeStatus(phase=NODE_PHASE_READY, reason=REASON_NODE_UNREACHABLE), True, None, UNREACHABLE),
        (NodeStatus(phase=NODE_PHASE_UPDATING, reason=REASON_QUEUED), True, None, WAITING),
        (NodeStatus(phase=NODE_PHASE_EVICTED, reason=REASON_EVICTED), True, None, EVICTED),
        (NodeStatus(phase=NODE_PHASE_EVICTED, reason=REASON_EVICTED), False, None, LEFTOVER),
        (DOWNLOADING, True, None, MOVING + 5),
        (DOWNLOADING, True, Progress(bytes_done=100), MOVING + 50),
        # What was stored may be newer than the last figures.
        (DOWNLOADING, True, Progress(bytes_done=1), MOVING + 5),
        (DOWNLOADING, True, Progress(bytes_done=10**18), MOVING + 100),
        (DOWNLOADING, True, Progress(bytes_done=-(10**18)), MOVING + 5),
        (NodeStatus(phase=NODE_PHASE_UPDATING, reason=REASON_DOWNLOADING), True, None, MOVING),
    ],
    ids=str,
)
def test_a_cell_is_a_byte(status: NodeStatus, desired: bool, progress: Progress | None, code: int) -> None:
    assert cell(status, desired, progress) == code


def test_a_row_has_the_sums_of_its_nodes_and_survives_what_a_node_makes_up() -> None:
    model = a_model("m", *ready("a"), DOWNLOADING, NodeStatus(node="gone", phase=NODE_PHASE_READY))
    model.nodes[1].node = "b"
    figures = Progress(bytes_done=50, bytes_per_second=10**18, eta_seconds=7)

    found = row(model, frozenset({"a", "b", "c"}), {"a": 0, "b": 1, "c": 2}, lambda node, uid: figures)

    assert list(found.cells) == [READY, MOVING + 25, NOTHING]
    assert (found.ready, found.desired, found.moving, found.failed) == (1, 3, 1, 0)
    assert (found.bytes_left, found.bytes_per_second, found.eta_seconds) == (150, 10**12, 7)


def test_nodes_stand_in_the_order_of_people() -> None:
    assert in_order(frozenset({"node-10", "node-2", "node-1b", "10.0.0.1", "x", ""})) == [
        "",
        "10.0.0.1",
        "node-1b",
        "node-2",
        "node-10",
        "x",
    ]


def test_differences_are_the_places_that_differ() -> None:
    assert changed_places(b"abc", b"abc") == []
    assert changed_places(b"abc", b"xbz") == [0, 2]


def test_a_browser_is_sent_everything_once_and_then_differences_alone() -> None:
    columns = {"a": 0, "b": 1}
    models = [a_model("m", *ready("a", "b")), a_model("n", *ready("b"))]
    sight = Sight()

    name, content = sight.message(models, columns, rows_of(models, columns), True) or ("", {})
    assert name == "fleet"
    assert content["nodes"] == ["a", "b"]
    assert [decoded(cells) for cells in content["cells"]] == [[READY, READY], [NOTHING, READY]]
    before = rows_of(models, columns)
    sight.message(models, columns, before, True)
    assert sight.message(models, columns, before, True) is None

    models[1].nodes[0].phase = NODE_PHASE_FAILED
    assert sight.message(models, columns, rows_of(models, columns), True) == (
        "cells",
        {"lines": [[1, ["Ready", 0, 1, 1, 0, 0, 0, 0, "", ""]]], "cells": [1, 1, FAILED]},
    )


def test_a_row_that_has_changed_throughout_is_sent_whole() -> None:
    names = [f"n{number}" for number in range(1000)]
    columns = {name: number for number, name in enumerate(names)}
    models = [a_model("m", *ready(*names))]
    sight = Sight()
    sight.message(models, columns, rows_of(models, columns), True)

    for status in models[0].nodes:
        status.phase = NODE_PHASE_FAILED
    _, content = sight.message(models, columns, rows_of(models, columns), True) or ("", {})

    assert "cells" not in content
    [[number, cells]] = content["rows"]
    assert (number, set(decoded(cells))) == (0, {FAILED})


def test_who_may_not_list_nodes_learns_of_none_but_those_of_its_models() -> None:
    columns = {"a": 0, "b": 1, "c": 2}
    mine, theirs = a_model("mine", *ready("b"), namespace="team-a"), a_model("theirs", *ready("a", "c"))
    rows = rows_of([mine, theirs], columns)

    _, content = Sight().message([mine], columns, rows, False) or ("", {})

    assert content["nodes"] == ["b"]
    assert content["models"] == [["basemodels", "team-a", "mine", 0]]
    assert [decoded(cells) for cells in content["cells"]] == [[READY]]
    assert "theirs" not in str(content)


def test_a_model_more_or_less_is_a_reason_to_send_everything() -> None:
    columns = {"a": 0}
    models = [a_model("m", *ready("a")), a_model("n", *ready("a"))]
    rows = rows_of(models, columns)
    sight = Sight()
    sight.message(models, columns, rows, True)

    name, content = sight.message(models[:1], columns, rows, True) or ("", {})

    assert (name, len(content["models"])) == ("fleet", 1)


def test_a_line_has_the_worst_news_in_one_short_line() -> None:
    model = a_model("m", *ready("a"))
    model.conditions.extend(
        [
            Condition(type="Complete", reason="Downloading", message="not this"),
            Condition(type="Degraded", status=CONDITION_STATUS_TRUE, reason="DiskError", message="a\nb" + "x" * 2000),
        ]
    )

    _, content = Sight().message([model], {"a": 0}, rows_of([model], {"a": 0}), True) or ("", {})

    line: list[Any] = content["lines"][0]
    assert line[-2] == "DiskError"
    assert line[-1].startswith("a bxx")
    assert len(line[-1]) == 280


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3700, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_has_two_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_rates_and_shares() -> None:
    assert (rate(0), rate(5 << 20)) == ("", "5 MiB/s")
    assert [percent(*each) for each in ((0, 0), (199, 200), (200, 200), (-1, 5), (300, 200))] == [0, 99, 100, 0, 100]
