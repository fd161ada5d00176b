"""The status service tells the end of a trace once for each node that has become Ready with a revision."""

from typing import Any

import pytest

from libs.artifact.names import trace_key
from libs.chassis.traces import Attributes, NoTraces
from services.status.trail import Trail

CREATED = 1_764_000_000.0


class Heard:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str]] = []
        self.wholes: list[tuple[str, float, float]] = []

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        self.parts.append((trace, name))

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        self.wholes.append((trace, started, ended))


def model(history: list[dict[str, str]] | None = None) -> dict[str, Any]:
    metadata = {"name": "m", "uid": "uid", "creationTimestamp": "2025-11-24T16:00:00Z"}
    return {"kind": "ClusterBaseModel", "metadata": metadata, "status": {"history": history or []}}


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def trail(heard: Heard) -> Trail:
    return Trail(heard, lambda: CREATED + 60)


def test_each_node_that_becomes_ready_is_told_of_once(heard: Heard, trail: Trail) -> None:
    for ready in ([], [("n1", "d1")], [("n1", "d1"), ("n2", "d1")], [("n1", "d1"), ("n2", "d1")]):
        trail.written(model(), {}, ready, CREATED + 50, CREATED + 55)
    assert heard.wholes == [(trace_key("uid", "d1", node), CREATED, CREATED + 60) for node in ("n1", "n2")]
    assert heard.parts == [
        (trace_key("uid", "d1", node), name) for node in ("n1", "n2") for name in ("status.fold", "status.write")
    ]


def test_a_later_revision_begins_when_it_is_wanted(heard: Heard, trail: Trail) -> None:
    trail.written(model(), {}, [("n1", "d1")], CREATED + 1, CREATED + 2)
    history = [{"digest": "d2", "since": "2025-11-24T16:00:30Z"}, {"digest": "d1", "since": "2025-11-24T16:00:00Z"}]
    trail.written(model(history), {}, [("n1", "d2")], CREATED + 50, CREATED + 55)
    assert heard.wholes[1] == (trace_key("uid", "d2", "n1"), CREATED + 30, CREATED + 60)


def test_a_process_that_begins_to_lead_tells_nothing_again(heard: Heard, trail: Trail) -> None:
    trail.written(model(), {"nodesReady": ["n1"]}, [("n1", "d1"), ("n2", "d1")], CREATED, CREATED)
    assert [trace for trace, _, _ in heard.wholes] == [trace_key("uid", "d1", "n2")]


def test_a_model_that_is_gone_is_forgotten(heard: Heard, trail: Trail) -> None:
    for _ in range(2):
        trail.written(model(), {}, [("n1", "d1")], CREATED, CREATED)
        trail.forget("uid")
    assert len(heard.wholes) == 2


def test_nobody_looks_which_nodes_are_ready_while_nobody_is_told() -> None:
    assert not Trail(NoTraces(), lambda: 0.0).heard
