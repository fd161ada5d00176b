"""The controller tells, for each node that it has told, when the source was listed and how long planning took."""

from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifact.names import trace_key
from libs.chassis.traces import Attributes
from ome.fetch.v1.fetch_pb2 import Assignment, Resolution
from ome.model.v1.model_pb2 import Artifact
from services.controller.listings import Asked
from services.controller.planning import Observed
from services.controller.trail import Trail

NOW, MONOTONIC = 1000.0, 50.0
ARTIFACT = Artifact(digest="d1")


class Heard:
    """Keeps the parts of traces."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str, float, float]] = []

    def part(self, trace: str, name: str, started: float, ended: float, about: Attributes, failed: str = "") -> None:
        self.parts.append((trace, name, started, ended))

    def whole(self, trace: str, name: str, started: float, ended: float, about: Attributes) -> None:
        raise AssertionError("the controller sees no end of a trace")


def told(asked: dict[str, Asked], assignment: Assignment) -> list[tuple[str, str, float, float]]:
    """What is told of a node, with a source that was listed ten seconds ago."""
    resolutions = {"other": Resolution(), "key": Resolution(artifact=ARTIFACT, resolved_at=Timestamp(seconds=990))}
    observed = Observed("uid", None, {}, {}, {}, resolutions, asked, None)
    heard = Heard()
    Trail(heard, lambda: NOW, lambda: MONOTONIC).assigned(observed, "n1", assignment, NOW - 3, NOW - 2)
    assert {trace for trace, *_ in heard.parts} <= {trace_key("uid", "d1", "n1")}
    return heard.parts


def test_a_node_that_was_told_has_the_listing_the_plan_and_the_telling() -> None:
    parts = told({"key": Asked(1, MONOTONIC - 15)}, Assignment(artifact=ARTIFACT))
    assert [(name, started, ended) for _, name, started, ended in parts] == [
        ("controller.resolve", NOW - 15, NOW - 10),
        ("controller.plan", NOW - 3, NOW - 2),
        ("controller.assign", NOW - 2, NOW),
    ]


def test_a_listing_that_another_process_has_asked_for_is_told_by_its_end() -> None:
    assert told({}, Assignment(artifact=ARTIFACT))[0][1:] == ("controller.resolve", NOW - 10, NOW - 10)


def test_nothing_is_told_where_no_files_are_known() -> None:
    assert told({}, Assignment()) == []
