"""A tenant's files, listings and errors say anything, at any length: what is said of others' models stays whole."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.model.manifest_codec import decode_manifest, encode_manifest
from libs.model.problems import problem_of
from ome.fetch.v1.fetch_pb2 import NodeModelState, Problem, SharedFacts
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, NODE_PHASE_FAILED, NODE_PHASE_READY, Artifact, ModelRef
from ome.parser.v1.parser_pb2 import ModelFacts
from ome.status.v1.status_pb2 import Model, NodeStatus
from services.controller.gateway.checks import bounded_facts, bounded_state
from services.parser.intake import Intake
from services.parser.parsing import parse_directory
from services.status.facts import facts_document
from services.status.folding import fold
from services.status.messages import model_message, page_of
from services.status.node_report import node_report
from tests.unit.status.samples import ARTIFACT, NOW, a_model, a_plan

R = TypeVar("R")
LONG = "N\x00\x1b" * 50_000
# Limit of the API server for all values of a ConfigMap together: ValidateConfigMap in its source.
CONFIG_MAP_BYTES = 1 << 20
# What a client of gRPC takes at the most unless it says otherwise.
ANSWER_BYTES = 4 << 20


def parsed(**configuration: object) -> ModelFacts:
    data = json.dumps(configuration).encode()
    intake = Intake("")
    intake.add("config.json", len(data), data)
    return parse_directory(intake.finish())


def longest(text: object) -> int:
    if isinstance(text, dict):
        return max((longest(each) for pair in text.items() for each in pair), default=0)
    if isinstance(text, list):
        return max(map(longest, text), default=0)
    return len(str(text))


def test_what_a_configuration_calls_itself_is_a_word_and_not_a_book() -> None:
    facts = parsed(model_type=LONG, architectures=[LONG], torch_dtype=LONG, license=LONG, library_name=LONG)
    assert facts.ByteSize() < 16 << 10
    for text in (facts.model_type, facts.architecture, facts.dtype, facts.license):
        assert len(text) <= 253
        assert text.isprintable()


def test_what_a_node_says_of_facts_is_bounded_as_well() -> None:
    facts = ModelFacts(model_type=LONG, warnings=[LONG] * 100, capabilities=[LONG] * 100)
    facts.bytes_by_dtype.update({f"{LONG}{number}": 1 for number in range(500)})
    facts.remarks.add(message=LONG, files=[LONG] * 100)
    assert bounded_facts(SharedFacts(facts=facts)).ByteSize() < 256 << 10
    state = NodeModelState(model=ModelRef(uid="u"), facts=facts, problem={"message": LONG}, path="/models/\n" + LONG)
    state = bounded_state(state)
    assert state.ByteSize() < 256 << 10
    assert state.problem.message.isprintable()
    assert state.path.isprintable()


def test_an_error_is_one_line_that_a_status_can_hold() -> None:
    problem = problem_of(Unavailable(Reason.UNAVAILABLE, LONG + "\ud800"), "fetcher")
    assert len(problem.message) <= 1024
    assert problem.message.isprintable()


def test_a_revision_or_a_version_that_is_a_book_is_refused_with_the_listing() -> None:
    def refusal(revision: str, version: str) -> str:
        file = ManifestFile("a", 1, ChecksumAlgorithm.NONE, "", version)
        found = outcome(lambda: new_manifest(revision, [file]))
        return found.message if isinstance(found, InvalidValue) else ""

    for revision, version in ((LONG, ""), ("", LONG), ("a\nb", ""), ("", "a\r\nb: c")):
        assert refusal(revision, version)
    assert len(refusal(LONG, "")) < 1000
    assert refusal("c0ffee", '"etag-1"') == ""


def report_with(count: int, facts: ModelFacts) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and entries of a node with one model of a team and very many of another."""
    models, states = {}, {}
    for namespace, number in [("good", 0), *(("evil", number) for number in range(count))]:
        uid = f"{namespace}-{number}"
        metadata = {"name": f"m{number}", "namespace": namespace, "uid": uid}
        models[uid] = {"apiVersion": "ome.io/v1beta1", "kind": "BaseModel", "metadata": metadata, "spec": {}}
        ref = ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace=namespace, name=f"m{number}", uid=uid)
        states[uid] = NodeModelState(
            model=ref,
            phase=NODE_PHASE_READY,
            path="/models/" + "p" * 200,
            artifact=Artifact(digest="sha256:" + "a" * 64),
            facts=facts if namespace == "evil" else ModelFacts(model_type="llama"),
        )
    report = node_report(models, states)
    return report.labels, report.data


def test_one_name_does_not_cost_others_their_entry_on_a_node() -> None:
    labels, data = report_with(
        3_000, ModelFacts(model_type="w" * 253, architecture="w" * 253, parameter_size="w" * 253)
    )
    assert sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) < CONFIG_MAP_BYTES
    [good] = [json.loads(value) for key, value in data.items() if "good" in key]
    assert good["facts"] == {"modelType": "llama"}
    # What schedules goes by labels.
    assert "models.ome/evil-2999" in labels


def test_a_page_of_models_is_no_larger_than_clients_take_and_none_is_left_out() -> None:
    nodes = [NodeStatus(node=f"n{number}", phase=NODE_PHASE_FAILED, message="m" * 1024) for number in range(500)]
    models = [Model(ref=ModelRef(uid=f"{number}"), nodes=nodes) for number in range(40)]
    seen = 0
    while seen < len(models):
        page = page_of(models[seen:], 1000)
        assert page
        assert sum(model.ByteSize() for model in page) < ANSWER_BYTES
        seen += len(page)
    assert len(page_of(models[:0], 10)) == 0
    assert len(page_of([Model()] * 20, 10)) == 10


# What a configuration, a header, an error or a name may hold: NUL, controls, marks of direction, any length.
# Lone surrogates, which JSON can write, come to us in files alone: no message between services can hold them.
SURROGATES = st.text(st.characters(codec=None, categories=["Cs", "Lu"]), max_size=30)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(codec="utf-8", categories=["Cc", "Cf", "Zl", "Zs"]), max_size=30),
    st.integers(1, 5_000).map(lambda count: "\u4e00" * count),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | SURROGATES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | SURROGATES, inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["model_type", "architectures", "torch_dtype", "license", "quantization_config", "hidden_size", "vocab_size", "x"]
)
MESSAGES = st.builds(lambda text: problem_of(Unavailable(Reason.UNAVAILABLE, text), "fetcher"), TEXTS | SURROGATES)


def outcome(call: Callable[[], R]) -> R | InvalidValue:
    """What a call returns, or the error that it ends with: no other may come."""
    try:
        return call()
    except InvalidValue as error:
        return error


def assert_can_be_told(error: InvalidValue) -> None:
    assert len(error.message) <= 1024
    assert error.message.isprintable()


@settings(max_examples=100)
@given(st.dictionaries(FIELDS, VALUES))
def test_whatever_a_configuration_holds_yields_facts_or_an_error_to_tell(configuration: dict[str, Any]) -> None:
    found = outcome(lambda: parsed(**configuration))
    if isinstance(found, InvalidValue):
        assert_can_be_told(found)
        return
    assert found.ByteSize() < 256 << 10
    document = facts_document(found)
    assert longest(document) <= 1024
    assert json.dumps(document, ensure_ascii=False).isprintable()


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXTS, TEXTS, MESSAGES), min_size=1, max_size=20), TEXTS)
def test_whatever_nodes_say_a_status_is_written_that_the_api_server_takes(
    said: list[tuple[str, str, Problem]], name: str
) -> None:
    model = a_model()
    states = {}
    for number, (path, word, problem) in enumerate(said):
        facts = ModelFacts(model_type=word, architecture=name, warnings=[word, name])
        state = NodeModelState(
            model=ModelRef(uid="u", name=name, namespace=word),
            phase=NODE_PHASE_FAILED if number % 2 else NODE_PHASE_READY,
            problem=problem if number % 2 else None,
            artifact=ARTIFACT,
            path=path,
            facts=facts,
        )
        states[f"n{number}"] = bounded_state(state)
    view = fold(model, a_plan(model, *states), states, dict.fromkeys(states, True), {}, {}, NOW)
    assert len(json.dumps(view.status)) < 256 << 10
    for condition in view.status["conditions"]:
        # Limit of metav1.Condition.
        assert len(condition["message"]) <= 32768
    assert model_message(model, view).ByteSize() < ANSWER_BYTES
    assert node_report({"u": model}, {"u": states["n0"]}).data


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXTS | SURROGATES, TEXTS | SURROGATES), max_size=5), TEXTS | SURROGATES)
def test_whatever_a_source_lists_is_a_manifest_or_an_error_that_can_be_told(
    files: list[tuple[str, str]], revision: str
) -> None:
    listed = [ManifestFile(path, 1, ChecksumAlgorithm.NONE, "", version) for path, version in files]
    found = outcome(lambda: new_manifest(revision, listed))
    if isinstance(found, InvalidValue):
        assert_can_be_told(found)
    else:
        assert decode_manifest(encode_manifest(found)) == found
