"""What readers see is what is reported, while another revision comes and after everything that nodes may say."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ome.fetch.v1.fetch_pb2 import HeldCopy, ModelUse, NodeModelState, NodeUse, PodUse, Use
from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_UPDATING,
    REASON_DELETING,
    REASON_DOWNLOADING,
    REASON_IN_USE,
    REASON_INSUFFICIENT_DISK,
    REASON_RESOLVING,
    Artifact,
)
from services.status.node_report import node_report
from tests.unit.status.samples import (
    ARTIFACT,
    DIGEST,
    FACTS,
    OLD_DIGEST,
    UID,
    a_model,
    a_plan,
    a_problem,
    a_state,
    beside,
    conditions,
    folded,
    message,
    ready,
    updating,
)

MODEL = a_model()
PLAN = a_plan(MODEL, "a", "b", "c")
OLD = Artifact(digest=OLD_DIGEST, source_revision="01d", bytes=5, files=1)
BEFORE = folded(MODEL, a_plan(MODEL, "a", "b", "c", artifact=OLD), dict.fromkeys("abc", ready(OLD_DIGEST))).status
EARLIER = {**BEFORE, "observedGeneration": 2}
FETCHING = beside(REASON_DOWNLOADING)


def digests(status: dict[str, Any]) -> tuple[str | None, str | None]:
    """Of artifact and update."""
    return status.get("artifact", {}).get("digest"), status.get("update", {}).get("digest")


def test_while_a_new_revision_comes_the_old_one_is_ready_and_the_new_one_an_update() -> None:
    view = folded(MODEL, PLAN, {"a": ready(), "b": FETCHING, "c": FETCHING}, previous=BEFORE)
    assert view.status["state"] == view.status["lifecycle"] == "Ready"
    assert view.status["nodesReady"] == ["a", "b", "c"]
    assert view.status["artifact"] == {"digest": OLD_DIGEST, "sourceRevision": "01d", "bytes": 5, "files": 1}
    assert view.status["update"] == {
        "digest": DIGEST,
        "sourceRevision": "c0ffee",
        "bytes": 91_000_000,
        "files": 9,
        "nodesDone": 1,
        "nodes": 3,
    }
    assert conditions(view)["Complete"] == ("False", "Downloading")
    assert view.status["reason"] == "Downloading"


@pytest.mark.parametrize(
    ("states", "artifact", "update"),
    [
        ((ready(), ready(), FETCHING), DIGEST, DIGEST),
        ((ready(), FETCHING, FETCHING), OLD_DIGEST, DIGEST),
        ((ready(), ready(), ready()), DIGEST, None),
        ((ready(), FETCHING, updating()), OLD_DIGEST, DIGEST),
        ((updating(), updating(), updating()), DIGEST, None),
    ],
)
def test_the_artifact_is_what_most_nodes_have(
    states: tuple[NodeModelState, ...], artifact: str, update: str | None
) -> None:
    status = folded(MODEL, PLAN, dict(zip("abc", states, strict=True)), previous=BEFORE).status
    assert digests(status) == (artifact, update)


def test_a_revision_that_fails_leaves_the_old_one_ready_and_is_told() -> None:
    broken = beside(REASON_INSUFFICIENT_DISK, NODE_PHASE_FAILED)
    view = folded(MODEL, PLAN, {"a": broken, "b": ready(OLD_DIGEST), "c": ready(OLD_DIGEST)}, previous=BEFORE)
    assert view.status["state"] == "Ready"
    assert view.status["nodesFailed"] == []
    assert [failure["node"] for failure in view.status["failures"]] == ["a"]
    assert conditions(view)["Degraded"] == ("True", "InsufficientDisk")


def test_what_a_node_alone_says_that_it_holds_is_never_the_artifact() -> None:
    made_up = ready("sha256:" + "f" * 64)
    assert digests(folded(MODEL, PLAN, {"a": made_up}, previous=BEFORE).status) == (DIGEST, DIGEST)


def test_a_plan_without_an_artifact_takes_none_from_a_model_that_nodes_hold() -> None:
    plan = a_plan(MODEL, "a", "b", "c", artifact=None, problem=a_problem(REASON_RESOLVING))
    status = folded(MODEL, plan, dict.fromkeys("abc", ready(OLD_DIGEST)), previous=BEFORE).status
    assert digests(status) == (OLD_DIGEST, None)
    assert "update" not in status


def test_while_an_edit_is_resolved_the_old_artifact_is_not_taken_for_the_new_one() -> None:
    plan = a_plan(MODEL, "a", "b", "c", artifact=None, problem=a_problem(REASON_RESOLVING))
    status = folded(MODEL, plan, dict.fromkeys("abc", ready(OLD_DIGEST)), previous=EARLIER).status
    assert digests(status) == (OLD_DIGEST, None)
    assert status["update"] == {"reason": "Resolving", "nodesDone": 0, "nodes": 3}
    again = folded(MODEL, plan, dict.fromkeys("abc", ready(OLD_DIGEST)), previous=status).status
    assert again == status


def test_what_comes_stays_known_while_the_controller_has_nothing_to_say() -> None:
    status = folded(MODEL, PLAN, dict.fromkeys("abc", FETCHING), previous=BEFORE).status
    lost = folded(MODEL, None, {}, {"a": True}, previous=status).status
    assert digests(lost) == (OLD_DIGEST, DIGEST)


def test_facts_of_what_comes_are_not_told_of_what_is_there() -> None:
    before = BEFORE | {"metadata": {"modelType": "old"}}
    coming = beside(REASON_DOWNLOADING)
    done = ready(facts=FACTS)
    one = folded(MODEL, PLAN, {"a": done, "b": coming, "c": coming}, previous=before)
    assert one.status["metadata"] == {"modelType": "old"}
    assert one.spec_facts is None
    two = folded(MODEL, PLAN, {"a": done, "b": done, "c": coming}, previous=one.status)
    assert two.status["metadata"]["modelType"] == "bert"


def test_the_label_of_a_node_stays_ready_and_its_report_has_a_word_for_the_update() -> None:
    report = node_report({UID: MODEL}, {UID: FETCHING})
    assert set(report.labels.values()) == {"Ready"}
    (entry,) = report.data.values()
    assert '"update": "Updating"' in entry
    assert '"state": "Ready"' in entry
    assert '"reason": "Downloading"' in entry


def pod(name: str, namespace: str = "serving") -> PodUse:
    return PodUse(namespace=namespace, name=name, since=Timestamp(seconds=1_795_856_400))


def held(until: int = 1_795_942_800, pods: int = 2) -> HeldCopy:
    use = Use(pods=pods, users=[pod("llama-0")])
    return HeldCopy(artifact=OLD, path="/models/minilm", until=Timestamp(seconds=until), use=use)


def test_who_holds_what_is_told() -> None:
    use = ModelUse(nodes=1, pods=1, users=[NodeUse(node="a", pod=pod("llama-1"))])
    plan = a_plan(MODEL, "a", use=use)
    status = folded(MODEL, plan, {"a": ready(held=[held()])}).status
    assert status["inUse"] == {
        "nodes": 1,
        "pods": 1,
        "users": [{"node": "a", "pod": "serving/llama-1", "since": "2026-11-28T09:00:00Z"}],
        "held": [
            {
                "node": "a",
                "digest": OLD_DIGEST,
                "sourceRevision": "01d",
                "path": "/models/minilm",
                "until": "2026-11-29T09:00:00Z",
                "pods": 2,
                "users": ["serving/llama-0"],
            }
        ],
    }


def test_nothing_is_said_of_use_where_there_is_none() -> None:
    assert "inUse" not in folded(MODEL, PLAN, {"a": ready()}).status


@pytest.mark.parametrize(("until", "pods"), [(-1, -5), (2**62, 2**62)])
def test_whatever_a_node_says_of_use_the_api_server_takes_it(until: int, pods: int) -> None:
    status = folded(MODEL, PLAN, {"a": ready(held=[held(until, pods)] * 30)}).status
    assert len(status["inUse"]["held"]) == 16
    assert 0 <= status["inUse"]["held"][0]["pods"] < 2**31
    assert status["inUse"]["held"][0]["until"][:4].isdigit()


def test_a_deletion_that_waits_for_pods_names_them_where_people_look() -> None:
    deleting = a_model()
    deleting["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    why = "Pod serving/llama-0 uses it: the files stay until 2026-11-29T09:00:00Z at the latest"
    waiting = a_state(NODE_PHASE_UPDATING, a_problem(REASON_IN_USE, why), held=[held()])
    removing = a_state(NODE_PHASE_UPDATING, a_problem(REASON_DELETING))
    view = folded(deleting, PLAN, {"a": waiting, "b": removing})
    assert view.status["lifecycle"] == "Deleting"
    assert view.status["reason"] == "InUse"
    assert message(view, "Complete") == f"Deletion waits on a: {why}."
    assert ("InUse", f"Deletion waits on a: {why}.") in [(event.reason, event.message) for event in view.events]


def test_an_update_is_an_event_once() -> None:
    first = folded(MODEL, PLAN, dict.fromkeys("abc", FETCHING), previous=BEFORE)
    assert "Resolved" in [event.reason for event in first.events]
    second = folded(MODEL, PLAN, {"a": ready(), "b": ready(), "c": FETCHING}, previous=first.status)
    assert "Resolved" not in [event.reason for event in second.events]
    assert ARTIFACT.digest == second.status["artifact"]["digest"]
