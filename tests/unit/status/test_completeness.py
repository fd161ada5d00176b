"""What a status tells of whether a model is whole, and of what else is odd about its files."""

from typing import Any

import pytest

from ome.fetch.v1.fetch_pb2 import PROBLEM_CLASS_MISSING, ModelPlan
from ome.model.v1.model_pb2 import (
    FINDING_MISSING_FILES,
    FINDING_NO_TOKENIZER,
    FINDING_VARIANT_CHOSEN,
    NODE_PHASE_FAILED,
    REASON_INCOMPLETE,
    WHOLENESS_INCOMPLETE,
    WHOLENESS_UNSPECIFIED,
    WHOLENESS_WHOLE,
    Completeness,
    Remark,
    Wholeness,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from services.status.folding import StatusView
from tests.unit.status.samples import (
    DIGEST,
    a_model,
    a_plan,
    a_problem,
    a_state,
    a_volume,
    conditions,
    failed,
    folded,
    message,
    ready,
    updating,
)

MODEL = a_model()
MISSING = Remark(
    finding=FINDING_MISSING_FILES, message="b.safetensors is missing: x names 2 files", files=["b.safetensors"]
)
CHOSEN = Remark(
    finding=FINDING_VARIANT_CHOSEN, message="of the quantizations Q4_K_M and Q8_0 in GGUF, Q4_K_M is fetched"
)
NO_TOKENIZER = Remark(finding=FINDING_NO_TOKENIZER, message="there is no tokenizer")


def facts(wholeness: Wholeness, **more: Any) -> ModelFacts:
    defects = [MISSING] if wholeness == WHOLENESS_INCOMPLETE else []
    return ModelFacts(model_type="bert", completeness=Completeness(wholeness=wholeness, defects=defects), **more)


def planned(**more: Any) -> ModelPlan:
    return a_plan(MODEL, "a", **more)


def whole(view: StatusView) -> tuple[str, str]:
    return conditions(view)["Whole"]


@pytest.mark.parametrize(
    ("wholeness", "expected", "words"),
    [
        (WHOLENESS_WHOLE, ("True", "Whole"), "All files are there that"),
        (WHOLENESS_UNSPECIFIED, ("Unknown", "Unproven"), "Nothing in the model's files tells"),
        (
            WHOLENESS_INCOMPLETE,
            ("False", "Incomplete"),
            "b.safetensors is missing: x names 2 files. It is used all the",
        ),
    ],
)
def test_a_ready_model_is_as_whole_as_its_facts_say(
    wholeness: Wholeness, expected: tuple[str, str], words: str
) -> None:
    view = folded(MODEL, planned(), {"a": ready(facts=facts(wholeness))})
    assert (view.status["state"], whole(view)) == ("Ready", expected)
    assert message(view, "Whole").startswith(words)
    assert view.status["reason"] == ("Incomplete" if expected[0] == "False" else "AllNodesReady")
    assert "completeness" not in view.status["metadata"]


def test_nothing_is_said_before_anybody_has_looked() -> None:
    assert whole(folded(MODEL, planned(), {"a": updating()})) == ("Unknown", "Pending")
    assert whole(folded(MODEL)) == ("Unknown", "Pending")


def test_a_model_that_its_node_has_found_incomplete_is_failed_with_the_files_and_tells_so_once() -> None:
    state = a_state(
        NODE_PHASE_FAILED,
        a_problem(REASON_INCOMPLETE, "b.safetensors is missing; mend the source"),
        facts=facts(WHOLENESS_INCOMPLETE),
        facts_key=DIGEST.replace("sha256:", "sha256-") + ".how",
    )
    view = folded(MODEL, planned(), {"a": state})
    assert (view.status["state"], view.status["reason"], whole(view)) == (
        "Failed",
        "Incomplete",
        ("False", "Incomplete"),
    )
    assert view.status["lifecycle"] == "Incomplete"
    assert message(view, "Whole") == "b.safetensors is missing: x names 2 files."
    assert view.status["metadata"]["modelType"] == "bert", "its facts are told all the same"
    assert [event.reason for event in view.events if event.type == "Warning"] == ["Incomplete"]
    assert folded(MODEL, planned(), {"a": state}, previous=view.status).events == ()


def test_a_node_without_facts_tells_why_by_itself() -> None:
    view = folded(MODEL, planned(), {"a": failed(REASON_INCOMPLETE, "config.json is empty; mend the source")})
    assert whole(view) == ("False", "Incomplete")
    assert message(view, "Whole") == "config.json is empty; mend the source."


def test_a_listing_that_proves_it_fails_the_model_before_any_node_is_asked() -> None:
    problem = a_problem(REASON_INCOMPLETE, "hf://org/model: b is missing", PROBLEM_CLASS_MISSING)
    view = folded(MODEL, a_plan(MODEL, "a", artifact=None, problem=problem))
    assert (view.status["state"], view.status["reason"], whole(view)) == (
        "Failed",
        "Incomplete",
        ("False", "Incomplete"),
    )
    assert [event.reason for event in view.events if event.type == "Warning"] == ["Incomplete"]


def test_a_listing_that_is_allowed_to_be_incomplete_says_so_without_facts() -> None:
    completeness = Completeness(wholeness=WHOLENESS_INCOMPLETE, defects=[MISSING])
    view = folded(MODEL, planned(completeness=completeness), {"a": ready()})
    assert (view.status["state"], view.status["reason"], whole(view)) == (
        "Ready",
        "Incomplete",
        ("False", "Incomplete"),
    )
    assert ("Warning", "Incomplete") in [(event.type, event.reason) for event in view.events]
    assert view.status["lifecycle"] == "Ready"


def test_a_model_that_may_be_incomplete_is_shown_by_its_state_while_it_comes() -> None:
    allowed = a_model(storage={"storageUri": "hf://org/model", "parameters": {"allowIncomplete": "true"}})
    completeness = Completeness(wholeness=WHOLENESS_INCOMPLETE, defects=[MISSING])
    view = folded(allowed, a_plan(allowed, "a", completeness=completeness), {"a": updating()})
    assert (whole(view)[0], view.status["lifecycle"]) == ("False", "Creating")


def test_an_incomplete_model_in_a_claim_is_not_available() -> None:
    model = a_model("pvc://storage/minilm", kind="BaseModel")
    volume = a_volume(False, facts=facts(WHOLENESS_INCOMPLETE))
    problem = a_problem(REASON_INCOMPLETE, "b.safetensors is missing", PROBLEM_CLASS_MISSING)
    view = folded(model, a_plan(model, artifact=None, volume=volume, problem=problem))
    assert (view.status["state"], view.status["reason"], whole(view)) == (
        "Failed",
        "Incomplete",
        ("False", "Incomplete"),
    )


def test_what_was_told_of_an_artifact_stays_while_nobody_says_it() -> None:
    first = folded(
        MODEL, planned(warnings=[CHOSEN]), {"a": ready(facts=facts(WHOLENESS_WHOLE, remarks=[NO_TOKENIZER]))}
    )
    for later in (
        folded(MODEL, planned(warnings=[CHOSEN]), {"a": ready()}, previous=first.status),
        folded(MODEL, None, {"a": ready()}, {"a": True}, previous=first.status),
    ):
        assert whole(later) == ("True", "Whole")
        assert later.status["warnings"] == first.status["warnings"]
        assert not [event for event in later.events if event.type == "Warning"]


def test_remarks_of_listing_choice_and_parser_are_warnings_with_an_event_for_each_reason() -> None:
    marks = [f"{name} starts with a byte order mark." for name in ("config.json", "tokenizer.json")]
    found = facts(WHOLENESS_WHOLE, remarks=[NO_TOKENIZER], warnings=marks)
    view = folded(MODEL, planned(warnings=[CHOSEN, CHOSEN]), {"a": ready(facts=found)})
    assert view.status["warnings"] == [
        {"reason": "VariantChosen", "message": "Of the quantizations Q4_K_M and Q8_0 in GGUF, Q4_K_M is fetched."},
        {"reason": "NoTokenizer", "message": "There is no tokenizer."},
        {"reason": "OddFile", "message": "config.json starts with a byte order mark."},
        {"reason": "OddFile", "message": "tokenizer.json starts with a byte order mark."},
    ]
    events = [(event.reason, event.message) for event in view.events if event.type == "Warning"]
    assert events == [
        ("VariantChosen", "Of the quantizations Q4_K_M and Q8_0 in GGUF, Q4_K_M is fetched."),
        ("NoTokenizer", "There is no tokenizer."),
        ("OddFile", " ".join(marks)),
    ]
    again = folded(MODEL, planned(warnings=[CHOSEN]), {"a": ready(facts=found)}, previous=view.status)
    assert not [event for event in again.events if event.type == "Warning"]


def test_warnings_go_with_what_they_are_about() -> None:
    first = folded(MODEL, planned(warnings=[CHOSEN]), {"a": ready(facts=facts(WHOLENESS_WHOLE))})
    assert (
        "warnings"
        not in folded(MODEL, planned(), {"a": ready(facts=facts(WHOLENESS_WHOLE))}, previous=first.status).status
    )


def test_warnings_are_bounded() -> None:
    many = [Remark(finding=FINDING_NO_TOKENIZER, message=f"{number} " + "x" * 3000) for number in range(50)]
    warnings = folded(MODEL, planned(warnings=many), {"a": ready()}).status["warnings"]
    assert len(warnings) == 16
    assert all(len(each["message"]) <= 1024 for each in warnings)
