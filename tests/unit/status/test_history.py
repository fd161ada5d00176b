"""Revisions in the status: what was held before, and how far a new one has come."""

from typing import Any

from ome.fetch.v1.fetch_pb2 import (
    ROLLOUT_STAGE_CANARY,
    ROLLOUT_STAGE_DIVERGED,
    ROLLOUT_STAGE_HALTED,
    ModelPlan,
    Problem,
    Revision,
    Rollout,
    RolloutStage,
)
from ome.model.v1.model_pb2 import REASON_CHECKSUM_MISMATCH, REASON_UNAVAILABLE, Artifact
from services.status.history import NAMED_NODES, history_document
from tests.unit.status.samples import (
    DIGEST,
    OLD_DIGEST,
    a_model,
    a_plan,
    conditions,
    failed,
    folded,
    message,
    ready,
)

MODEL = a_model()
SINCE = "2026-11-01T08:00:00Z"


def revision(digest: str) -> Revision:
    found = Revision(artifact=Artifact(digest=digest, source_revision="c0ffee", bytes=5, files=1), source_key="u.k")
    found.since.FromJsonString(SINCE)
    return found


def staged(stage: RolloutStage, said: str = "n1 goes first", *staying: str) -> ModelPlan:
    """A plan by which nodes b and c keep the earlier revision."""
    rollout = Rollout(stage=stage, message=said, digest=DIGEST, staying_nodes=staying or ("b", "c"))
    return a_plan(MODEL, "a", "b", "c", rollout=rollout, content_digest="new")


OLD: dict[str, Any] = {"digest": OLD_DIGEST, "content_digest": "old"}
NEW: dict[str, Any] = {"digest": DIGEST, "content_digest": "new"}


def following(attempts: int) -> ModelPlan:
    plan = a_plan(MODEL, "a")
    plan.follow_failure.attempts = attempts
    plan.follow_failure.since.FromJsonString(SINCE)
    plan.follow_failure.problem.CopyFrom(Problem(reason=REASON_UNAVAILABLE, message="the hub does not answer"))
    return plan


def test_a_source_that_cannot_be_followed_is_told_from_the_third_failure_on_and_the_model_stays_ready() -> None:
    assert "Following" not in conditions(folded(MODEL, following(2), {"a": ready()}))
    view = folded(MODEL, following(3), {"a": ready()})
    assert conditions(view)["Following"] == ("False", "Unavailable")
    assert message(view, "Following") == (
        f"Since {SINCE}, OME has failed 3 times to list the source, which the model follows; nodes keep what they "
        "have. The hub does not answer."
    )
    assert view.status["state"] == "Ready"
    assert conditions(view)["Complete"][0] == "True"
    after = folded(MODEL, a_plan(MODEL, "a"), {"a": ready()}, previous=view.status)
    assert conditions(after)["Following"] == ("True", "Listed")
    assert ("Warning", "Unavailable") in [(event.type, event.reason) for event in view.events]
    again = folded(MODEL, following(4), {"a": ready()}, previous=view.status)
    assert [event.reason for event in again.events] == [], "the same reason is told once"
    assert [(event.type, event.reason) for event in after.events] == [("Normal", "Listed")]


def test_the_status_shows_the_last_revisions_and_names_the_one_before() -> None:
    history = [revision(DIGEST), revision(OLD_DIGEST)]
    status = folded(MODEL, a_plan(MODEL, "a", history=history), {"a": ready()}).status
    assert status["artifact"]["previous"] == OLD_DIGEST
    assert status["history"][1] == {
        "digest": OLD_DIGEST,
        "sourceRevision": "c0ffee",
        "bytes": 5,
        "files": 1,
        "source": "u.k",
        "nodes": 0,
        "since": SINCE,
    }
    assert history_document(None, {}, status) == status["history"], "the controller reads it from there after a loss"


def test_a_model_of_one_revision_has_none_before() -> None:
    status = folded(MODEL, a_plan(MODEL, "a", history=[revision(DIGEST)]), {"a": ready()}).status
    assert "previous" not in status["artifact"]
    assert "RolledOut" not in conditions(folded(MODEL, a_plan(MODEL, "a"), {"a": ready()}))


def test_nodes_that_wait_for_their_turn_are_ready_with_what_they_have_and_the_model_is_not_complete() -> None:
    states = {"a": ready(**NEW), "b": ready(**OLD), "c": ready(**OLD)}
    view = folded(MODEL, staged(ROLLOUT_STAGE_CANARY), states)
    assert view.status["nodesReady"] == ["a", "b", "c"]
    assert view.status["state"] == "Ready"
    assert conditions(view)["Complete"] == ("False", "RollingOut")
    assert conditions(view)["RolledOut"] == ("False", "RollingOut")
    assert message(view, "RolledOut") == "n1 goes first."
    assert conditions(view)["Degraded"][0] == "False"


def test_a_revision_that_fails_where_it_was_tried_is_told_and_the_others_stay_ready() -> None:
    states = {"a": failed(REASON_CHECKSUM_MISMATCH), "b": ready(**OLD), "c": ready(**OLD)}
    view = folded(MODEL, staged(ROLLOUT_STAGE_HALTED, "revision b fails on a"), states)
    assert view.status["nodesReady"] == ["b", "c"]
    for name in ("Degraded", "Complete", "RolledOut"):
        assert conditions(view)[name][1] == "RolloutHalted"
    assert conditions(view)["Available"][0] == "True"
    assert message(view, "Degraded") == "Revision b fails on a."
    assert [(each.type, each.reason) for each in view.events if each.reason == "RolloutHalted"] == [
        ("Warning", "RolloutHalted")
    ]


def test_nodes_that_keep_what_the_source_has_lost_are_all_that_is_desired() -> None:
    states = {"a": ready(**NEW), "b": ready(**OLD), "c": ready(**OLD)}
    view = folded(MODEL, staged(ROLLOUT_STAGE_DIVERGED, "the source no longer has it"), states)
    assert conditions(view)["Complete"][0] == "True"
    assert conditions(view)["RolledOut"] == ("False", "RevisionLost")


def test_the_condition_stays_once_it_was_there() -> None:
    plan = a_plan(MODEL, "a", "b", "c", content_digest="new")
    states = {"a": ready(**NEW), "b": ready(**OLD), "c": ready(**OLD)}
    before = folded(MODEL, staged(ROLLOUT_STAGE_CANARY), states).status
    view = folded(MODEL, plan, states, previous=before)
    assert conditions(view)["RolledOut"] == ("True", "AllNodesUpdated")
    assert view.status["update"]["nodesDone"] == 1, "the others are to give up what they have"


def test_the_history_tells_on_which_nodes_a_revision_is_whole() -> None:
    plan = a_plan(MODEL, "a", "b", "c", history=[revision(DIGEST), revision(OLD_DIGEST)])
    keeping = ready()
    keeping.kept_revisions.append(OLD_DIGEST)
    states = {"b": keeping, "a": ready(), "c": failed(REASON_UNAVAILABLE), "d": ready(digest=OLD_DIGEST)}
    newest, oldest = history_document(plan, states, {})
    assert (newest["nodes"], newest["onNodes"]) == (2, ["a", "b"])
    assert (oldest["nodes"], oldest["onNodes"]) == (2, ["b", "d"])
    many = {f"n{number:03}": ready() for number in range(300)}
    newest, oldest = history_document(plan, many, {})
    assert (newest["nodes"], len(newest["onNodes"])) == (300, NAMED_NODES)
    assert oldest["nodes"] == 0
    assert "onNodes" not in oldest
