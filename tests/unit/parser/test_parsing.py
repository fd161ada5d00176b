"""Facts of whole directories."""

from typing import Any

import pytest

from ome.parser.v1.parser_pb2 import (
    CERTAINTY_ESTIMATED,
    CERTAINTY_EXACT,
    CERTAINTY_UNSPECIFIED,
    COUNT_SOURCE_ESTIMATE,
    COUNT_SOURCE_FORMULA,
    COUNT_SOURCE_HEADERS,
    COUNT_SOURCE_INDEX,
    ModelFacts,
)
from services.parser.errors import ParseError
from services.parser.parsing import parse_files
from tests.support.safetensors_files import Shapes, json_file, weights_file

File = tuple[str, int, bytes]
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.0",
}
SMALL: Shapes = {"model.embed_tokens.weight": ("BF16", (256, 64)), "model.norm.weight": ("BF16", (64,))}
STORED = 256 * 64 + 64


def facts(*files: File, schema_path: str = "", **changes: Any) -> ModelFacts:
    config = {key: value for key, value in {**LLAMA, **changes}.items() if value is not None}
    return parse_files([json_file("config.json", config), *files], schema_path)


def test_a_configuration_alone_yields_a_formula() -> None:
    found = facts()
    assert (found.model_type, found.architecture, found.dtype) == ("llama", "LlamaForCausalLM", "bfloat16")
    assert (found.framework, found.framework_version) == ("transformers", "4.44.0")
    assert found.parameters.source == COUNT_SOURCE_FORMULA
    assert found.parameters.exact
    assert found.weight_bytes == 2 * found.parameters.count
    assert found.kv_cache_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert found.vocabulary_size == 256
    assert not found.HasField("active_parameters")
    assert not found.warnings


def llama_tensors(dtype: str = "BF16") -> Shapes:
    """What a checkpoint of LLAMA holds."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": (dtype, (256, 64)),
        "model.norm.weight": (dtype, (64,)),
        "lm_head.weight": (dtype, (256, 64)),
    }
    for layer in range(2):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.{norm}.weight": (dtype, (64,)) for norm in ("input_layernorm", "post_attention_layernorm")}
        for projection, shape in PROJECTIONS.items():
            shapes[f"{name}.{projection}.weight"] = (dtype, shape)
    return shapes


PROJECTIONS = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (128, 64),
    "mlp.up_proj": (128, 64),
    "mlp.down_proj": (64, 128),
}
COUNT = 2 * 256 * 64 + 64 + 2 * (2 * 64 + sum(rows * columns for rows, columns in PROJECTIONS.values()))


def test_headers_that_say_what_the_page_says_are_exact() -> None:
    found = facts(weights_file("model.safetensors", llama_tensors()))
    assert found.parameters.source == COUNT_SOURCE_HEADERS
    assert found.parameters.exact
    assert found.parameters.count == COUNT
    assert dict(found.bytes_by_dtype) == {"BF16": 2 * COUNT}
    assert (found.weight_bytes, found.weight_bytes_certainty) == (2 * COUNT, CERTAINTY_EXACT)
    assert found.format == "safetensors"


def test_headers_prove_what_the_page_only_guesses() -> None:
    found = facts(weights_file("model.safetensors", llama_tensors()), mystery_layers=3)
    assert found.parameters.exact
    assert found.parameters.count == COUNT


def test_headers_that_the_page_contradicts_are_an_estimate_that_holds_both() -> None:
    found = facts(weights_file("model.safetensors", SMALL))
    assert found.parameters.source == COUNT_SOURCE_HEADERS
    assert not found.parameters.exact
    assert found.parameters.count == STORED
    assert found.parameters.minimum <= STORED < COUNT <= found.parameters.maximum
    assert str(COUNT) in found.warnings[0]


def test_a_head_that_is_stored_although_it_is_tied_counts_once() -> None:
    found = facts(weights_file("model.safetensors", llama_tensors()), tie_word_embeddings=True)
    assert found.parameters.exact
    assert found.parameters.count == COUNT - 256 * 64


def test_a_packing_that_is_not_known_is_no_count_but_the_page_is() -> None:
    packed = {name: ("I16" if len(shape) > 1 else dtype, shape) for name, (dtype, shape) in llama_tensors().items()}
    found = facts(weights_file("model.safetensors", packed), quantization_config={"quant_method": "novel"})
    assert (found.parameters.count, found.parameters.source) == (COUNT, COUNT_SOURCE_FORMULA)
    assert found.parameters.exact
    guessed = facts(weights_file("model.safetensors", packed), mystery_layers=3)
    assert not guessed.parameters.exact
    assert guessed.parameters.minimum <= COUNT <= guessed.parameters.maximum


def test_slices_of_a_model_in_several_files_are_no_count() -> None:
    files = [weights_file(f"consolidated.0{rank}.safetensors", llama_tensors()) for rank in range(2)]
    found = facts(*files, model_type="unheard_of", architectures=["UnheardOfForCausalLM"])
    assert not found.parameters.exact
    assert found.parameters.minimum <= COUNT < 2 * COUNT <= found.parameters.maximum


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["LlamaForCausalLMControlled"]},
        {"architectures": None},
        {"architectures": ["LlamaForCausalLM", "LlamaModel"]},
        {"num_control_layers": 4},
        {"alibi": True},
        {"feed_forward_type": "geglu"},
        {"hidden_act": "geglu"},
        {"vision_config": {"hidden_size": 64}},
        {"auto_map": {"AutoModelForCausalLM": "modeling_novel.NovelForCausalLM"}},
        {"layer_types": ["full_attention", "novel_attention"]},
        {"model_type": "qwen3"},
    ],
    ids=str,
)
def test_a_class_or_a_key_that_the_page_does_not_know_leaves_an_estimate(changes: dict[str, Any]) -> None:
    found = facts(**changes)
    assert not found.parameters.exact
    assert found.parameters.minimum < found.parameters.count < found.parameters.maximum
    assert "estimated" in found.warnings[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_dropout": 0.1, "mystery_token_id": 7, "rope_theta": 1e6, "hidden_act": "silu"},
        {"mystery": None},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"auto_map": {"AutoConfig": "x.NovelConfig", "AutoModelForCausalLM": "x.LlamaForCausalLM"}},
    ],
    ids=str,
)
def test_keys_that_change_nothing_do_not_make_a_count_doubtful(changes: dict[str, Any]) -> None:
    assert facts(**changes).parameters.exact


def test_an_index_proves_or_contradicts_the_page() -> None:
    def index(size: int) -> File:
        return json_file(
            "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": {"a": "a.safetensors"}}
        )

    proven = facts(index(2 * COUNT), num_control_layers=4)
    assert (proven.parameters.count, proven.parameters.exact) == (COUNT, True)
    contradicted = facts(index(6 * COUNT))
    assert not contradicted.parameters.exact
    assert contradicted.parameters.minimum <= COUNT < 3 * COUNT <= contradicted.parameters.maximum


def test_numbers_that_rest_on_guesses_say_so() -> None:
    known, guessed = facts(), facts(num_control_layers=4)
    assert (known.kv_cache_certainty, known.weight_bytes_certainty) == (CERTAINTY_EXACT, CERTAINTY_ESTIMATED)
    assert guessed.kv_cache_certainty == CERTAINTY_ESTIMATED
    unknown = facts(quantization_config={"quant_method": "novel"})
    assert (unknown.weight_bytes, unknown.weight_bytes_certainty) == (0, CERTAINTY_UNSPECIFIED)
    mixture: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 1, "num_control_layers": 4}
    active = facts(model_type="mixtral", architectures=["MixtralForCausalLM"], **mixture).active_parameters
    assert not active.exact
    assert active.minimum < active.count < active.maximum


def test_copies_variants_and_adapters_are_not_counted_twice() -> None:
    found = facts(
        weights_file("model.safetensors", SMALL),
        weights_file("model.fp16.safetensors", SMALL),
        weights_file("consolidated.safetensors", SMALL),
        weights_file("adapter_model.safetensors", {"lora": ("F32", (9,))}),
        weights_file("original/model.safetensors", SMALL),
    )
    assert found.parameters.count == STORED


def test_a_tensor_of_two_shards_counts_once() -> None:
    found = facts(
        weights_file("model-00001-of-00002.safetensors", SMALL),
        weights_file(
            "model-00002-of-00002.safetensors",
            {"model.norm.weight": ("BF16", (64,)), "lm_head.weight": ("BF16", (256, 64))},
        ),
    )
    assert found.parameters.count == STORED + 256 * 64
    assert found.weight_bytes == 2 * found.parameters.count


def test_shards_that_the_index_names_are_the_model() -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    found = facts(
        json_file("model.safetensors.index.json", index),
        weights_file("one.safetensors", SMALL),
        weights_file("two.safetensors", {"lm_head.weight": ("BF16", (256, 64))}),
        weights_file("three.safetensors", {"other": ("BF16", (999,))}),
    )
    assert found.parameters.count == STORED + 256 * 64


def test_a_missing_shard_makes_headers_useless_and_is_said() -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    found = facts(json_file("model.safetensors.index.json", index), weights_file("one.safetensors", SMALL))
    assert found.parameters.source == COUNT_SOURCE_FORMULA
    assert "two.safetensors" in found.warnings[0]


@pytest.mark.parametrize("shard", ["../evil.safetensors", "/etc/evil.safetensors", "a/../../b.safetensors"])
def test_an_index_that_leaves_its_folder_is_ignored(shard: str) -> None:
    index = {"weight_map": {"a": shard}}
    found = facts(json_file("model.safetensors.index.json", index), weights_file("model.safetensors", SMALL))
    assert found.parameters.count == STORED
    assert "outside" in found.warnings[0]


def test_an_unknown_architecture_is_estimated_with_a_range() -> None:
    found = facts(model_type="unheard_of", architectures=["UnheardOfForCausalLM"])
    assert found.parameters.source == COUNT_SOURCE_ESTIMATE
    assert not found.parameters.exact
    assert found.parameters.minimum < found.parameters.count < found.parameters.maximum
    assert "unheard_of" in found.warnings[0]
    # Status writes it into specs, where no range goes with it.
    assert found.parameter_size == ""


def test_an_unknown_architecture_with_an_index_takes_its_total() -> None:
    index = {"metadata": {"total_size": 2_000_000}, "weight_map": {"a": "one.safetensors"}}
    found = facts(json_file("model.safetensors.index.json", index), model_type="unheard_of")
    assert found.parameters.source == COUNT_SOURCE_INDEX
    assert found.parameters.count == 1_000_000
    assert not found.parameters.exact


def test_experts_and_their_share_are_told() -> None:
    found = facts(
        model_type="mixtral", architectures=["MixtralForCausalLM"], num_local_experts=4, num_experts_per_tok=1
    )
    expert = 3 * 64 * 128
    assert found.parameters.count - found.active_parameters.count == 2 * 3 * expert


def test_yarn_extends_what_can_be_served() -> None:
    found = facts(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096})
    assert (found.context_length, found.usable_context_length) == (4096, 16384)


def test_llama3_scaling_states_the_scaled_length() -> None:
    found = facts(rope_scaling={"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024})
    assert found.usable_context_length == 4096


def test_roberta_loses_the_positions_behind_padding() -> None:
    found = facts(model_type="roberta", architectures=["RobertaModel"], max_position_embeddings=514, pad_token_id=1)
    assert (found.context_length, found.usable_context_length) == (514, 512)


@pytest.mark.parametrize(
    ("stated", "spec_value", "method", "bits", "form"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8", "fp8", 8, "fp8_e4m3"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8", "fbgemm_fp8", 8, "fp8_e4m3"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4", "gptq", 4, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "", "gptq", 8, "int8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", "awq", 4, "int4"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "", "bitsandbytes", 4, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "", "bitsandbytes", 8, "int8"),
        ({"quant_method": "mxfp4"}, "", "mxfp4", 4, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "", "modelopt", 4, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", "modelopt", 8, "fp8_e4m3"),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "int4", "modelopt", 4, "int4"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 64}}},
            },
            "int4",
            "compressed-tensors",
            4,
            "int4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
            "compressed-tensors",
            8,
            "fp8_e4m3",
        ),
    ],
)
def test_quantization_is_understood(stated: dict[str, Any], spec_value: str, method: str, bits: int, form: str) -> None:
    found = facts(quantization_config=stated).quantization
    assert (found.spec_value, found.method, found.bits, found.format) == (spec_value, method, bits, form)


def test_quantization_may_be_stated_beside_the_configuration() -> None:
    side = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    found = facts(json_file("hf_quant_config.json", side))
    assert found.quantization.spec_value == "fp8"
    assert found.kv_cache_bytes_per_token == facts().kv_cache_bytes_per_token // 2


@pytest.mark.parametrize(
    ("changes", "capabilities"),
    [
        ({}, ["TEXT_GENERATION"]),
        ({"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}, ["REWARD"]),
        ({"architectures": ["InternLM2ForRewardModel"], "model_type": "internlm2"}, ["REWARD"]),
        ({"architectures": ["BertForSequenceClassification"], "model_type": "bert", "num_labels": 1}, ["RERANK"]),
        ({"architectures": ["BertForSequenceClassification"], "model_type": "bert"}, ["CLASSIFICATION"]),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, ["FILL_MASK"]),
        ({"architectures": ["BertModel"], "model_type": "bert"}, ["EMBEDDING"]),
        ({"architectures": ["MistralModel"], "model_type": "mistral", "use_cache": False}, ["EMBEDDING"]),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, ["DRAFT_MODEL"]),
        ({"vision_config": {"hidden_size": 8}}, ["TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"]),
        ({"audio_config": {"d_model": 8}}, ["TEXT_GENERATION", "AUDIO_TEXT_TO_TEXT"]),
        ({"architectures": ["Sam3Model"], "model_type": "sam3", "vocab_size": None}, ["VISION"]),
        ({"architectures": ["DINOv3ViTModel"], "model_type": "dinov3_vit", "vocab_size": None}, ["VISION"]),
        ({"architectures": ["NovelVisionModel"], "model_type": "novel"}, ["VISION"]),
        ({"architectures": ["NovelAudioEncoder"], "model_type": "novel"}, ["AUDIO"]),
        ({"architectures": ["ParakeetForCTC"], "model_type": "parakeet_ctc"}, ["SPEECH_TO_TEXT"]),
        ({"architectures": ["NovelAsrForConditionalGeneration"], "model_type": "novel"}, ["SPEECH_TO_TEXT"]),
        ({"architectures": ["MetaClip2Model"], "model_type": "metaclip_2"}, ["EMBEDDING", "VISION"]),
        ({"architectures": ["NovelForCausalLM"], "model_type": "novel"}, ["TEXT_GENERATION"]),
        ({"architectures": ["NovelBackbone"], "model_type": "novel", "vocab_size": None}, []),
        ({"architectures": None, "model_type": "novel", "vocab_size": None}, []),
    ],
)
def test_capabilities_follow_class_and_sections(changes: dict[str, Any], capabilities: list[str]) -> None:
    assert list(facts(**changes).capabilities) == capabilities


@pytest.mark.parametrize(
    ("name", "part", "capabilities"),
    [
        ("FluxPipeline", "FluxTransformer2DModel", ["TEXT_TO_IMAGE"]),
        ("FluxKontextPipeline", "FluxTransformer2DModel", ["IMAGE_TEXT_TO_IMAGE"]),
        ("WanPipeline", "WanTransformer3DModel", ["TEXT_TO_VIDEO"]),
        ("WanImageToVideoPipeline", "WanTransformer3DModel", ["IMAGE_TEXT_TO_VIDEO"]),
        ("NovelPipeline", "HunyuanVideoTransformer3DModel", ["TEXT_TO_VIDEO"]),
        ("StableVideoDiffusionPipeline", "UNetSpatioTemporalConditionModel", ["IMAGE_TEXT_TO_VIDEO"]),
        ("StableAudioPipeline", "StableAudioDiTModel", ["AUDIO"]),
    ],
)
def test_pictures_films_and_sounds_are_told_apart(name: str, part: str, capabilities: list[str]) -> None:
    index = json_file("model_index.json", {"_class_name": name, "transformer": ["diffusers", part]})
    assert list(parse_files([index]).capabilities) == capabilities


def test_an_autoencoder_alone_draws_nothing() -> None:
    assert not parse_files([json_file("config.json", {"_class_name": "AutoencoderKL"})]).capabilities


def test_sentence_transformers_are_embedding_models() -> None:
    modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
    found = facts(json_file("modules.json", modules))
    assert list(found.capabilities) == ["EMBEDDING"]
    assert list(found.api_capabilities) == ["OPENAI_V1_EMBEDDINGS"]


def test_a_pipeline_is_the_sum_of_its_parts() -> None:
    clip = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 10,
    }
    found = parse_files(
        [
            json_file(
                "model_index.json",
                {
                    "_class_name": "StableDiffusionPipeline",
                    "_diffusers_version": "0.30.0",
                    "scheduler": ["diffusers", "DDIMScheduler"],
                    "text_encoder": ["transformers", "CLIPTextModel"],
                    "vae": ["diffusers", "AutoencoderKL"],
                },
            ),
            json_file("text_encoder/config.json", clip),
            json_file("vae/config.json", {"_class_name": "AutoencoderKL"}),
            weights_file("vae/diffusion_pytorch_model.safetensors", {"conv.weight": ("F16", (5, 5))}),
            weights_file("vae/diffusion_pytorch_model.fp16.safetensors", {"conv.weight": ("F16", (5, 5))}),
        ]
    )
    parts = {part.name: part.parameters for part in found.components}
    assert found.framework == "diffusers"
    assert found.capabilities == ["TEXT_TO_IMAGE"]
    assert set(parts) == {"text_encoder", "vae"}
    assert parts["vae"].count == 25
    assert parts["vae"].source == COUNT_SOURCE_HEADERS
    assert parts["text_encoder"].exact
    assert found.parameters.count == sum(count.count for count in parts.values())
    # The page of the autoencoder describes more than the file holds.
    assert not found.parameters.exact
    assert found.parameters.minimum <= found.parameters.count < found.parameters.maximum


def test_a_pipeline_with_an_uncounted_part_is_not_exact() -> None:
    index = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "text": ["transformers", "T5"]}
    found = parse_files(
        [json_file("model_index.json", index), json_file("vae/config.json", {"_class_name": "AutoencoderKL"})]
    )
    assert not found.parameters.exact
    assert "text" in found.warnings[0]


def test_schema_path_names_the_configuration() -> None:
    other = {**LLAMA, "model_type": "mistral"}
    assert facts(json_file("conf/model.json", other), schema_path="conf/model.json").model_type == "mistral"
    with pytest.raises(ParseError, match="schemaPath") as refused:
        facts(schema_path="missing.json")
    assert refused.value.reason == "NoConfig"


def test_the_licence_is_read_from_the_card() -> None:
    card = b"---\nlanguage: en\nlicense: other\nlicense_name: llama3\n---\n# license: mit\n"
    assert facts(("README.md", len(card), card)).license == "llama3"
    assert facts(("README.md", 13, b"license: mit\n")).license == ""


def test_a_model_without_configuration_has_no_facts() -> None:
    with pytest.raises(ParseError) as refused:
        parse_files([weights_file("model.safetensors", SMALL)])
    assert refused.value.reason == "NoConfig"


def test_other_formats_are_named() -> None:
    assert facts(("pytorch_model.bin", 5, b"")).format == "pytorch"
    assert facts(("model.gguf", 5, b"")).format == "gguf"
