"""Whether fine-tuned weights fit the base that they name, by the facts of both."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from services.status.compatibility import judge_fit, weights_word

SHOWN = "ClusterBaseModel llama"
HUB = "hf://org/base@main"


def module(name: str, inputs: int, outputs: int) -> dict[str, Any]:
    return {"name": name, "inputs": inputs, "outputs": outputs}


Q, K, DOWN = module("q_proj", 4096, 4096), module("k_proj", 4096, 1024), module("down_proj", 14336, 4096)
BASE = {"modelType": "llama", "architecture": "LlamaForCausalLM", "modules": [DOWN, K, Q, module("lm_head", 4096, 128)]}


def lora(*modules: dict[str, Any], base: str = "org/base", **adapter: Any) -> dict[str, Any]:
    stated = {"type": "LORA", "rank": 16, "targetModules": ["q_proj"], "baseModel": base, **adapter}
    return {"adapter": stated, "modules": list(modules)}


@dataclass(frozen=True)
class Case:
    sentence: str
    facts: dict[str, Any]
    status: str
    reason: str
    says: str = ""
    base: dict[str, Any] = field(default_factory=lambda: BASE)
    uri: str = HUB


CASES = [
    Case("nothing is known before the files are parsed", {}, "Unknown", "Pending", "have not been parsed"),
    Case("an adapter that names its base and fits it", lora(Q, K), "True", "BaseNamed", "widths of all modules fit"),
    Case("the name alone is enough while the base has not been parsed", lora(Q), "True", "BaseNamed", base={}),
    Case("the name is compared as hubs do", lora(Q, base="Org/Base"), "True", "BaseNamed"),
    Case(
        "widths are a proof against a name",
        lora(module("k_proj", 4096, 4096)),
        "False",
        "IncompatibleBase",
        "k_proj is 4096 × 4096, which is not the 1024 × 4096 of ClusterBaseModel llama",
    ),
    Case(
        "a base that has none of the modules",
        lora(module("query_key_value", 4096, 4608)),
        "False",
        "IncompatibleBase",
        "query_key_value is no module of ClusterBaseModel llama",
    ),
    Case(
        "a module more than the base lists proves nothing",
        lora(Q, module("experts", 4096, 1024), base="/tmp/out"),
        "Unknown",
        "Unproven",
    ),
    Case("a matrix stored transposed fits", lora(module("k_proj", 1024, 4096)), "True", "BaseNamed"),
    Case(
        "words that were added to the vocabulary are no other base",
        lora(Q, module("lm_head", 4096, 130)),
        "True",
        "BaseNamed",
    ),
    Case(
        "another repository may be a copy",
        lora(Q, base="other/base"),
        "Unknown",
        "OtherBaseNamed",
        "they name other/base as their base, and ClusterBaseModel llama comes from org/base. All modules fit",
    ),
    Case("a path on the trainer's disk is no name", lora(Q, K, base="/data/llama"), "True", "ModulesFit"),
    Case("a base from a bucket has no name", lora(Q, K), "True", "ModulesFit", uri="s3://bucket/llama"),
    Case("nothing tells without names and headers", lora(base=""), "Unknown", "Unproven", "(LORA, rank 16) of q_proj"),
    Case("a base that has yet to be parsed", lora(Q, base=""), "Unknown", "Pending", base={}),
    Case("an adapter of an adapter", lora(Q), "False", "IncompatibleBase", "itself an adapter", base=lora(Q)),
    Case(
        "a whole model of the base's kind",
        {"modelType": "llama", "architecture": "LlamaForSequenceClassification", "modules": [Q]},
        "True",
        "MergedWeights",
        "Serve them without the base",
    ),
    Case(
        "a whole model of another kind",
        {"modelType": "qwen2"},
        "False",
        "IncompatibleBase",
        "a whole model of qwen2, and ClusterBaseModel llama is llama",
    ),
    Case(
        "a whole model of another size",
        {"modelType": "llama", "modules": [module("q_proj", 8192, 8192)]},
        "False",
        "IncompatibleBase",
        "in which q_proj is 8192 × 8192",
    ),
    Case("a whole model that does not say what it is", {"format": "gguf"}, "Unknown", "Unproven"),
    Case(
        "a whole model beside a base that has yet to be parsed", {"modelType": "llama"}, "Unknown", "Pending", base={}
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_fit(case: Case) -> None:
    status, reason, message = judge_fit(case.facts, case.base, case.uri, SHOWN)
    assert (status, reason) == (case.status, case.reason), message
    assert case.says in message


def test_adapters_are_told_from_merged_weights() -> None:
    assert [weights_word(facts) for facts in ({}, lora(Q), {"modelType": "llama"})] == ["", "Adapter", "Merged"]


def test_what_files_say_of_themselves_cannot_make_a_message_long() -> None:
    hostile = lora(*(module("x" * 253, 1, n) for n in range(64)), base=f"{'o' * 100}/{'b' * 100}")
    assert len(judge_fit(hostile, BASE, HUB, SHOWN)[2]) < 1024
