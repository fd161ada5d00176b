"""Descriptions of architectures against published counts: hyperparameters of well-known models and their parameters."""

from collections.abc import Mapping
from typing import Any

import pytest

from services.parser import catalogue
from services.parser.section import Section, Undescribed

Config = Mapping[str, Any]


def causal(model_type: str, name: str, **values: Any) -> Config:
    return {"model_type": model_type, "architectures": [f"{name}ForCausalLM"], **values}


def shape(width: int, depth: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **values: Any) -> Config:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        **values,
    }


LATENT = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
CLIP_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
BERT_BASE = {"vocab_size": 30522, **CLIP_TEXT, "max_position_embeddings": 512, "type_vocab_size": 2}
SD15 = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "cross_attention_dim": 768,
}

PHI4MM = {
    "model_type": "phi4mm",
    "architectures": ["Phi4MMForCausalLM"],
    **shape(3072, 32, 24, 8, 8192, 200064, tie_word_embeddings=True, partial_rotary_factor=0.75),
    "embd_layer": {
        "embedding_cls": "image_audio",
        "audio_embd_layer": {"embedding_cls": "audio", "projection_cls": "mlp", "use_qformer": False},
        "image_embd_layer": {"embedding_cls": "tune_image", "with_learnable_separator": True},
    },
    "audio_processor": {
        "name": "cascades",
        "config": {
            "attention_dim": 1024,
            "attention_heads": 16,
            "linear_units": 1536,
            "num_blocks": 24,
            "kernel_size": 3,
            "input_size": 80,
            "time_reduction": 8,
            "input_layer": "nemo_conv",
            "nemo_conv_settings": {"conv_channels": 1024},
            "relative_attention_bias_args": {"t5_bias_max_distance": 500, "type": "t5"},
        },
    },
    "vision_lora": {"r": 256, "lora_alpha": 512},
    "speech_lora": {"r": 320, "lora_alpha": 640},
}

QWEN3_OMNI = {
    "model_type": "qwen3_omni_moe",
    "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
    "thinker_config": {
        "text_config": {
            **shape(2048, 48, 32, 4, 768, 152064, head_dim=128),
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        "audio_config": {
            "d_model": 1280,
            "encoder_layers": 32,
            "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "downsample_hidden_size": 480,
            "num_mel_bins": 128,
            "output_dim": 2048,
        },
        "vision_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "depth": 27,
            "patch_size": 16,
            "out_hidden_size": 2048,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
    "talker_config": {
        "thinker_hidden_size": 2048,
        "num_code_groups": 16,
        "text_config": {
            **shape(1024, 20, 16, 2, 2048, 3072, head_dim=128),
            "num_experts": 128,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 384,
            "shared_expert_intermediate_size": 768,
        },
        "code_predictor_config": shape(1024, 5, 16, 8, 3072, 2048, head_dim=128),
    },
    "code2wav_config": {"hidden_size": 1024},
}
# Name: configuration, parameters, parameters that a token passes through (0: all of them).
MODELS: dict[str, tuple[Config, int, int]] = {
    "Llama 2 7B": (causal("llama", "Llama", **shape(4096, 32, 32, 32, 11008, 32000)), 6738415616, 0),
    "Llama 3 8B": (causal("llama", "Llama", **shape(4096, 32, 32, 8, 14336, 128256)), 8030261248, 0),
    "Llama 3.1 405B": (causal("llama", "Llama", **shape(16384, 126, 128, 8, 53248, 128256)), 405853388800, 0),
    "Llama 3.2 1B": (
        causal("llama", "Llama", **shape(2048, 16, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True)),
        1235814400,
        0,
    ),
    "Mistral 7B": (causal("mistral", "Mistral", **shape(4096, 32, 32, 8, 14336, 32000)), 7241732096, 0),
    "Qwen3-Omni 30B-A3B": (QWEN3_OMNI, 35259818545, 5202387505),
    "Qwen3-Omni 30B-A3B without its talker": ({**QWEN3_OMNI, "enable_audio_output": False}, 31719205488, 4540115568),
    "Phi-4 multimodal": (PHI4MM, 5574460384, 0),
    **{
        f"SAM {size}": (
            {
                "model_type": "sam",
                "architectures": ["SamModel"],
                "vision_config": {
                    "hidden_size": width,
                    "num_hidden_layers": depth,
                    "num_attention_heads": heads,
                    "global_attn_indexes": everywhere,
                },
                "prompt_encoder_config": {"hidden_size": 256},
                "mask_decoder_config": {"hidden_size": 256},
            },
            parameters,
            0,
        )
        for size, width, depth, heads, everywhere, parameters in (
            ("base", 768, 12, 12, [2, 5, 8, 11], 93735472),
            ("large", 1024, 24, 16, [5, 11, 17, 23], 312342832),
            ("huge", 1280, 32, 16, [7, 15, 23, 31], 641090608),
        )
    },
    "Mistral Nemo": (
        causal("mistral", "Mistral", **shape(5120, 40, 32, 8, 14336, 131072, head_dim=128)),
        12247782400,
        0,
    ),
    "Mixtral 8x7B": (
        causal(
            "mixtral", "Mixtral", **shape(4096, 32, 32, 8, 14336, 32000), num_local_experts=8, num_experts_per_tok=2
        ),
        46702792704,
        12879925248,
    ),
    "Qwen2 7B": (causal("qwen2", "Qwen2", **shape(3584, 28, 28, 4, 18944, 152064)), 7615616512, 0),
    "Qwen2.5 0.5B": (
        causal("qwen2", "Qwen2", **shape(896, 24, 14, 2, 4864, 151936), tie_word_embeddings=True),
        494032768,
        0,
    ),
    "Qwen3 8B": (causal("qwen3", "Qwen3", **shape(4096, 36, 32, 8, 12288, 151936, head_dim=128)), 8190735360, 0),
    "Qwen3 30B-A3B": (
        causal(
            "qwen3_moe",
            "Qwen3Moe",
            **shape(2048, 48, 32, 4, 6144, 151936, head_dim=128),
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
        ),
        30532122624,
        3353032704,
    ),
    "Phi 2": (causal("phi", "Phi", **shape(2560, 32, 32, 32, 10240, 51200)), 2779683840, 0),
    "Phi 3 mini": (causal("phi3", "Phi3", **shape(3072, 32, 32, 32, 8192, 32064)), 3821079552, 0),
    "Phi 3 vision": (
        {"model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"], **shape(3072, 32, 32, 32, 8192, 32064)},
        4146621440,
        0,
    ),
    "Gemma 2 9B": (causal("gemma2", "Gemma2", **shape(3584, 42, 16, 8, 14336, 256000, head_dim=256)), 9241705984, 0),
    "DeepSeek V3": (
        causal(
            "deepseek_v3",
            "DeepseekV3",
            **shape(7168, 61, 128, 128, 18432, 129280),
            **LATENT,
            first_k_dense_replace=3,
            n_routed_experts=256,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
        ),
        671026404352,
        37552282624,
    ),
    "gpt-oss 20B": (
        causal(
            "gpt_oss",
            "GptOss",
            **shape(2880, 24, 64, 8, 2880, 201088, head_dim=64),
            num_local_experts=32,
            num_experts_per_tok=4,
        ),
        20914757184,
        4187440704,
    ),
    "Falcon 7B": (
        causal("falcon", "Falcon", vocab_size=65024, hidden_size=4544, num_hidden_layers=32, num_attention_heads=71),
        6921720704,
        0,
    ),
    "GPT-2": (
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_layer": 12, "n_head": 12},
        124439808,
        0,
    ),
    "Mamba 130M": (
        causal(
            "mamba", "Mamba", hidden_size=768, num_hidden_layers=24, vocab_size=50280, state_size=16, time_step_rank=48
        ),
        129135360,
        0,
    ),
    "BERT base": ({"model_type": "bert", "architectures": ["BertModel"], **BERT_BASE}, 109482240, 0),
    "BERT base, masked": ({"model_type": "bert", "architectures": ["BertForMaskedLM"], **BERT_BASE}, 109514298, 0),
    "BGE reranker base": (
        {
            "model_type": "xlm-roberta",
            "architectures": ["XLMRobertaForSequenceClassification"],
            **BERT_BASE,
            "vocab_size": 250002,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "id2label": {"0": "LABEL_0"},
        },
        278044417,
        0,
    ),
    "T5 base": (
        {
            "model_type": "t5",
            "architectures": ["T5ForConditionalGeneration"],
            "d_model": 768,
            "d_ff": 3072,
            "d_kv": 64,
            "num_heads": 12,
            "num_layers": 12,
            "vocab_size": 32128,
        },
        222903552,
        0,
    ),
    "BART large": (
        {"model_type": "bart", "architectures": ["BartModel"], "d_model": 1024, "vocab_size": 50265},
        406291456,
        0,
    ),
    "Whisper large v3": (
        {
            "model_type": "whisper",
            "architectures": ["WhisperForConditionalGeneration"],
            "d_model": 1280,
            "encoder_layers": 32,
            "decoder_layers": 32,
            "encoder_attention_heads": 20,
            "decoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "decoder_ffn_dim": 5120,
            "num_mel_bins": 128,
            "vocab_size": 51866,
        },
        1543490560,
        0,
    ),
    "CLIP ViT-L/14": (
        {
            "model_type": "clip",
            "architectures": ["CLIPModel"],
            "projection_dim": 768,
            "text_config": CLIP_TEXT,
            "vision_config": {**CLIP_VISION, "patch_size": 14},
        },
        427616513,
        0,
    ),
    "LLaVA 1.5 7B": (
        {
            "model_type": "llava",
            "architectures": ["LlavaForConditionalGeneration"],
            "text_config": {"model_type": "llama", "vocab_size": 32064},
            "vision_config": {"model_type": "clip_vision_model", **CLIP_VISION, "patch_size": 14, "image_size": 336},
        },
        7063427072,
        0,
    ),
    "Llama 3.2 11B Vision": (
        {
            "model_type": "mllama",
            "architectures": ["MllamaForConditionalGeneration"],
            "text_config": shape(4096, 40, 32, 8, 14336, 128256),
            "vision_config": {"image_size": 560},
        },
        10670220835,
        0,
    ),
    "Llama 4 Scout": (
        {
            "model_type": "llama4",
            "architectures": ["Llama4ForConditionalGeneration"],
            "text_config": {
                **shape(5120, 48, 40, 8, 8192, 202048, head_dim=128),
                "intermediate_size_mlp": 16384,
                "num_local_experts": 16,
            },
            "vision_config": {"hidden_size": 1408, "image_size": 336},
        },
        108641793536,
        18044827136,
    ),
    "Kimi Linear 48B-A3B": (
        causal(
            "kimi_linear",
            "KimiLinear",
            **shape(2304, 27, 32, 32, 9216, 163840),
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            qk_nope_head_dim=128,
            v_head_dim=128,
            moe_intermediate_size=1024,
            num_experts=256,
            num_experts_per_token=8,
            num_shared_experts=1,
            first_k_dense_replace=1,
            linear_attn_config={"num_heads": 32, "head_dim": 128, "full_attn_layers": [5, 9, 13, 17, 21, 25]},
        ),
        49133074464,
        3494852640,
    ),
    "Falcon-H1 with the library's sizes": (
        causal(
            "falcon_h1",
            "FalconH1",
            **shape(4096, 32, 32, 8, 14336, 128000),
            mamba_d_ssm=1024,
            mamba_n_heads=128,
            mamba_d_state=256,
        ),
        8514961408,
        0,
    ),
    "Helium 2B": (causal("helium", "Helium", **shape(2560, 24, 20, 20, 7040, 48000, head_dim=128)), 2172643840, 0),
    "Jais 2 8B": (causal("jais2", "Jais2", **shape(3328, 32, 26, 26, 26624, 150272)), 8090401280, 0),
    "NanoChat with the library's sizes": (
        causal("nanochat", "NanoChat", **shape(768, 12, 6, 6, 8192, 50304)),
        256573440,
        0,
    ),
    "JetMoE 8B with the library's sizes": (
        causal(
            "jetmoe",
            "JetMoe",
            hidden_size=2048,
            num_hidden_layers=12,
            num_key_value_heads=16,
            intermediate_size=5632,
            vocab_size=32000,
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
        4293888000,
        1198491648,
    ),
    "MiniMax Text with the library's sizes": (
        causal(
            "minimax",
            "MiniMax",
            **shape(4096, 32, 32, 8, 14336, 32000),
            num_local_experts=8,
            num_experts_per_tok=2,
            layer_types=["full_attention", "linear_attention"] * 16,
        ),
        47373946880,
        13551079424,
    ),
    "K-EXAONE with the library's sizes": (
        causal(
            "exaone_moe",
            "ExaoneMoe",
            **shape(4096, 32, 32, 32, 16384, 102400),
            moe_intermediate_size=1024,
            num_experts=64,
            num_experts_per_tok=8,
            num_shared_experts=1,
            first_k_dense_replace=1,
        ),
        28550639616,
        6706704384,
    ),
    "OLMo hybrid 7B": (
        causal(
            "olmo_hybrid",
            "OlmoHybrid",
            **shape(3840, 32, 30, 30, 11008, 100352),
            linear_key_head_dim=96,
            linear_value_head_dim=192,
            layer_types=(["linear_attention"] * 3 + ["full_attention"]) * 8,
        ),
        7430870688,
        0,
    ),
    "EXAONE 4.5 33B": (
        {
            "model_type": "exaone4_5",
            "architectures": ["Exaone4_5_ForConditionalGeneration"],
            "text_config": shape(5120, 64, 40, 8, 27392, 153600),
            "vision_config": {
                "hidden_size": 2048,
                "depth": 28,
                "num_heads": 32,
                "num_key_value_heads": 8,
                "intermediate_size": 5120,
                "out_hidden_size": 5120,
            },
        },
        33813987328,
        0,
    ),
    "Stable Diffusion 1.5 U-Net": ({"_class_name": "UNet2DConditionModel", **SD15}, 859520964, 0),
    "Stable Diffusion 1.5 autoencoder": (
        {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2},
        83653863,
        0,
    ),
    "Flux schnell transformer": ({"_class_name": "FluxTransformer2DModel"}, 11891178560, 0),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_count_follows_from_the_hyperparameters(name: str) -> None:
    config, parameters, active = MODELS[name]
    network = catalogue.describe(Section(config))
    assert network.exact
    assert network.total.parameters == parameters
    assert network.total.active == (active or parameters)


@pytest.mark.parametrize(
    ("name", "numbers_per_token"),
    [
        ("Kimi Linear 48B-A3B", 6 * (512 + 64)),
        ("Llama 3 8B", 32 * 2 * 8 * 128),
        ("DeepSeek V3", 61 * (512 + 64)),
        ("Mamba 130M", 0),
        ("BERT base", 0),
    ],
)
def test_the_cache_grows_with_what_a_token_leaves_behind(name: str, numbers_per_token: int) -> None:
    assert catalogue.describe(Section(MODELS[name][0])).total.cached == numbers_per_token


def test_a_bare_class_has_no_head_and_a_classifier_has_its_labels() -> None:
    config = dict(MODELS["Llama 3 8B"][0])
    head = 128256 * 4096
    bare = catalogue.describe(Section({**config, "architectures": ["LlamaModel"]})).total.parameters
    assert bare == 8030261248 - head
    scored = {**config, "architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    assert catalogue.describe(Section(scored)).total.parameters == bare + 4096


def test_every_model_type_belongs_to_one_page() -> None:
    assert len(catalogue.known_model_types()) > 100


@pytest.mark.parametrize("missing", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
def test_nothing_is_guessed_when_a_size_is_missing(missing: str) -> None:
    config = {key: value for key, value in MODELS["Llama 3 8B"][0].items() if key != missing}
    with pytest.raises(Undescribed, match=missing):
        catalogue.describe(Section(config))


@pytest.mark.parametrize("value", [-1, 1 << 60, "4096", None, 1.5, [], True])
def test_implausible_sizes_are_not_counted_with(value: object) -> None:
    with pytest.raises(Undescribed):
        catalogue.describe(Section({**MODELS["Llama 3 8B"][0], "hidden_size": value}))


@pytest.mark.parametrize(
    ("layers", "inner", "shared", "parameters"), [(30, 8192, 10, 5439438272), (35, 16384, 15, 7849978192)]
)
def test_gemma_3n_is_counted_but_its_vision_encoder_makes_that_an_estimate(
    layers: int, inner: int, shared: int, parameters: int
) -> None:
    text = {
        "hidden_size": 2048,
        "num_hidden_layers": layers,
        "intermediate_size": [inner] * layers,
        "num_kv_shared_layers": shared,
    }
    config = {
        "model_type": "gemma3n",
        "architectures": ["Gemma3nForConditionalGeneration"],
        "text_config": text,
        "vision_config": {"architecture": "mobilenetv5_300m_enc"},
        "audio_config": {"hidden_size": 1536},
    }
    network = catalogue.describe(Section(config))
    assert network.total.parameters == parameters
    assert not network.exact

    alone = catalogue.describe(Section({**text, "model_type": "gemma3n_text", "architectures": ["Gemma3nForCausalLM"]}))
    towers = network.parts["vision_tower"] + network.parts["audio_tower"]
    assert alone.exact
    assert alone.total.parameters == parameters - towers.parameters

    with pytest.raises(Undescribed, match="encoder that no page describes"):
        catalogue.describe(Section({**config, "vision_config": {"architecture": "another"}}))


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (
            {
                "_class_name": "WanVACETransformer3DModel",
                "num_attention_heads": 12,
                "attention_head_dim": 128,
                "ffn_dim": 8960,
                "num_layers": 30,
                "vace_layers": list(range(0, 30, 2)),
            },
            2.15,
        ),
        (
            {
                "_class_name": "WanVACETransformer3DModel",
                "num_attention_heads": 40,
                "attention_head_dim": 128,
                "ffn_dim": 13824,
                "num_layers": 40,
                "vace_layers": list(range(0, 40, 5)),
            },
            17.34,
        ),
        (
            {
                "model_type": "parakeet_ctc",
                "architectures": ["ParakeetForCTC"],
                "vocab_size": 1025,
                "encoder_config": {"num_hidden_layers": 42},
            },
            1.06,
        ),
    ],
)
def test_what_no_published_count_proves_is_near_the_published_size_and_called_an_estimate(
    config: Config, billions: float
) -> None:
    network = catalogue.describe(Section(config))
    assert network.total.parameters == pytest.approx(billions * 1e9, rel=0.005)
    assert not network.exact
    assert network.why
