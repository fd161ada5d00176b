"""What nodes find when they read their copies, as a model's status has it."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ome.fetch.v1.fetch_pb2 import NodeModelState, Verification
from ome.model.v1.model_pb2 import REASON_ARTIFACT_DAMAGED
from services.status.verifying import RESULTS_LIMIT
from tests.unit.status.samples import DIGEST, a_model, a_plan, folded, ready, updating

REQUEST, NODE = "models.ome.io/verify-requested-at", "models.ome.io/verify-node"
NOON = "2026-03-01T12:00:00Z"


def asking(request: str = NOON, node: str = "") -> dict[str, Any]:
    model = a_model()
    model["metadata"]["annotations"] = {REQUEST: request, NODE: node}
    return model


def found(request: str = NOON, seconds: int = 1772366400, **more: Any) -> Verification:
    return Verification(request=request, digest=DIGEST, bytes=7, finished_at=Timestamp(seconds=seconds), **more)


def verification(model: dict[str, Any], **states: NodeModelState) -> dict[str, Any] | None:
    told: dict[str, Any] | None = folded(model, a_plan(model, *states), states).status.get("verification")
    return told


def test_a_model_that_nobody_asked_about_says_nothing() -> None:
    assert verification(a_model(), a=ready()) is None


def test_nodes_that_hold_a_copy_are_waited_for() -> None:
    document = verification(asking(), a=ready(verification=found()), b=ready(), c=updating())
    assert document == {
        "request": NOON,
        "nodes": 2,
        "nodesDone": 1,
        "nodesDamaged": 0,
        "lastFinishedAt": "2026-03-01T12:00:00Z",
        "results": [
            {
                "node": "a",
                "request": NOON,
                "finishedAt": "2026-03-01T12:00:00Z",
                "digest": DIGEST,
                "bytes": 7,
                "damaged": 0,
            }
        ],
    }


def test_a_node_that_repairs_what_it_has_found_has_answered() -> None:
    repairing = updating(REASON_ARTIFACT_DAMAGED)
    repairing.verification.CopyFrom(found(damaged=2, files=["a", "b"]))
    document = verification(asking(), a=repairing)
    assert document is not None
    assert (document["nodes"], document["nodesDone"], document["nodesDamaged"]) == (1, 1, 1)
    assert document["results"][0]["files"] == ["a", "b"]


def test_only_the_node_that_is_named_is_waited_for() -> None:
    document = verification(asking(node="b"), a=ready(verification=found("dawn")), b=ready())
    assert document is not None
    assert (document["nodes"], document["nodesDone"]) == (1, 0)
    assert [each["node"] for each in document["results"]] == ["a"]


def test_what_was_found_stays_when_nobody_asks_any_more() -> None:
    document = verification(a_model(), a=ready(verification=found()))
    assert document is not None
    assert "request" not in document
    assert document["results"][0]["node"] == "a"


def test_of_a_fleet_the_nodes_with_damage_are_told() -> None:
    states = {f"n{number:03}": ready(verification=found()) for number in range(99)}
    states["z-damaged"] = ready(verification=found(damaged=1, files=["x"]))
    states["z-unreadable"] = ready(verification=found(problem="no such file"))
    document = verification(asking(), **states)
    assert document is not None
    assert (document["nodes"], document["nodesDone"], document["nodesDamaged"]) == (101, 101, 2)
    assert len(document["results"]) == RESULTS_LIMIT
    assert [each["node"] for each in document["results"][:3]] == ["z-damaged", "z-unreadable", "n000"]


def test_what_a_node_makes_up_is_bounded() -> None:
    wild = found(damaged=2**62, files=["x\n" * 5000] * 9, problem="y\0" * 9000)
    document = verification(asking(), a=ready(verification=wild))
    assert document is not None
    [result] = document["results"]
    assert result["damaged"] == 2**31 - 1
    assert len(result["files"]) == 3
    assert all(len(text) <= 1024 and text.isprintable() for text in (*result["files"], result["problem"]))
