"""Which facts go where, and which spec fields are ours."""

from typing import Any

from ome.parser.v1.parser_pb2 import (
    CERTAINTY_ESTIMATED,
    COUNT_SOURCE_HEADERS,
    Adapter,
    Component,
    ModelFacts,
    ParameterCount,
    Quantization,
)
from services.status.facts import FIELD_MANAGER, facts_document, spec_to_apply
from tests.unit.status.samples import a_model

FACTS = ModelFacts(
    model_type="llama",
    architecture="LlamaForCausalLM",
    parameter_size="8B",
    parameters=ParameterCount(count=8030261248, exact=True),
    context_length=131072,
    capabilities=["TEXT_GENERATION"],
    format="safetensors",
    framework="transformers",
    framework_version="4.43.0",
)


def managed(model: dict[str, Any], manager: str, *fields: str, operation: str = "Apply") -> dict[str, Any]:
    """Have a manager own spec fields, of which a dot separates the levels."""
    tree: dict[str, Any] = {}
    for path in fields:
        node = tree
        for part in path.split("."):
            node = node.setdefault(f"f:{part}", {})
    entry = {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": tree}}
    model["metadata"].setdefault("managedFields", []).append(entry)
    return model


def test_every_empty_field_is_filled() -> None:
    assert spec_to_apply(a_model(), FACTS) == {
        "modelType": "llama",
        "modelArchitecture": "LlamaForCausalLM",
        "modelParameterSize": "8B",
        "maxTokens": 131072,
        "modelCapabilities": ["TEXT_GENERATION"],
        "modelFormat": {"name": "safetensors"},
        "modelFramework": {"name": "transformers", "version": "4.43.0"},
    }


def test_an_estimate_fills_no_field_of_the_spec() -> None:
    guessed = ModelFacts(model_type="novel", parameter_size="8B", parameters=ParameterCount(count=8 * 10**9))

    assert spec_to_apply(a_model(), guessed) == {"modelType": "novel"}
    assert facts_document(guessed)["parameterSize"] == "8B"


def test_adapters_and_certainties_are_spelt_as_kubernetes_does() -> None:
    adapter = Adapter(type="LORA", rank=8, alpha=16, target_modules=["q_proj"], base_model="org/base")
    facts = ModelFacts(adapter=adapter, weight_bytes=9, weight_bytes_certainty=CERTAINTY_ESTIMATED)

    assert facts_document(facts) == {
        "adapter": {"type": "LORA", "rank": 8, "alpha": 16.0, "targetModules": ["q_proj"], "baseModel": "org/base"},
        "weightBytes": 9,
        "weightBytesCertainty": "estimated",
    }


def test_what_the_user_set_is_left_alone() -> None:
    model = managed(
        a_model(modelType="custom", maxTokens=4096), "kubectl", "modelType", "maxTokens", operation="Update"
    )

    applied = spec_to_apply(model, FACTS)

    assert applied is not None
    assert "modelType" not in applied
    assert "maxTokens" not in applied
    assert applied["modelParameterSize"] == "8B"


def test_a_field_without_a_known_owner_is_taken_for_the_users() -> None:
    applied = spec_to_apply(a_model(modelType="custom"), FACTS)

    assert applied is not None
    assert "modelType" not in applied


def test_nothing_is_applied_when_the_object_states_the_facts_already() -> None:
    model = a_model(modelType="llama", modelFormat={"name": "safetensors"})
    managed(model, FIELD_MANAGER, "modelType", "modelFormat.name")

    assert spec_to_apply(model, ModelFacts(model_type="llama", format="safetensors")) is None


def test_a_later_revision_replaces_what_we_wrote() -> None:
    model = managed(a_model(modelType="llama"), FIELD_MANAGER, "modelType")

    assert spec_to_apply(model, ModelFacts(model_type="mistral")) == {"modelType": "mistral"}


def test_a_fact_that_is_known_no_more_is_given_up() -> None:
    model = managed(a_model(modelType="llama", quantization="fp8"), FIELD_MANAGER, "modelType", "quantization")

    assert spec_to_apply(model, ModelFacts(model_type="llama")) == {"modelType": "llama"}


def test_a_field_that_the_user_now_owns_too_is_given_up() -> None:
    model = managed(a_model(modelType="llama"), FIELD_MANAGER, "modelType")
    managed(model, "kubectl", "modelType")

    assert spec_to_apply(model, ModelFacts(model_type="mistral")) == {}


def test_a_version_is_not_added_to_a_name_that_the_user_chose() -> None:
    model = managed(a_model(modelFramework={"name": "vllm"}), "kubectl", "modelFramework.name")

    assert spec_to_apply(model, ModelFacts(framework="transformers", framework_version="4.43.0")) is None


def test_status_writes_own_no_spec_fields() -> None:
    model = a_model(modelType="llama")
    entry = {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status", "fieldsV1": {"f:spec": {}}}
    model["metadata"]["managedFields"] = [entry]

    assert spec_to_apply(model, ModelFacts(model_type="llama")) is None


def test_a_fine_tuned_weight_keeps_its_method() -> None:
    assert spec_to_apply(a_model(kind="FineTunedWeight"), FACTS) is None


def test_a_context_that_the_field_cannot_hold_is_left_out() -> None:
    assert spec_to_apply(a_model(), ModelFacts(context_length=2**40)) is None


def test_the_document_has_numbers_words_and_lists_as_kubernetes_writes_them() -> None:
    facts = ModelFacts(
        model_type="llama",
        quantization=Quantization(spec_value="fp8", bits=8),
        parameters=ParameterCount(count=8_030_261_248, source=COUNT_SOURCE_HEADERS, exact=True),
        components=[Component(name="vae", parameters=ParameterCount(count=7))],
        bytes_by_dtype={"F32": 2, "BF16": 1},
        warnings=["odd"],
    )

    assert facts_document(facts) == {
        "modelType": "llama",
        "quantization": {"specValue": "fp8", "bits": 8},
        "parameters": {"count": 8_030_261_248, "source": "headers", "exact": True},
        "components": [{"name": "vae", "parameters": {"count": 7, "exact": False}}],
        "bytesByDtype": {"BF16": 1, "F32": 2},
        "warnings": ["odd"],
    }
