"""Models whose layers many tools packed: the count is that of the model, or called no more than an estimate."""

from collections.abc import Callable
from typing import Any

import pytest

from ome.parser.v1.parser_pb2 import ModelFacts
from services.parser.parsing import parse_files
from tests.support.safetensors_files import Shapes, json_file, weights_file

WIDTH, INNER, ENTRIES, LAYERS = 128, 256, 512, 2
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": INNER,
    "vocab_size": ENTRIES,
    "torch_dtype": "bfloat16",
}
PROJECTIONS = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH // 2, WIDTH),
    "self_attn.v_proj": (WIDTH // 2, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
COUNT = 2 * ENTRIES * WIDTH + WIDTH + LAYERS * (2 * WIDTH + sum(o * i for o, i in PROJECTIONS.values()))

Module = dict[str, tuple[str, tuple[int, ...]]]
Pack = Callable[[int, int], Module]


def checkpoint(pack: Pack) -> Shapes:
    """The tensors of the model, each projection packed: outputs and inputs in, tensors of the module out."""
    shapes: Module = {
        "model.embed_tokens.weight": ("BF16", (ENTRIES, WIDTH)),
        "model.norm.weight": ("BF16", (WIDTH,)),
        "lm_head.weight": ("BF16", (ENTRIES, WIDTH)),
    }
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = ("BF16", (WIDTH,))
        for name, (outputs, inputs) in PROJECTIONS.items():
            for last, entry in pack(outputs, inputs).items():
                shapes[f"model.layers.{layer}.{name}.{last}"] = entry
    return shapes


def mlx(bits: int) -> Pack:
    return lambda o, i: {
        "weight": ("U32", (o, i * bits // 32)),
        "scales": ("BF16", (o, i // 64)),
        "biases": ("BF16", (o, i // 64)),
    }


def gptq(o: int, i: int) -> Module:
    groups = i // 64
    return {
        "qweight": ("I32", (i // 8, o)),
        "qzeros": ("I32", (groups, o // 8)),
        "scales": ("F16", (groups, o)),
        "g_idx": ("I32", (i,)),
    }


def awq(o: int, i: int) -> Module:
    return {
        "qweight": ("I32", (i, o // 8)),
        "qzeros": ("I32", (i // 64, o // 8)),
        "scales": ("F16", (i // 64, o)),
    }


def exl2(o: int, i: int) -> Module:
    return {
        "q_weight": ("I32", (i * 5 // 32, o)),
        "q_scale": ("I32", (i // 32, o // 8)),
        "q_scale_max": ("F16", (i // 32,)),
        "q_groups": ("I16", (i // 16,)),
        "q_invperm": ("I32", (i,)),
    }


def exl3(o: int, i: int) -> Module:
    return {
        "trellis": ("I16", (i // 16, o // 16, 48)),
        "suh": ("F16", (i,)),
        "svh": ("F16", (o,)),
        "mcg": ("I32", ()),
    }


def hqq(o: int, i: int) -> Module:
    return {
        "W_q": ("U8", (o * i // 2 // 64, 64)),
        "scale": ("F16", (1, o * i // 64)),
        "zero": ("F16", (1, o * i // 64)),
        "shape": ("I64", (2,)),
    }


def aqlm(o: int, i: int) -> Module:
    return {
        "codes": ("I16", (o, i // 8, 1)),
        "codebooks": ("F16", (1, 256, 1, 8)),
        "scales": ("F16", (o, 1, 1, 1)),
    }


def vptq(o: int, i: int) -> Module:
    return {
        "indices": ("I32", (1, o // 8, i * 3 // 4)),
        "centroids.weight": ("F16", (1, 256 * 8)),
        "res_centroids.weight": ("F16", (1, 256 * 8)),
        "weight_scale": ("F16", (i,)),
        "weight_bias": ("F16", (i,)),
        "perm": ("I16", (i,)),
    }


def packed(o: int, i: int) -> Module:
    return {
        "weight_packed": ("I32", (o, i // 8)),
        "weight_scale": ("BF16", (o, i // 64)),
        "weight_shape": ("I64", (2,)),
    }


def nvfp4(o: int, i: int) -> Module:
    return {
        "weight_packed": ("U8", (o, i // 2)),
        "weight_scale": ("F8_E4M3", (o, i // 16)),
        "weight_global_scale": ("F32", (1,)),
        "input_global_scale": ("F32", (1,)),
    }


def nf4(o: int, i: int) -> Module:
    return {
        "weight": ("U8", (o * i // 2, 1)),
        "weight.absmax": ("U8", (o * i // 64,)),
        "weight.nested_absmax": ("F32", (1,)),
        "weight.quant_map": ("F32", (16,)),
        "weight.quant_state.bitsandbytes__nf4": ("U8", (90,)),
    }


def fp8(o: int, i: int) -> Module:
    return {"weight": ("F8_E4M3", (o, i)), "weight_scale_inv": ("F32", (1, 1))}


def bitmask(o: int, i: int) -> Module:
    return {
        "compressed": ("BF16", (o, i // 2)),
        "bitmask": ("U8", (o, i // 8)),
        "shape": ("I64", (2,)),
    }


def bitnet(o: int, i: int) -> Module:
    return {"weight": ("U8", (o // 4, i)), "weight_scale": ("BF16", (1,))}


def quanto(o: int, i: int) -> Module:
    return {"weight._data": ("I8", (o, i)), "weight._scale": ("BF16", (o, 1)), "input_scale": ("BF16", ())}


def torchao(o: int, i: int) -> Module:
    return {
        "weight:qdata": ("U8", (o, i // 2)),
        "weight:scale": ("BF16", (i // 64, o)),
        "weight:zero_point": ("BF16", (i // 64, o)),
    }


def quark(o: int, i: int) -> Module:
    return {
        "weight": ("I32", (i, o // 8)),
        "weight_scale": ("BF16", (i // 64, o)),
        "weight_zero_point": ("I32", (i // 64, o // 8)),
    }


def unheard_of(o: int, i: int) -> Module:
    return {"blob": ("I16", (o, i // 4)), "magic": ("F16", (o,))}


def config_groups(bits: int, **weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, **weights}}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


TOOLS: dict[str, tuple[Pack, dict[str, Any]]] = {
    "MLX with 4 bits": (mlx(4), {"quantization": {"group_size": 64, "bits": 4}}),
    "MLX with 3 bits": (mlx(3), {"quantization": {"group_size": 64, "bits": 3}}),
    "MLX with bits that nobody states": (mlx(4), {}),
    "GPTQ": (gptq, {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}),
    "GPTQ without a word": (gptq, {}),
    "AWQ": (awq, {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}),
    "ExLlamaV2": (exl2, {"quantization_config": {"quant_method": "exl2", "bits": 4.65}}),
    "ExLlamaV3": (exl3, {"quantization_config": {"quant_method": "exl3", "bits": 3.0}}),
    "HQQ": (
        hqq,
        {
            "quantization_config": {
                "quant_method": "hqq",
                "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
            }
        },
    ),
    "AQLM": (aqlm, {"quantization_config": {"quant_method": "aqlm", "nbits_per_codebook": 16, "num_codebooks": 1}}),
    "VPTQ": (vptq, {"quantization_config": {"quant_method": "vptq"}}),
    "compressed-tensors integers": (
        packed,
        {"quantization_config": {**config_groups(4, type="int", group_size=64), "format": "pack-quantized"}},
    ),
    "compressed-tensors nvfp4": (
        nvfp4,
        {"quantization_config": {**config_groups(4, type="float"), "format": "nvfp4-pack-quantized"}},
    ),
    "bitsandbytes": (nf4, {"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}),
    "block-wise fp8": (fp8, {"quantization_config": {"quant_method": "fp8"}}),
    "sparse by a mask": (
        bitmask,
        {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "sparsity_config": {"format": "sparse-24-bitmask"},
            }
        },
    ),
    "BitNet": (bitnet, {"quantization_config": {"quant_method": "bitnet"}}),
    "quanto": (quanto, {"quantization_config": {"quant_method": "quanto", "weights": "int8"}}),
    "torchao": (torchao, {"quantization_config": {"quant_method": "torchao", "quant_type": "int4_weight_only"}}),
    "Quark": (
        quark,
        {"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "uint4"}}}},
    ),
    "a tool that nobody has heard of": (unheard_of, {"quantization_config": {"quant_method": "novel"}}),
}


def facts(name: str, **changes: Any) -> ModelFacts:
    pack, stated = TOOLS[name]
    config = json_file("config.json", {**CONFIG, **stated, **changes})
    return parse_files([config, weights_file("model.safetensors", checkpoint(pack))])


@pytest.mark.parametrize("name", TOOLS)
def test_a_model_with_a_page_is_counted_however_it_is_packed(name: str) -> None:
    found = facts(name)
    assert found.parameters.count == COUNT
    assert found.parameters.exact


@pytest.mark.parametrize("name", TOOLS)
def test_without_a_page_the_packed_count_is_a_range_that_holds(name: str) -> None:
    found = facts(name, model_type="unheard_of", architectures=["UnheardOfForCausalLM"])
    assert not found.parameters.exact
    assert found.parameters.minimum <= COUNT <= found.parameters.maximum
    # A size goes into no name when the range is wide.
    if found.parameters.maximum > 1.25 * found.parameters.minimum:
        assert found.parameter_size == ""
