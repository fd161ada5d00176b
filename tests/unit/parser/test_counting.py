"""Counting parameters from tensors, in every packing that quantizers write."""

import pytest

from services.parser.counting import Counted, count_tensors
from services.parser.safetensors import read_header
from tests.support.safetensors_files import Shapes, header_of

OUT, IN = 64, 128
WEIGHTS = OUT * IN


def counted(shapes: Shapes, packed_bits: int = 4, tied: bool = False, layers: int = 0) -> Counted:
    size, data = header_of(shapes)
    tensors = read_header("model.safetensors", data, size).tensors
    return count_tensors(tensors, packed_bits=packed_bits, tied=tied, layers=layers)


PACKINGS: dict[str, tuple[Shapes, int]] = {
    "gptq with 4 bits": (
        {
            "l.qweight": ("I32", (IN // 8, OUT)),
            "l.qzeros": ("I32", (1, OUT // 8)),
            "l.scales": ("F16", (1, OUT)),
            "l.g_idx": ("I32", (IN,)),
        },
        4,
    ),
    "gptq with 8 bits": (
        {"l.qweight": ("I32", (IN // 4, OUT)), "l.qzeros": ("I32", (1, OUT // 4)), "l.scales": ("F16", (1, OUT))},
        8,
    ),
    "gptq with 3 bits": ({"l.qweight": ("I32", (IN * 3 // 32, OUT)), "l.scales": ("F16", (1, OUT))}, 3),
    "awq": (
        {"l.qweight": ("I32", (IN, OUT // 8)), "l.qzeros": ("I32", (1, OUT // 8)), "l.scales": ("F16", (1, OUT))},
        4,
    ),
    "compressed-tensors packed integers": (
        {
            "l.weight_packed": ("I32", (OUT, IN // 8)),
            "l.weight_scale": ("BF16", (OUT, 1)),
            "l.weight_shape": ("I64", (2,)),
            "l.weight_zero_point": ("I32", (OUT // 8, 1)),
            "l.weight_g_idx": ("I32", (IN,)),
        },
        4,
    ),
    "compressed-tensors nvfp4": (
        {
            "l.weight_packed": ("U8", (OUT, IN // 2)),
            "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "l.weight_global_scale": ("F32", (1,)),
            "l.input_global_scale": ("F32", (1,)),
        },
        4,
    ),
    "modelopt nvfp4": (
        {
            "l.weight": ("U8", (OUT, IN // 2)),
            "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "l.weight_scale_2": ("F32", ()),
            "l.input_scale": ("F32", ()),
        },
        4,
    ),
    "mxfp4 blocks": (
        {
            "l.gate_up_proj_blocks": ("U8", (1, OUT, IN // 32, 16)),
            "l.gate_up_proj_scales": ("U8", (1, OUT, IN // 32)),
        },
        4,
    ),
    "fp4 in integers with shared exponents": (
        {"l.weight": ("I8", (OUT, IN // 2)), "l.scale": ("F8_E8M0", (OUT, IN // 32))},
        4,
    ),
    "bitsandbytes nf4": (
        {
            "l.weight": ("U8", (WEIGHTS // 2, 1)),
            "l.weight.absmax": ("U8", (WEIGHTS // 64,)),
            "l.weight.nested_absmax": ("F32", (1,)),
            "l.weight.nested_quant_map": ("F32", (256,)),
            "l.weight.quant_map": ("F32", (16,)),
            "l.weight.quant_state.bitsandbytes__nf4": ("U8", (90,)),
        },
        4,
    ),
    "bitsandbytes int8": (
        {"l.weight": ("I8", (OUT, IN)), "l.SCB": ("F32", (OUT,)), "l.weight_format": ("U8", ())},
        8,
    ),
    "block-wise fp8": ({"l.weight": ("F8_E4M3", (OUT, IN)), "l.weight_scale_inv": ("F32", (1, 1))}, 8),
    "fbgemm fp8": ({"l.weight": ("F8_E4M3", (OUT, IN)), "l.weight_scale": ("F32", (OUT, 1))}, 8),
    "static fp8 with key-value scales": (
        {
            "l.weight": ("F8_E4M3", (OUT, IN)),
            "l.weight_scale": ("F32", ()),
            "l.input_scale": ("F32", ()),
            "k_proj.k_scale": ("F32", ()),
            "v_proj.v_scale": ("F32", ()),
        },
        8,
    ),
    "compressed-tensors int8": ({"l.weight": ("I8", (OUT, IN)), "l.weight_scale": ("BF16", (OUT, 1))}, 8),
    "nothing": ({"l.weight": ("BF16", (OUT, IN))}, 16),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_packed_weights_count_as_what_they_stand_for(name: str) -> None:
    shapes, bits = PACKINGS[name]
    result = counted(shapes, packed_bits=bits)
    assert result.parameters == WEIGHTS
    assert result.weight_bytes == sum(result.bytes_by_dtype.values()) > 0


def test_biases_and_norms_beside_packed_weights_are_parameters() -> None:
    result = counted({**PACKINGS["awq"][0], "l.bias": ("F16", (OUT,)), "norm.weight": ("F16", (IN,))})
    assert result.parameters == WEIGHTS + OUT + IN


def test_buffers_of_older_libraries_are_no_parameters() -> None:
    result = counted(
        {
            "l.weight": ("F32", (OUT, IN)),
            "rotary_emb.inv_freq": ("F32", (64,)),
            "embeddings.position_ids": ("I64", (1, 512)),
            "h.attn.masked_bias": ("F32", ()),
            "h.mask": ("BOOL", (9, 9)),
            "mlp.gate.e_score_correction_bias": ("F32", (256,)),
            "bn.running_mean": ("F32", (8,)),
        }
    )
    assert result.parameters == WEIGHTS


def test_a_norm_that_calls_its_parameter_scale_keeps_it() -> None:
    assert counted({"norm.scale": ("F32", (IN,))}).parameters == IN


def test_a_stored_head_that_the_configuration_ties_counts_once() -> None:
    shapes: Shapes = {"model.embed_tokens.weight": ("BF16", (OUT, IN)), "lm_head.weight": ("BF16", (OUT, IN))}
    assert counted(shapes, tied=True).parameters == WEIGHTS
    assert counted(shapes).parameters == 2 * WEIGHTS


def test_prediction_layers_are_reported_beside_the_model() -> None:
    shapes: Shapes = {
        "model.layers.0.mlp.up_proj.weight": ("BF16", (OUT, IN)),
        "model.layers.1.mlp.up_proj.weight": ("BF16", (OUT, IN)),
        "mtp.fc.weight": ("BF16", (OUT, 1)),
    }
    result = counted(shapes, layers=1)
    assert result.parameters == WEIGHTS
    assert result.prediction == WEIGHTS + OUT


def test_routed_experts_are_told_apart() -> None:
    shapes: Shapes = {
        "layers.0.mlp.experts.0.up_proj.weight": ("BF16", (OUT, IN)),
        "layers.0.mlp.experts.1.up_proj.weight": ("BF16", (OUT, IN)),
        "layers.0.mlp.shared_experts.up_proj.weight": ("BF16", (OUT, IN)),
    }
    assert counted(shapes).expert_parameters == 2 * WEIGHTS
