"""What is said of a model, given what the controller and the nodes say."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    PROBLEM_CLASS_UNAVAILABLE,
    ModelPlan,
    NodeModelState,
    Problem,
)
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_ARTIFACT_DAMAGED,
    REASON_CHECKSUM_MISMATCH,
    REASON_DOWNLOADING,
    REASON_GATED,
    REASON_INSUFFICIENT_DISK,
    REASON_INVALID_URI,
    REASON_NO_CONFIG,
    REASON_NOT_FOUND,
    REASON_QUEUED,
    REASON_RATE_LIMITED,
    REASON_RESOLVING,
    REASON_VOLUME_NOT_READY,
    Artifact,
)
from services.status.wording import sentence
from tests.unit.status.samples import (
    ARTIFACT,
    FACTS,
    LATER,
    OLD_DIGEST,
    a_model,
    a_plan,
    a_problem,
    a_state,
    a_volume,
    beside,
    conditions,
    failed,
    folded,
    message,
    ready,
    updating,
)

MODEL = a_model()
LOCAL = a_model("local:///models/minilm")
PLAN = a_plan(MODEL, "a", "b")
IN_CLAIM = a_model("pvc://team-a:storage/minilm")


@dataclass(frozen=True)
class Case:
    """One situation and what is to be said of it; conditions that are not named are not looked at."""

    sentence: str
    state: str
    conditions: dict[str, tuple[str, str]]
    model: dict[str, Any] = field(default_factory=lambda: MODEL)
    plan: ModelPlan | None = field(default_factory=lambda: PLAN)
    states: dict[str, NodeModelState] = field(default_factory=dict)
    nodes: dict[str, bool] | None = None
    ready: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    lifecycle: str = ""


CASES = [
    Case(
        "every desired node is ready",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("True", "AllNodesReady"),
            "Degraded": ("False", "AsExpected"),
            "Resolved": ("True", "Resolved"),
            "Stalled": ("False", "AsExpected"),
        },
        states={"a": ready(), "b": ready()},
        ready=("a", "b"),
    ),
    Case(
        "one ready node makes the model ready but not complete",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("False", "Downloading"),
            "Degraded": ("False", "AsExpected"),
        },
        states={"a": ready(), "b": updating()},
        ready=("a",),
    ),
    Case(
        "one ready and one failed node are ready and degraded",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("False", "InsufficientDisk"),
            "Degraded": ("True", "InsufficientDisk"),
            "Stalled": ("False", "AsExpected"),
        },
        states={"a": ready(), "b": failed(REASON_INSUFFICIENT_DISK)},
        ready=("a",),
        failed=("b",),
    ),
    Case(
        "a copy that somebody has written into degrades the model before it is repaired",
        "Ready",
        {"Complete": ("False", "ArtifactDamaged"), "Degraded": ("True", "ArtifactDamaged")},
        states={"a": ready(), "b": updating(REASON_ARTIFACT_DAMAGED)},
        ready=("a",),
    ),
    Case(
        "one failed and one downloading node are not yet a failure",
        "Creating",
        {"Available": ("False", "ChecksumMismatch"), "Degraded": ("True", "ChecksumMismatch")},
        states={"a": failed(REASON_CHECKSUM_MISMATCH), "b": updating()},
        failed=("a",),
    ),
    Case(
        "every desired node has failed",
        "Failed",
        {"Available": ("False", "InsufficientDisk"), "Stalled": ("True", "InsufficientDisk")},
        states={"a": failed(REASON_INSUFFICIENT_DISK), "b": failed(REASON_INSUFFICIENT_DISK)},
        failed=("a", "b"),
    ),
    Case(
        "no node has reported yet",
        "Creating",
        {"Available": ("False", "Queued"), "Complete": ("False", "Queued"), "Parsed": ("Unknown", "Pending")},
    ),
    Case(
        "the controller has not planned yet",
        "Creating",
        {"Available": ("False", "Pending"), "Resolved": ("Unknown", "Pending")},
        plan=None,
    ),
    Case(
        "the source is being listed",
        "Creating",
        {"Available": ("False", "Resolving"), "Resolved": ("False", "Resolving"), "Stalled": ("False", "AsExpected")},
        plan=a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_RESOLVING)),
    ),
    Case(
        "the repository does not exist",
        "Failed",
        {"Resolved": ("False", "NotFound"), "Stalled": ("True", "NotFound"), "Degraded": ("True", "NotFound")},
        plan=a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_NOT_FOUND, kind=PROBLEM_CLASS_MISSING)),
    ),
    Case(
        "the repository is gated",
        "Failed",
        {"Resolved": ("False", "Gated"), "Available": ("False", "Gated")},
        plan=a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_GATED, kind=PROBLEM_CLASS_MISSING)),
    ),
    Case(
        "a hub that asks to wait is no lasting failure",
        "Creating",
        {"Resolved": ("False", "RateLimited"), "Stalled": ("False", "AsExpected")},
        plan=a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_RATE_LIMITED, kind=PROBLEM_CLASS_UNAVAILABLE)),
    ),
    Case(
        "a new revision that cannot be found leaves the old copies ready and the model degraded",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("False", "NotFound"),
            "Degraded": ("True", "NotFound"),
            "Stalled": ("True", "NotFound"),
        },
        plan=a_plan(MODEL, "a", artifact=None, problem=a_problem(REASON_NOT_FOUND, kind=PROBLEM_CLASS_MISSING)),
        states={"a": ready(OLD_DIGEST)},
        ready=("a",),
    ),
    Case(
        "a copy of an earlier revision counts while the next one comes",
        "Ready",
        {"Available": ("True", "NodesReady"), "Complete": ("False", "Queued"), "Degraded": ("False", "AsExpected")},
        states={"a": ready(OLD_DIGEST), "b": updating(REASON_QUEUED)},
        ready=("a",),
    ),
    Case(
        "an earlier revision stays ready where the next one fails, which is told",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("False", "InsufficientDisk"),
            "Degraded": ("True", "InsufficientDisk"),
            "Stalled": ("False", "AsExpected"),
        },
        states={"a": beside(REASON_INSUFFICIENT_DISK, NODE_PHASE_FAILED), "b": beside(REASON_DOWNLOADING)},
        ready=("a", "b"),
    ),
    Case(
        "a copy at the place that was asked for earlier is being updated",
        "Ready",
        {"Complete": ("False", "Queued")},
        plan=a_plan(MODEL, "a", "b", content_digest="new"),
        states={"a": ready(content_digest="new"), "b": ready(content_digest="old")},
        ready=("a", "b"),
    ),
    Case(
        "while a new revision is resolved the old copies stay ready and nothing is complete",
        "Ready",
        {"Available": ("True", "NodesReady"), "Complete": ("False", "Resolving"), "Resolved": ("False", "Resolving")},
        plan=a_plan(MODEL, "a", artifact=None),
        states={"a": ready(OLD_DIGEST)},
        ready=("a",),
    ),
    Case(
        "local models need no listing",
        "Ready",
        {"Complete": ("True", "AllNodesReady"), "Resolved": ("True", "NothingToResolve")},
        model=LOCAL,
        plan=a_plan(LOCAL, "a", artifact=None),
        states={"a": ready("")},
        ready=("a",),
    ),
    Case(
        "local models may be planned with an empty artifact",
        "Ready",
        {"Complete": ("True", "AllNodesReady"), "Resolved": ("True", "NothingToResolve")},
        model=LOCAL,
        plan=a_plan(LOCAL, "a", artifact=Artifact()),
        states={"a": ready("")},
        ready=("a",),
    ),
    Case(
        "a node that fell silent keeps its ready copy and degrades the model",
        "Ready",
        {
            "Available": ("True", "NodesReady"),
            "Complete": ("True", "AllNodesReady"),
            "Degraded": ("True", "NodeUnreachable"),
        },
        states={"a": ready(), "b": ready()},
        nodes={"a": True, "b": False},
        ready=("a", "b"),
    ),
    Case(
        "a silent node that never held the model is waited for by its name",
        "Creating",
        {"Available": ("False", "NodeUnreachable"), "Degraded": ("True", "NodeUnreachable")},
        plan=a_plan(MODEL, "a"),
        nodes={"a": False},
    ),
    Case(
        "a node that exists no more is not ready, whatever it said last",
        "Ready",
        {"Complete": ("False", "NodeUnreachable"), "Degraded": ("True", "NodeUnreachable")},
        states={"a": ready(), "b": ready()},
        nodes={"a": True},
        ready=("a",),
    ),
    Case(
        "a node that is no longer desired does not count",
        "Ready",
        {"Complete": ("True", "AllNodesReady")},
        plan=a_plan(MODEL, "a"),
        states={"a": ready(), "b": ready()},
        ready=("a",),
    ),
    Case(
        "no node matches",
        "Creating",
        {
            "Available": ("False", "NoMatchingNode"),
            "Stalled": ("True", "NoMatchingNode"),
            "Degraded": ("False", "AsExpected"),
        },
        plan=a_plan(MODEL),
    ),
    Case(
        "without storage there is nothing to fetch",
        "Creating",
        {"Available": ("False", "NoStorage"), "Stalled": ("False", "AsExpected")},
        model=a_model(""),
        plan=None,
    ),
    Case(
        "a disabled model keeps the copies that exist",
        "Ready",
        {"Available": ("True", "NodesReady"), "Complete": ("False", "Disabled"), "Degraded": ("False", "AsExpected")},
        model=a_model(disabled=True),
        plan=None,
        states={"a": ready(), "b": updating()},
        ready=("a",),
        lifecycle="Disabled",
    ),
    Case(
        "a URI that cannot be understood fails at once",
        "Failed",
        {"Stalled": ("True", "InvalidUri"), "Available": ("False", "InvalidUri")},
        plan=a_plan(MODEL, artifact=None, problem=a_problem(REASON_INVALID_URI, kind=PROBLEM_CLASS_INVALID)),
    ),
    Case(
        "a failed parse leaves the model ready and says why",
        "Ready",
        {"Complete": ("True", "AllNodesReady"), "Parsed": ("False", "NoConfig")},
        plan=a_plan(MODEL, "a"),
        states={"a": ready(parse_problem=a_problem(REASON_NO_CONFIG))},
        ready=("a",),
    ),
    Case(
        "a model was found in its claim",
        "Ready",
        {
            "Available": ("True", "VolumeReady"),
            "Complete": ("True", "VolumeReady"),
            "Degraded": ("False", "AsExpected"),
            "Resolved": ("True", "NothingToResolve"),
            "Parsed": ("True", "Parsed"),
            "Stalled": ("False", "AsExpected"),
        },
        model=IN_CLAIM,
        plan=a_plan(IN_CLAIM, artifact=None, volume=a_volume(facts=FACTS)),
    ),
    Case(
        "a model in a claim cannot be parsed",
        "Ready",
        {"Complete": ("True", "VolumeReady"), "Parsed": ("False", "NoConfig")},
        model=IN_CLAIM,
        plan=a_plan(IN_CLAIM, artifact=None, volume=a_volume(parse_problem=a_problem(REASON_NO_CONFIG))),
    ),
    Case(
        "a claim waits for its first inspection",
        "Creating",
        {
            "Available": ("False", "Resolving"),
            "Degraded": ("False", "AsExpected"),
            "Resolved": ("False", "Resolving"),
            "Parsed": ("Unknown", "Pending"),
        },
        model=IN_CLAIM,
        plan=a_plan(IN_CLAIM, artifact=None, volume=a_volume(False), problem=a_problem(REASON_RESOLVING)),
    ),
    Case(
        "a claim has no such directory",
        "Failed",
        {
            "Available": ("False", "NotFound"),
            "Degraded": ("True", "NotFound"),
            "Resolved": ("False", "NotFound"),
            "Stalled": ("True", "NotFound"),
        },
        model=IN_CLAIM,
        plan=a_plan(
            IN_CLAIM,
            artifact=None,
            volume=a_volume(False),
            problem=a_problem(REASON_NOT_FOUND, kind=PROBLEM_CLASS_MISSING),
        ),
    ),
    Case(
        "a model that was found in its claim cannot be looked at again",
        "Ready",
        {
            "Available": ("True", "VolumeReady"),
            "Complete": ("False", "VolumeNotReady"),
            "Degraded": ("True", "VolumeNotReady"),
            "Parsed": ("True", "Parsed"),
            "Stalled": ("False", "AsExpected"),
        },
        model=IN_CLAIM,
        plan=a_plan(
            IN_CLAIM,
            artifact=None,
            volume=a_volume(facts=FACTS),
            problem=a_problem(REASON_VOLUME_NOT_READY, kind=PROBLEM_CLASS_UNAVAILABLE),
        ),
    ),
    Case(
        "a model has left its claim and is not planned anew yet",
        "Creating",
        {"Available": ("False", "Resolving")},
        plan=a_plan(IN_CLAIM, artifact=None, volume=a_volume()),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence.replace(" ", "_"))
def test_fold_says_so_when(case: Case) -> None:
    view = folded(case.model, case.plan, case.states, case.nodes)

    assert view.status["state"] == case.state
    assert view.status["lifecycle"] == (case.lifecycle or case.state)
    assert {name: conditions(view)[name] for name in case.conditions} == case.conditions
    assert conditions(view)["Ready"] == conditions(view)["Available"]
    assert message(view, "Ready") == message(view, "Available")
    assert view.status["nodesReady"] == list(case.ready)
    assert view.status["nodesFailed"] == list(case.failed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence.replace(" ", "_"))
def test_every_message_is_a_sentence_when(case: Case) -> None:
    for condition in folded(case.model, case.plan, case.states, case.nodes).status["conditions"]:
        assert not condition["message"].split()[0].isalpha() or condition["message"][0].isupper(), condition
        assert condition["message"].endswith("."), condition
        assert condition["reason"].isalpha(), condition


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no room", "No room."),
        ("storage.parameters.revision is 'stable'", "storage.parameters.revision is 'stable'."),
        ("storageUri 'x' cannot be read", "storageUri 'x' cannot be read."),
        ("node-000 lacks 12 GiB", "node-000 lacks 12 GiB."),
        ("model.safetensors is gated!", "model.safetensors is gated!"),
        ("hf://org/model: not there", "hf://org/model: not there."),
        ("/models is full", "/models is full."),
        ("", "No further details were given."),
    ],
)
def test_a_message_begins_like_a_sentence_unless_a_name_stands_there(text: str, shown: str) -> None:
    assert sentence(text) == shown


REASONS_SHOWN = {
    "one ready and one failed node are ready and degraded": "InsufficientDisk",
    "a node that fell silent keeps its ready copy and degrades the model": "NodeUnreachable",
    "one ready node makes the model ready but not complete": "Downloading",
    "every desired node is ready": "AllNodesReady",
    "the repository does not exist": "NotFound",
    "a disabled model keeps the copies that exist": "Disabled",
    "a model was found in its claim": "VolumeReady",
}


@pytest.mark.parametrize("sentence", REASONS_SHOWN)
def test_the_one_reason_that_is_shown_is_the_worst_news_when(sentence: str) -> None:
    [case] = [case for case in CASES if case.sentence == sentence]
    status = folded(case.model, case.plan, case.states, case.nodes).status
    assert status["reason"] == REASONS_SHOWN[sentence]


def test_a_deleted_model_is_deleting_until_its_last_node_has_answered() -> None:
    model = a_model()
    model["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    states = {"a": ready(), "b": a_state(NODE_PHASE_DELETED)}

    view = folded(model, PLAN, states)

    assert view.status["lifecycle"] == "Deleting"
    assert conditions(view)["Complete"] == ("False", "Deleting")
    assert message(view, "Complete") == "Waiting for a to delete the model."
    assert view.status["nodes"]["desired"] == 1


def test_a_deletion_that_waits_for_a_silent_node_names_it() -> None:
    model = a_model()
    model["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"

    view = folded(model, PLAN, {"a": ready()}, {"a": False})

    assert conditions(view)["Degraded"] == ("True", "NodeUnreachable")
    assert "node a does" in message(view, "Degraded")


def test_counts_and_summary_say_how_many_of_the_desired_nodes_stand_how() -> None:
    plan = a_plan(MODEL, "a", "b", "c", "d")

    view = folded(MODEL, plan, {"a": ready(), "b": failed(REASON_INSUFFICIENT_DISK), "c": updating()})

    assert view.status["nodes"] == {"desired": 4, "ready": 1, "updating": 2, "failed": 1, "summary": "1/4"}


def test_a_model_in_a_claim_concerns_no_node_and_tells_what_lies_there() -> None:
    view = folded(IN_CLAIM, a_plan(IN_CLAIM, artifact=None, volume=a_volume(facts=FACTS)))

    assert view.status["nodes"] == {"desired": 0, "ready": 0, "updating": 0, "failed": 0, "summary": "-"}
    assert message(view, "Available") == "PersistentVolumeClaim team-a/storage holds the model."
    found = "The model has 9 files of 86.8 MiB. OME copies nothing: the model is used in place."
    assert message(view, "Resolved") == found
    assert view.status["metadata"]["modelType"] == "bert"
    assert view.spec_facts is not None
    assert [event.reason for event in view.events] == ["Ready"]
    assert "artifact" not in view.status


def test_facts_of_a_model_that_is_no_longer_in_its_claim_are_not_told() -> None:
    plan = a_plan(IN_CLAIM, artifact=None, volume=a_volume(facts=FACTS))
    before = folded(IN_CLAIM, plan).status
    gone = a_problem(REASON_VOLUME_NOT_READY, "the claim is gone", PROBLEM_CLASS_MISSING)

    view = folded(IN_CLAIM, a_plan(IN_CLAIM, artifact=None, volume=a_volume(False), problem=gone), previous=before)

    assert view.status["state"] == "Failed"
    assert "metadata" not in view.status
    assert [event.reason for event in view.events] == ["VolumeNotReady"]


def test_failures_hold_node_reason_and_message_of_at_most_fifty_nodes() -> None:
    names = [f"node-{number:03}" for number in range(80)]
    states = {name: failed(REASON_INSUFFICIENT_DISK, f"{name} lacks 12 GB") for name in names}

    view = folded(MODEL, a_plan(MODEL, *names), states)

    assert len(view.status["failures"]) == 50
    assert view.status["failures"][0] == {
        "node": "node-000",
        "reason": "InsufficientDisk",
        "message": "node-000 lacks 12 GB.",
    }
    assert len(view.status["nodesFailed"]) == 80


def test_the_most_frequent_failure_stands_for_all() -> None:
    plan = a_plan(MODEL, "a", "b", "c")
    states = {
        "a": failed(REASON_CHECKSUM_MISMATCH),
        "b": failed(REASON_INSUFFICIENT_DISK, "no room"),
        "c": failed(REASON_INSUFFICIENT_DISK, "no room"),
    }

    view = folded(MODEL, plan, states)

    assert conditions(view)["Stalled"] == ("True", "InsufficientDisk")
    assert message(view, "Degraded") == "3 of 3 nodes failed. On b: No room."


def test_the_artifact_is_told_once_it_is_resolved() -> None:
    assert folded(MODEL, PLAN).status["artifact"] == {
        "digest": ARTIFACT.digest,
        "sourceRevision": "c0ffee",
        "bytes": 91_000_000,
        "files": 9,
    }
    assert "artifact" not in folded(MODEL, a_plan(MODEL, "a", artifact=None)).status
    assert "artifact" not in folded(LOCAL, a_plan(LOCAL, "a", artifact=Artifact())).status


def test_what_was_told_of_the_artifact_stays_while_nobody_says_what_was_decided() -> None:
    before = folded(MODEL, a_plan(MODEL, "a"), {"a": ready(facts=FACTS)}).status

    after = folded(MODEL, None, {}, previous=before).status

    assert (after["artifact"], after["metadata"]) == (before["artifact"], before["metadata"])


def test_observed_generation_follows_the_object_when_nothing_that_planning_reads_has_changed() -> None:
    filled_in = a_model()
    filled_in["spec"]["modelType"] = "bert"
    filled_in["metadata"]["generation"] = 4

    assert folded(filled_in, PLAN).status["observedGeneration"] == 4


def test_observed_generation_stays_behind_until_an_edit_is_planned() -> None:
    edited = a_model("hf://org/another")
    edited["metadata"]["generation"] = 4

    assert folded(edited, PLAN).status["observedGeneration"] == 3
    assert folded(edited, a_plan(edited, "a")).status["observedGeneration"] == 4


def test_a_model_without_storage_is_observed_without_a_plan() -> None:
    assert folded(a_model("")).status["observedGeneration"] == 3


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    states = {"a": ready(), "b": updating()}
    before = folded(MODEL, PLAN, states).status
    after = folded(MODEL, PLAN, {"a": ready(), "b": ready()}, previous=before, now=LATER).status

    times = {condition["type"]: condition["lastTransitionTime"] for condition in after["conditions"]}
    assert times["Available"] == "2026-03-01T12:00:00Z"
    assert times["Complete"] == "2026-03-01T13:00:00Z"


def test_facts_of_the_planned_artifact_are_metadata_and_fill_the_spec() -> None:
    view = folded(MODEL, a_plan(MODEL, "a"), {"a": ready(facts=FACTS)})

    assert view.status["metadata"]["architecture"] == "BertModel"
    assert view.spec_facts is not None
    assert view.spec_facts["modelType"] == "bert"
    assert message(view, "Parsed") == "The model's files were parsed: BertModel, 22M."


def test_facts_of_an_earlier_artifact_fill_nothing() -> None:
    view = folded(MODEL, a_plan(MODEL, "a"), {"a": ready(OLD_DIGEST, facts=FACTS)})

    assert "metadata" not in view.status
    assert view.spec_facts is None


def test_facts_stay_known_when_the_node_that_told_them_is_gone() -> None:
    before = folded(MODEL, a_plan(MODEL, "a"), {"a": ready(facts=FACTS)}).status

    after = folded(MODEL, a_plan(MODEL, "b"), {"b": updating()}, previous=before).status

    assert after["metadata"] == before["metadata"]


def test_the_annotation_that_skips_parsing_is_respected() -> None:
    model = a_model()
    model["metadata"]["annotations"] = {"ome.io/skip-config-parsing": "true"}

    view = folded(model, a_plan(model, "a"), {"a": ready(facts=FACTS)})

    assert view.spec_facts is None
    assert "metadata" not in view.status
    assert conditions(view)["Parsed"] == ("Unknown", "ParsingSkipped")


def test_the_path_is_that_of_a_ready_copy() -> None:
    assert folded(MODEL, PLAN, {"a": ready()}).status["path"] == "/models/minilm"
    assert "path" not in folded(MODEL, PLAN, {"a": updating()}).status


def test_nodes_that_hold_something_undesired_are_shown_to_clients_only() -> None:
    view = folded(MODEL, a_plan(MODEL, "a"), {"a": ready(), "z": updating()})

    assert [(node.node, node.desired) for node in view.nodes] == [("a", True), ("z", False)]
    assert view.status["nodes"]["desired"] == 1


def test_a_node_with_an_earlier_revision_is_ready_and_revises_it() -> None:
    first, second = folded(MODEL, PLAN, {"a": ready(OLD_DIGEST), "b": ready()}).nodes

    assert (first.phase, first.revising) == (NODE_PHASE_READY, True)
    assert (second.phase, second.revising) == (NODE_PHASE_READY, False)


def test_a_cause_is_told_by_one_condition_and_named_by_the_others() -> None:
    plan = a_plan(MODEL, "a", artifact=None)
    plan.problem.CopyFrom(
        Problem(reason=REASON_GATED, message="the terms were not accepted", problem_class=PROBLEM_CLASS_MISSING)
    )
    view = folded(MODEL, plan)
    told = [each for each in view.status["conditions"] if "terms were not accepted" in each["message"]]
    assert [each["type"] for each in told] == ["Degraded"]
    named = {each["type"]: each["message"] for each in view.status["conditions"] if each["reason"] == "Gated"}
    assert named == {
        "Available": "No node holds the model: the condition Degraded tells the cause.",
        "Ready": "No node holds the model: the condition Degraded tells the cause.",
        "Complete": "Not every node that must hold the model does: the condition Degraded tells the cause.",
        "Degraded": "The terms were not accepted.",
        "Resolved": "It is not known what the source holds: the condition Degraded tells the cause.",
        "Stalled": "OME does not go on by itself: the condition Degraded tells the cause.",
    }
    assert [event.message for event in view.events if event.reason == "Gated"] == ["The terms were not accepted."]
