"""What holds of every fold, whatever goes in."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ome.fetch.v1.fetch_pb2 import HeldCopy, ModelPlan, NodeModelState, ProblemClass, Progress, Use
from ome.model.v1.model_pb2 import ModelKind, NodePhase, Reason
from services.status.folding import FAILURES_LIMIT, fold
from services.status.messages import model_message
from tests.unit.status.samples import (
    ARTIFACT,
    DIGEST,
    FACTS,
    LATER,
    NOW,
    OLD_DIGEST,
    a_model,
    a_plan,
    a_problem,
    a_volume,
)

NODES = [f"n{number}" for number in range(6)]
REASONS = st.sampled_from(Reason.values())
PROBLEMS = st.none() | st.builds(a_problem, REASONS, st.text(max_size=20), st.sampled_from(ProblemClass.values()))
VOLUMES = st.none() | st.builds(a_volume, st.booleans(), parse_problem=PROBLEMS)


@st.composite
def states(draw: st.DrawFn) -> NodeModelState:
    """Anything that a node may say."""
    return NodeModelState(
        phase=NodePhase.Name(draw(st.sampled_from(NodePhase.values()))),
        problem=draw(PROBLEMS),
        artifact=draw(st.sampled_from([None, ARTIFACT, ARTIFACT.__class__(digest=OLD_DIGEST)])),
        facts=draw(st.sampled_from([None, FACTS])),
        parse_problem=draw(PROBLEMS),
        path=draw(st.sampled_from(["", "/models/a"])),
        update=NodePhase.Name(draw(st.sampled_from(NodePhase.values()))),
        held=draw(st.sampled_from([[], [HeldCopy(artifact=ARTIFACT, path="/models/a", use=Use(pods=1))]])),
    )


numbers = st.sampled_from([-(2**63), -1, 0, 1, 45_500_000, 91_000_000, 2**63 - 1])
progresses = st.builds(Progress, bytes_done=numbers, bytes_per_second=numbers, eta_seconds=numbers)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """Anything that there may be to fold."""
    model = a_model(
        draw(st.sampled_from(["", "hf://a/b", "local:///a", "pvc://a:b/c", "nonsense"])),
        draw(st.sampled_from(["BaseModel", "ClusterBaseModel", "FineTunedWeight"])),
        disabled=draw(st.booleans()),
    )
    if draw(st.booleans()):
        model["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    plan: ModelPlan | None = None
    if draw(st.booleans()):
        desired = draw(st.sets(st.sampled_from(NODES)))
        plan = a_plan(
            model,
            *desired,
            artifact=draw(st.sampled_from([None, ARTIFACT])),
            problem=draw(PROBLEMS),
            volume=draw(VOLUMES),
        )
    return {
        "model": model,
        "plan": plan,
        "states": draw(st.dictionaries(st.sampled_from(NODES), states())),
        "nodes": draw(st.dictionaries(st.sampled_from(NODES), st.booleans())),
        "transfers": draw(st.dictionaries(st.sampled_from(NODES), progresses)),
    }


@given(situations())
def test_folding_its_own_result_again_changes_nothing_and_tells_nothing(situation: dict[str, Any]) -> None:
    first = fold(**situation, previous={}, now=NOW)

    second = fold(**situation, previous=first.status, now=LATER)

    assert second.status == first.status
    assert second.events == ()


@given(situations(), st.randoms())
def test_the_order_of_its_inputs_does_not_matter(situation: dict[str, Any], random: Any) -> None:
    shuffled = dict(situation)
    for name in ("states", "nodes", "transfers"):
        items = list(situation[name].items())
        random.shuffle(items)
        shuffled[name] = dict(items)

    assert fold(**shuffled, previous={}, now=NOW) == fold(**situation, previous={}, now=NOW)


@given(situations())
def test_state_counts_and_lists_agree(situation: dict[str, Any]) -> None:
    status = fold(**situation, previous={}, now=NOW).status
    counts = status["nodes"]
    held = {condition["type"]: condition["status"] for condition in status["conditions"]}

    assert counts["ready"] == len(status["nodesReady"])
    assert counts["failed"] == len(status["nodesFailed"])
    assert counts["desired"] == counts["ready"] + counts["updating"] + counts["failed"]
    assert (status["state"] == "Ready") == (held["Available"] == "True")
    assert held["Complete"] != "True" or held["Available"] == "True"
    assert status["nodesReady"] == sorted(status["nodesReady"])
    assert len(status["failures"]) <= FAILURES_LIMIT
    in_claim = counts["summary"] == "-"
    assert in_claim or (status["state"] == "Ready") == bool(status["nodesReady"])
    assert in_claim or held["Complete"] != "True" or counts["ready"] == counts["desired"] > 0


@given(situations())
def test_progress_is_within_its_bounds_whatever_nodes_say(situation: dict[str, Any]) -> None:
    progress = fold(**situation, previous={}, now=NOW).status.get("progress")

    if progress:
        assert 0 <= progress["bytes"] <= progress["totalBytes"]
        assert 0 <= int(progress["percent"].removesuffix("%")) <= 99
        assert 0 <= progress["bytesPerSecond"] < 2**63
        assert 0 < progress.get("etaSeconds", 1) < 2**63
        assert progress["slowestNode"] in NODES


@given(situations())
def test_every_view_can_be_told_over_grpc(situation: dict[str, Any]) -> None:
    view = fold(**situation, previous={}, now=NOW)

    told = model_message(situation["model"], view)

    assert told.ref.kind in ModelKind.values()
    assert [node.node for node in told.nodes] == sorted(node.node for node in told.nodes)
    assert not told.HasField("artifact") or told.artifact.digest in ("", DIGEST)
