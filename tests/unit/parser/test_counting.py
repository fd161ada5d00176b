"""Counting parameters from tensors, in every packing that quantizers write."""

import pytest

from services.parser.counting import Counted, count_tensors
from services.parser.packings import Hint
from services.parser.safetensors import Tensor, read_header
from tests.support.safetensors_files import Shapes, header_of

OUT, IN = 64, 128
WEIGHTS = OUT * IN
NOTHING = Hint()


def counted(shapes: Shapes, hint: Hint = NOTHING, tied: bool = False, layers: int = 0) -> Counted:
    size, data = header_of(shapes)
    tensors = read_header("model.safetensors", data, size).tensors
    return count_tensors(tensors, hint_for=lambda module: hint, tied=tied, layers=layers)


# What is stored, and what is stated about it.
PACKINGS: dict[str, tuple[Shapes, Hint]] = {
    "gptq with 4 bits": (
        {
            "l.qweight": ("I32", (IN // 8, OUT)),
            "l.qzeros": ("I32", (1, OUT // 8)),
            "l.scales": ("F16", (1, OUT)),
            "l.g_idx": ("I32", (IN,)),
        },
        Hint(4),
    ),
    "gptq with 8 bits": (
        {"l.qweight": ("I32", (IN // 4, OUT)), "l.qzeros": ("I32", (1, OUT // 4)), "l.scales": ("F16", (1, OUT))},
        Hint(8),
    ),
    "gptq with 3 bits": ({"l.qweight": ("I32", (IN * 3 // 32, OUT)), "l.scales": ("F16", (1, OUT))}, Hint(3)),
    "awq": (
        {"l.qweight": ("I32", (IN, OUT // 8)), "l.qzeros": ("I32", (1, OUT // 8)), "l.scales": ("F16", (1, OUT))},
        Hint(4),
    ),
    "compressed-tensors packed integers": (
        {
            "l.weight_packed": ("I32", (OUT, IN // 8)),
            "l.weight_scale": ("BF16", (OUT, 1)),
            "l.weight_shape": ("I64", (2,)),
            "l.weight_zero_point": ("I32", (OUT // 8, 1)),
            "l.weight_g_idx": ("I32", (IN,)),
        },
        Hint(4),
    ),
    "compressed-tensors nvfp4": (
        {
            "l.weight_packed": ("U8", (OUT, IN // 2)),
            "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "l.weight_global_scale": ("F32", (1,)),
            "l.input_global_scale": ("F32", (1,)),
        },
        Hint(4),
    ),
    "modelopt nvfp4": (
        {
            "l.weight": ("U8", (OUT, IN // 2)),
            "l.weight_scale": ("F8_E4M3", (OUT, IN // 16)),
            "l.weight_scale_2": ("F32", ()),
            "l.input_scale": ("F32", ()),
        },
        Hint(4),
    ),
    "mxfp4 blocks": (
        {
            "l.gate_up_proj_blocks": ("U8", (1, OUT, IN // 32, 16)),
            "l.gate_up_proj_scales": ("U8", (1, OUT, IN // 32)),
        },
        Hint(4),
    ),
    "fp4 in integers with shared exponents": (
        {"l.weight": ("I8", (OUT, IN // 2)), "l.scale": ("F8_E8M0", (OUT, IN // 32))},
        Hint(4),
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
        Hint(4),
    ),
    "bitsandbytes int8": (
        {"l.weight": ("I8", (OUT, IN)), "l.SCB": ("F32", (OUT,)), "l.weight_format": ("U8", ())},
        Hint(8),
    ),
    "block-wise fp8": ({"l.weight": ("F8_E4M3", (OUT, IN)), "l.weight_scale_inv": ("F32", (1, 1))}, Hint(8)),
    "fbgemm fp8": ({"l.weight": ("F8_E4M3", (OUT, IN)), "l.weight_scale": ("F32", (OUT, 1))}, Hint(8)),
    "static fp8 with key-value scales": (
        {
            "l.weight": ("F8_E4M3", (OUT, IN)),
            "l.weight_scale": ("F32", ()),
            "l.input_scale": ("F32", ()),
            "k_proj.k_scale": ("F32", ()),
            "v_proj.v_scale": ("F32", ()),
        },
        Hint(8),
    ),
    "compressed-tensors int8": ({"l.weight": ("I8", (OUT, IN)), "l.weight_scale": ("BF16", (OUT, 1))}, Hint(8)),
    "nothing": ({"l.weight": ("BF16", (OUT, IN))}, Hint(16)),
    "gptq with bits that its zero points tell": (
        {"l.qweight": ("I32", (IN // 16, OUT)), "l.qzeros": ("I32", (1, OUT // 16)), "l.scales": ("F16", (1, OUT))},
        Hint(4),
    ),
    "mlx with 4 bits": (
        {"l.weight": ("U32", (OUT, IN // 8)), "l.scales": ("BF16", (OUT, 2)), "l.biases": ("BF16", (OUT, 2))},
        Hint(4, 64),
    ),
    "mlx with 6 bits in groups of 32": (
        {"l.weight": ("U32", (OUT, IN * 6 // 32)), "l.scales": ("BF16", (OUT, 4)), "l.biases": ("BF16", (OUT, 4))},
        Hint(6, 32),
    ),
    "mlx mxfp4": ({"l.weight": ("U32", (OUT, IN // 8)), "l.scales": ("U8", (OUT, IN // 32))}, Hint(4, 32)),
    "exl2": (
        {
            "l.q_weight": ("I32", (IN * 5 // 32, OUT)),
            "l.q_scale": ("I32", (4, OUT // 8)),
            "l.q_scale_max": ("F16", (4,)),
            "l.q_groups": ("I16", (8,)),
            "l.q_invperm": ("I32", (IN,)),
        },
        Hint(5),
    ),
    "exl3": (
        {
            "l.trellis": ("I16", (IN // 16, OUT // 16, 48)),
            "l.suh": ("F16", (IN,)),
            "l.svh": ("F16", (OUT,)),
            "l.mcg": ("I32", ()),
        },
        Hint(3),
    ),
    "hqq": (
        {
            "l.W_q": ("U8", (WEIGHTS // 2 // 64, 64)),
            "l.scale": ("F16", (1, WEIGHTS // 64)),
            "l.zero": ("F16", (1, WEIGHTS // 64)),
            "l.shape": ("I64", (2,)),
            "l.nbits": ("I64", ()),
            "l.group_size": ("I64", ()),
            "l.axis": ("I64", ()),
            "l.packing": ("U8", (8,)),
        },
        Hint(4, 64),
    ),
    "torchao int4": ({"l.weight:qdata": ("U8", (OUT, IN // 2)), "l.weight:scale": ("BF16", (OUT, 1))}, Hint(4)),
    "torchao float8": (
        {"l.weight:qdata": ("F8_E4M3", (OUT, IN)), "l.weight:scale": ("F32", (OUT, 1))},
        Hint(8),
    ),
    "quark integers": (
        {
            "l.weight": ("I32", (IN, OUT // 8)),
            "l.weight_scale": ("F16", (1, OUT)),
            "l.weight_zero_point": ("I32", (1, OUT // 8)),
        },
        Hint(4, 128),
    ),
    "quark mxfp4": ({"l.weight": ("U8", (OUT, IN // 2)), "l.weight_scale": ("U8", (OUT, IN // 32))}, Hint(4, 32)),
    "bitnet": ({"l.weight": ("U8", (OUT // 4, IN)), "l.weight_scale": ("BF16", (1,))}, Hint(2)),
    "aqlm": (
        {
            "l.codes": ("I16", (OUT, IN // 8, 1)),
            "l.codebooks": ("F16", (1, 256, 1, 8)),
            "l.scales": ("F16", (OUT, 1, 1, 1)),
        },
        Hint(2),
    ),
    "quanto int8": ({"l.weight._data": ("I8", (OUT, IN)), "l.weight._scale": ("F32", (OUT, 1))}, Hint(8)),
    "quanto int4": (
        {
            "l.weight._data": ("U8", (WEIGHTS // 2 // 64, 64)),
            "l.weight._scale": ("F32", (WEIGHTS // 128, 1)),
            "l.weight._shift": ("F32", (WEIGHTS // 128, 1)),
        },
        Hint(4),
    ),
    "sparse with a mask of bits": (
        {
            "l.compressed": ("F8_E4M3", (OUT, IN // 2)),
            "l.bitmask": ("U8", (OUT, IN // 8)),
            "l.shape": ("I64", (2,)),
            "l.weight_scale": ("BF16", (OUT, 1)),
        },
        Hint(8),
    ),
    "floats of 4 bits with shared exponents": (
        {"l.weight": ("F4", (OUT, IN)), "l.block_exponents": ("F8_E8M0", (OUT, IN // 32))},
        Hint(4, 32),
    ),
    "fp-quant": (
        {
            "l.qweight": ("U8", (OUT, IN // 2)),
            "l.scales": ("U8", (OUT, IN // 32)),
            "l.weight_global_scale": ("F32", ()),
        },
        Hint(4, 32),
    ),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_packed_weights_count_as_what_they_stand_for(name: str) -> None:
    shapes, hint = PACKINGS[name]
    result = counted(shapes, hint)
    assert result.parameters == WEIGHTS
    assert result.lowest <= WEIGHTS <= result.highest
    assert result.weight_bytes == sum(result.bytes_by_dtype.values()) > 0


OPAQUE: dict[str, tuple[Shapes, Hint]] = {
    "mlx without a word about its bits": (
        {"l.weight": ("U32", (OUT, IN // 8)), "l.scales": ("BF16", (OUT, 2)), "l.biases": ("BF16", (OUT, 2))},
        NOTHING,
    ),
    "vptq": (
        {
            "l.indices": ("I16", (1, OUT, IN // 8)),
            "l.centroids.weight": ("F16", (1, 256)),
            "l.res_centroids.weight": ("F16", (1, 256)),
            "l.weight_scale": ("F16", (IN,)),
            "l.weight_bias": ("F16", (IN,)),
        },
        NOTHING,
    ),
    "a packing that nobody has heard of": (
        {"l.blob": ("I16", (OUT, IN // 4)), "l.magic": ("F16", (OUT,))},
        NOTHING,
    ),
    "integers whose width only the configuration tells": (
        {"l.weight_packed": ("I32", (OUT, IN // 8)), "l.weight_scale": ("BF16", (OUT, 1))},
        Hint(8),
    ),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_packed_in_an_unknown_way_is_no_number_but_a_range(name: str) -> None:
    shapes, hint = OPAQUE[name]
    result = counted(shapes, hint)
    assert not result.is_decoded
    assert result.lowest < WEIGHTS < result.highest


def test_slices_of_tensors_in_several_files_leave_a_range() -> None:
    slice_of_one = {
        "l.weight": Tensor("BF16", WEIGHTS // 2, WEIGHTS, (OUT, IN // 2)),
        "norm": Tensor("BF16", 9, 18, (9,)),
    }
    result = count_tensors(slice_of_one, repeated=slice_of_one.values())
    assert not result.is_decoded
    assert result.parameters == WEIGHTS + 9
    assert result.lowest < WEIGHTS + 9 <= result.highest


def test_what_shards_share_once_or_twice_is_no_slice() -> None:
    head = Tensor("BF16", 9, 18, (9,))
    tensors = {"l.weight": Tensor("BF16", WEIGHTS, 2 * WEIGHTS, (OUT, IN)), "head": head}
    assert count_tensors(tensors, repeated=[head]).is_decoded


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
