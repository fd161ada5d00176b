"""Facts of directories that have no configuration of transformers or diffusers."""

import math
from typing import Any

import pytest

from ome.parser.v1.parser_pb2 import CERTAINTY_EXACT, ModelFacts
from services.parser.errors import ParseError
from services.parser.gguf import read_gguf
from services.parser.parsing import parse_files
from tests.support.gguf_files import Q6_K, gguf_file
from tests.support.safetensors_files import Shapes, json_file, weights_file

File = tuple[str, int, bytes]

LORA = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "org/base",
    "task_type": "CAUSAL_LM",
    "peft_version": "0.18.1",
}
LORA_TENSORS: Shapes = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", (8, 64)),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", (64, 8)),
}
GGUF_VALUES: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.context_length": 4096,
    "llama.embedding_length": 256,
    "llama.block_count": 1,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b"],
}
GGUF_SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (256, 1024),
    "output.weight": (256, 1024),
    "output_norm.weight": (256,),
    "blk.0.attn_norm.weight": (256,),
    "blk.0.ffn_norm.weight": (256,),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.attn_k.weight": (256, 128),
    "blk.0.attn_v.weight": (256, 128),
    "blk.0.attn_output.weight": (256, 256),
    "blk.0.ffn_gate.weight": (256, 512),
    "blk.0.ffn_up.weight": (256, 512),
    "blk.0.ffn_down.weight": (512, 256),
    "rope_freqs.weight": (32,),
}
GGUF_COUNT = 2 * 256 * 1024 + 3 * 256 + 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512


def facts(*files: File) -> ModelFacts:
    return parse_files(list(files))


def test_an_adapter_states_what_it_changes_and_counts_its_own_parameters() -> None:
    found = facts(json_file("adapter_config.json", LORA), weights_file("adapter_model.safetensors", LORA_TENSORS))
    assert (found.framework, found.framework_version, found.format) == ("peft", "0.18.1", "safetensors")
    assert (found.adapter.type, found.adapter.rank, found.adapter.alpha) == ("LORA", 8, 16)
    assert (found.adapter.base_model, list(found.adapter.target_modules)) == ("org/base", ["q_proj", "v_proj"])
    assert (found.parameters.count, found.parameters.exact) == (2 * 8 * 64, True)
    assert not found.capabilities


def test_an_adapter_whose_matrices_have_another_rank_is_no_exact_count() -> None:
    config = json_file("adapter_config.json", {**LORA, "r": 16})
    found = facts(config, weights_file("adapter_model.safetensors", LORA_TENSORS))
    assert not found.parameters.exact


def test_the_configuration_of_the_base_beside_an_adapter_makes_it_no_model() -> None:
    base = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    files = [json_file("adapter_config.json", LORA), json_file("config.json", base)]
    assert facts(*files, weights_file("adapter_model.safetensors", LORA_TENSORS)).HasField("adapter")
    assert not facts(*files, ("model.safetensors", 9, b"")).HasField("adapter")


def test_a_pattern_of_modules_and_the_words_of_mlx_are_understood() -> None:
    pattern = facts(json_file("adapter_config.json", {**LORA, "target_modules": ".*_proj"}))
    assert list(pattern.adapter.target_modules) == [".*_proj"]
    mlx = {"fine_tune_type": "lora", "model": "org/base", "lora_parameters": {"rank": 4, "scale": 20.0}}
    found = facts(json_file("adapter_config.json", mlx))
    assert (found.framework, found.adapter.type, found.adapter.rank, found.adapter.alpha) == ("mlx", "LORA", 4, 80)


def test_a_gguf_header_yields_architecture_context_quantization_and_count() -> None:
    found = facts(gguf_file("model-Q4_K_M.gguf", GGUF_VALUES, GGUF_SHAPES))
    assert (found.model_type, found.framework, found.format) == ("llama", "gguf", "gguf")
    assert (found.context_length, found.vocabulary_size) == (4096, 2)
    assert (found.quantization.method, found.quantization.bits, found.quantization.format) == ("gguf", 4, "Q4_K_M")
    # The page says the same, so the number is proven.
    assert (found.parameters.count, found.parameters.exact) == (GGUF_COUNT, True)
    assert found.bytes_by_dtype["Q4_K"] == (GGUF_COUNT - 3 * 256) // 256 * 144
    assert found.weight_bytes_certainty == CERTAINTY_EXACT
    assert list(found.capabilities) == ["TEXT_GENERATION"]


def test_a_gguf_that_no_page_confirms_is_an_estimate() -> None:
    values = {**GGUF_VALUES, "llama.feed_forward_length": 1024}
    found = facts(gguf_file("model.gguf", values, GGUF_SHAPES))
    assert not found.parameters.exact
    assert found.parameters.minimum < GGUF_COUNT < found.parameters.maximum


def test_variants_in_gguf_are_named_and_none_of_them_is_chosen() -> None:
    found = facts(
        gguf_file("a-Q4_K_M.gguf", GGUF_VALUES, GGUF_SHAPES),
        gguf_file("a-Q6_K.gguf", {**GGUF_VALUES, "general.file_type": 18}, GGUF_SHAPES, Q6_K),
    )
    assert found.parameters.count == GGUF_COUNT
    assert not found.HasField("quantization")
    assert found.weight_bytes == 0
    assert "Q4_K_M, Q6_K" in found.warnings[0]


def test_parts_of_one_gguf_are_added_up() -> None:
    names = list(GGUF_SHAPES)
    parts = [{name: GGUF_SHAPES[name] for name in half} for half in (names[:6], names[6:])]
    found = facts(*(gguf_file(f"m-0000{n}-of-00002.gguf", GGUF_VALUES, part) for n, part in enumerate(parts, 1)))
    assert found.parameters.count == GGUF_COUNT
    assert found.parameters.exact


def test_a_gguf_header_that_was_cut_still_tells_what_came_first() -> None:
    _, size, data = gguf_file("model.gguf", GGUF_VALUES, GGUF_SHAPES)
    header = read_gguf("model.gguf", data[:-100])
    assert (header.architecture, header.is_whole) == ("llama", False)
    assert facts(("model.gguf", size, data[:-100])).context_length == 4096


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"GGUF\x03\0\0\0" + b"\0" * 16])
def test_a_gguf_header_of_nonsense_yields_no_numbers(data: bytes) -> None:
    if b"\xff" in data:
        with pytest.raises(ParseError):
            facts(("model.gguf", 1000, data))
    else:
        assert facts(("model.gguf", 1000, data), json_file("config.json", {})).parameters.count == 0


MISTRAL = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-5,
    "vocab_size": 32000,
}
META = {
    "dim": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 8,
    "vocab_size": 128256,
    "ffn_dim_multiplier": 1.3,
    "multiple_of": 1024,
    "norm_eps": 1e-5,
}


def test_mistrals_own_parameters_are_counted_by_the_page() -> None:
    found = facts(json_file("params.json", MISTRAL), ("consolidated.safetensors", 9, b""))
    assert (found.framework, found.model_type) == ("mistral", "mistral")
    assert (found.parameters.count, found.parameters.exact) == (7241732096, True)
    vision = facts(json_file("params.json", {**MISTRAL, "vision_encoder": {"hidden_size": 1024}}))
    assert not vision.parameters.exact
    assert list(vision.capabilities) == ["TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"]


SMALL = {
    **MISTRAL,
    "dim": 8,
    "n_layers": 1,
    "head_dim": 4,
    "hidden_dim": 16,
    "n_heads": 2,
    "n_kv_heads": 1,
    "vocab_size": 10,
}
TENSORS: dict[str, tuple[int, ...]] = {
    "tok_embeddings.weight": (10, 8),
    "layers.0.attention.wq.weight": (8, 8),
    "layers.0.attention.wk.weight": (4, 8),
    "layers.0.attention.wv.weight": (4, 8),
    "layers.0.attention.wo.weight": (8, 8),
    "layers.0.feed_forward.w1.weight": (16, 8),
    "layers.0.feed_forward.w2.weight": (8, 16),
    "layers.0.feed_forward.w3.weight": (16, 8),
    "layers.0.attention_norm.weight": (8,),
    "layers.0.ffn_norm.weight": (8,),
    "norm.weight": (8,),
    "output.weight": (10, 8),
}


@pytest.mark.parametrize(
    ("changed", "exact"),
    [
        ({}, True),
        ({"output.weight": (12, 8)}, False),
        ({"adapter.weight": (8, 8)}, False),
        ({"norm.weight": (9,)}, False),
    ],
    ids=["agree", "another size", "a part more", "a number more"],
)
def test_mistrals_own_parameters_are_exact_only_where_the_headers_agree(
    changed: dict[str, tuple[int, ...]], exact: bool
) -> None:
    tensors = {name: ("BF16", shape) for name, shape in {**TENSORS, **changed}.items()}
    stored = sum(math.prod(shape) for _, shape in tensors.values())
    found = facts(json_file("params.json", SMALL), weights_file("consolidated.safetensors", tensors))
    assert (found.parameters.count, found.parameters.exact) == (stored, exact)
    assert (found.weight_bytes, found.weight_bytes_certainty, found.dtype) == (2 * stored, CERTAINTY_EXACT, "bfloat16")
    assert bool(found.parameter_size) == exact
    if not exact:
        assert found.parameters.minimum < stored <= found.parameters.maximum


def test_metas_own_parameters_do_not_say_whether_the_head_is_tied() -> None:
    found = facts(json_file("params.json", META), ("consolidated.00.pth", 9, b""))
    assert (found.framework, found.format) == ("meta", "pytorch")
    assert not found.parameters.exact
    assert found.parameters.minimum < 8030261248 < found.parameters.maximum


def test_genai_states_the_cache_and_no_count() -> None:
    decoder = {"head_size": 128, "num_hidden_layers": 32, "num_key_value_heads": 8}
    config = {"model": {"type": "llama", "context_length": 8192, "vocab_size": 128256, "decoder": decoder}}
    found = facts(json_file("genai_config.json", config), ("model.onnx", 9, b""))
    assert (found.framework, found.format) == ("onnxruntime-genai", "onnx")
    assert (found.context_length, found.kv_cache_bytes_per_token) == (8192, 2 * 2 * 32 * 8 * 128)
    assert found.parameters.count == 0


def test_mlc_states_its_quantization() -> None:
    inner = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 99,
    }
    config = {"model_type": "llama", "quantization": "q4f16_1", "model_config": inner, "context_window_size": 4096}
    found = facts(json_file("mlc-chat-config.json", config))
    assert (found.framework, found.quantization.method, found.quantization.bits) == ("mlc", "mlc", 4)
    assert not found.parameters.exact


TRT = {
    "architecture": "LlamaForCausalLM",
    "dtype": "float16",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 8192,
    "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
    "mapping": {"tp_size": 2},
}


def test_checkpoints_and_engines_of_tensorrt_are_told_apart_from_models_of_transformers() -> None:
    checkpoint = facts(json_file("config.json", TRT))
    assert (checkpoint.framework, checkpoint.dtype, checkpoint.quantization.spec_value) == (
        "tensorrt-llm",
        "float16",
        "fp8",
    )
    engine = {"version": "0.17", "pretrained_config": TRT, "build_config": {"max_seq_len": 2048}}
    found = facts(json_file("config.json", engine), ("rank0.engine", 9, b""))
    assert (found.format, found.framework_version) == ("tensorrt", "0.17")
    assert (found.context_length, found.usable_context_length) == (8192, 2048)
    assert not found.parameters.exact
    nameless = {"version": "1", "pretrained_config": {}, "build_config": {}}
    assert not facts(json_file("config.json", {**nameless, "pretrained_config": {"architecture": ""}})).capabilities


@pytest.mark.parametrize(
    ("name", "form"), [("openvino_model.xml", "openvino"), ("model.nemo", "nemo"), ("rank0.engine", "tensorrt")]
)
def test_formats_whose_files_are_not_read_are_named(name: str, form: str) -> None:
    files = [(name, 9, b""), ("openvino_model.bin", 9, b"")] if form == "openvino" else [(name, 9, b"")]
    if form == "openvino":
        files.append(json_file("config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    found = facts(*files)
    assert (found.format, found.framework) == (form, form)


def test_a_bad_file_that_no_fact_needs_costs_only_its_own_facts() -> None:
    config = json_file("config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    broken = b"{"
    found = facts(
        config,
        ("tokenizer_config.json", 1, broken),
        ("quantize_config.json", 1, broken),
        ("vae/config.json", 1, broken),
    )
    assert found.model_type == "llama"
    assert "quantize_config.json" in found.warnings[0]
    with pytest.raises(ParseError):
        facts(("config.json", 1, broken))


def test_a_configuration_that_says_nothing_can_do_nothing() -> None:
    found = facts(json_file("config.json", {}))
    assert not found.capabilities
    assert not found.api_capabilities
    assert found.parameters.count == 0


def test_sentence_transformers_say_where_they_cut() -> None:
    config = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 512}
    found = facts(json_file("config.json", config), json_file("sentence_bert_config.json", {"max_seq_length": 256}))
    assert (found.context_length, found.usable_context_length) == (512, 256)
