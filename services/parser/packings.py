"""Knows how each quantizer packs the weights of one module, and tells how many there are from names and shapes alone.

Decides what a tensor stands for. What follows no packing that is known is opaque: its bytes are told, not a number of
weights. Must not read files or configurations.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from services.parser.safetensors import Tensor

Parts = Mapping[str, Tensor]

_FLOATS = frozenset(("F64", "F32", "F16", "BF16", "C64"))
_SMALL_FLOATS = frozenset(("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4"))
_WORDS = frozenset(("I32", "U32"))
_BYTES = frozenset(("U8", "I8"))
_WIDTHS = (2, 3, 4, 5, 6, 8)
_GROUPS = (32, 64, 128)
_TILE = 16


class Hint(NamedTuple):
    """What the configuration states about a module's weights; zero where it states nothing."""

    bits: int = 0
    group_size: int = 0


class Packed(NamedTuple):
    """The weights of one module: how many they are, and the tensor that holds them."""

    weights: int
    holder: str
    # False when the number rests on what is stated rather than on shapes that confirm each other.
    confirmed: bool = True


def unpack(parts: Parts, hint: Hint) -> Packed | None:
    """The packed weights of a module, whose tensors are given by the last part of their names; None when none are."""
    for holder, reader in _READERS.items():
        if holder in parts:
            packed = reader(parts, holder, hint)
            if packed is not None:
                return packed
    return None


def is_opaque(tensor: Tensor) -> bool:
    """Whether a tensor that no packing explains may hold more or fewer weights than it has elements."""
    return tensor.dtype not in _FLOATS and tensor.dtype not in _SMALL_FLOATS


def _in_words(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """GPTQ packs rows of its input, AWQ columns of its output; both keep one scale per group and output."""
    tensor, scales = parts[holder], parts.get("scales")
    if tensor.dtype in _BYTES:
        # FP-Quant: two 4-bit floats in a byte.
        return Packed(2 * tensor.elements, holder, scales is not None)
    if tensor.dtype == "I16" and hint.bits:
        return Packed(tensor.elements * 16 // hint.bits, holder, confirmed=False)
    if tensor.dtype not in _WORDS and tensor.dtype != "I64":
        return None
    width = _width_in_words(parts, tensor, scales)
    if width:
        return Packed(tensor.size_bytes * 8 // width, holder)
    return Packed(tensor.size_bytes * 8 // hint.bits, holder, confirmed=False) if hint.bits else None


def _width_in_words(parts: Parts, tensor: Tensor, scales: Tensor | None) -> int:
    """Bits per weight as the shapes of scales and zero points tell, or 0."""
    if scales is None or len(tensor.shape) < 2 or not scales.shape:
        return 0
    outputs, zeros = scales.shape[-1], parts.get("qzeros")
    if tensor.shape[-1] == outputs and zeros is not None and outputs:
        width = zeros.shape[-1] * 32 // outputs if zeros.shape else 0
    else:
        width = tensor.shape[-1] * 32 // outputs if outputs and tensor.shape[-1] != outputs else 0
    return width if width in _WIDTHS else 0


def _compressed(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """compressed-tensors: integers in 32-bit words, floats of 4 bits in bytes with a scale per 16 or 32."""
    tensor, scale = parts[holder], parts.get("weight_scale") or parts.get("scale_packed")
    if tensor.dtype in _BYTES:
        return Packed(2 * tensor.elements, holder, _per_group(2 * tensor.elements, scale, (16, 32)))
    if tensor.dtype not in _WORDS or not hint.bits:
        return None
    weights = tensor.elements * 32 // hint.bits
    if "meta" in parts:
        # Marlin's 2:4: half of the weights, and which half.
        return Packed(2 * weights, holder, confirmed=False)
    return Packed(weights, holder, _per_group(weights, scale, (hint.group_size,)))


def _per_group(weights: int, scale: Tensor | None, groups: tuple[int, ...]) -> bool:
    return scale is not None and any(group and scale.elements * group == weights for group in groups)


def _mlx_or_bytes(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """What is called weight: MLX's words, bitsandbytes' halves of bytes, modelopt's, Quark's and BitNet's."""
    tensor = parts[holder]
    if tensor.dtype in _WORDS:
        if "weight_scale" in parts or "weight_zero_point" in parts:
            # Quark: integers in words.
            return Packed(tensor.elements * 32 // hint.bits, holder, confirmed=False) if hint.bits else None
        return _mlx(tensor, parts.get("scales"), holder, hint)
    state = next((name for name in parts if name.startswith("weight.quant_state.bitsandbytes__")), None)
    if state is not None or "weight.absmax" in parts:
        # The storage may be of any type.
        return Packed(2 * tensor.size_bytes, holder)
    if tensor.dtype == "I16" and "scales" in parts and hint.bits:
        return Packed(tensor.elements * 16 // hint.bits, holder, confirmed=False)
    if tensor.dtype not in _BYTES:
        return None
    scale = next((parts[name] for name in ("weight_scale", "scale", "scales") if name in parts), None)
    if scale is None:
        return Packed(tensor.elements, holder) if tensor.dtype == "I8" and "SCB" in parts else None
    if scale.dtype in ("F8_E4M3", "F8_E8M0", "U8"):
        # Two 4-bit floats in a byte come with one 8-bit float per block; 8-bit integers have wider scales.
        return Packed(2 * tensor.elements, holder, _per_group(2 * tensor.elements, scale, (16, 32)))
    if tensor.dtype == "I8":
        return Packed(tensor.elements, holder, hint.bits in (0, 8))
    if scale.elements == 1:
        # BitNet: four ternary weights in a byte, one scale for all.
        return Packed(4 * tensor.elements, holder, hint.bits == 2)
    return Packed(2 * tensor.elements, holder, _per_group(2 * tensor.elements, scale, (hint.group_size, 128)))


def _mlx(tensor: Tensor, scales: Tensor | None, holder: str, hint: Hint) -> Packed | None:
    if scales is None or len(tensor.shape) < 2 or tensor.shape[:-1] != scales.shape[:-1] or not scales.shape[-1]:
        return None
    for group in (hint.group_size,) if hint.group_size else _GROUPS:
        inputs = scales.shape[-1] * group
        width, rest = divmod(tensor.shape[-1] * 32, inputs)
        if not rest and width == hint.bits:
            return Packed(scales.elements * group, holder)
    # Other widths fit other groups, so without the stated ones there is more than one reading.
    return None


def _exl2(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """ExLlamaV2: mixed widths; the permutation has an entry per input, the packed scales eight outputs per word."""
    order = next((parts[name] for name in ("q_invperm", "q_perm") if name in parts), None)
    scale = parts.get("q_scale")
    if order is None or scale is None or not scale.shape:
        return None
    return Packed(order.elements * scale.shape[-1] * 8, holder)


def _exl3(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """ExLlamaV3: tiles of 16 × 16 weights."""
    shape = parts[holder].shape
    return Packed(math.prod(shape[:-1]) * _TILE * _TILE, holder) if len(shape) >= 3 else None


def _hqq(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """HQQ: one scale per group."""
    scale = parts.get("scale")
    if scale is None or not hint.group_size:
        return None
    weights = scale.elements * hint.group_size
    width = parts[holder].size_bytes * 8 / weights if weights else 0
    return Packed(weights, holder, hint.bits > 0 and 0 <= width - hint.bits < 1)


def _aqlm(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """AQLM: a code per group of inputs and codebook, which tells the size of groups."""
    codes, books = parts[holder], parts.get("codebooks")
    if books is None or len(books.shape) != 4 or len(codes.shape) != 3 or codes.shape[-1] != books.shape[0]:
        return None
    return Packed(codes.shape[0] * books.shape[2] * codes.shape[1] * books.shape[3], holder)


def _bitmask(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    """Sparse weights of compressed-tensors: a bit per weight says which are stored."""
    return Packed(8 * parts[holder].elements, holder)


def _quanto(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    tensor = parts[holder]
    if tensor.dtype in _SMALL_FLOATS or tensor.dtype == "I8":
        return Packed(tensor.elements, holder)
    if tensor.dtype == "U8" and hint.bits in (2, 4):
        return Packed(tensor.elements * 8 // hint.bits, holder, confirmed=False)
    return None


def _torchao(parts: Parts, holder: str, hint: Hint) -> Packed | None:
    tensor = parts[holder]
    if tensor.dtype in _SMALL_FLOATS:
        return Packed(tensor.elements, holder)
    if not hint.bits or (tensor.dtype not in _BYTES and tensor.dtype not in _WORDS):
        return None
    width = 8 if tensor.dtype in _BYTES else 32
    return Packed(tensor.elements * width // hint.bits, holder, confirmed=False)


_Reader = Callable[[Parts, str, Hint], Packed | None]
# By the name of the tensor that holds the weights; the first that explains a module does.
_READERS: dict[str, _Reader] = {
    "qweight": _in_words,
    "weight_packed": _compressed,
    "W_q": _hqq,
    "q_weight": _exl2,
    "trellis": _exl3,
    "codes": _aqlm,
    "bitmask": _bitmask,
    "weight.bitmask": _bitmask,
    "weight._data": _quanto,
    "weight_qdata": _torchao,
    "weight.qdata": _torchao,
    "weight": _mlx_or_bytes,
}
# Tensors beside packed weights that are no parameters of the model, whatever type they have. Other names of floats are
# taken for parameters, as a bias is.
_AIDS = re.compile(
    r"^_?(weight[._:]?_?|input_|output_|q_|k_|v_|kv_|w|res_|outlier_|act_|activation_)?_?"
    r"(scales?|zeros?|scale_max|scale_packed|zero_point|zeros_packed|groups?|perm|invperm|group_map|shape|nbits|"
    r"group_size|axis|packing|channel_wise|optimize|round_zero|meta|shift|biases|su|sv|suh|svh|mcg|mul1|codebooks?|"
    r"centroids(\.weight)?|res_centroids(\.weight)?|outlier_centroids(\.weight)?|indices|tables2?|lut|amax|g_idx|"
    r"row_offsets|compressed|bitmask|quant_type|quant_scale|quant_zero|view_as_float|encoded_state_dict|"
    r"stores_quant_config|compute_dtype|offload_meta|meta_scale|unpack_view_dtype|hadamard_matrix|"
    r"forward_hadamard_matrix|backward_hadamard_matrix|qzeros|scale_inv|scale_2|global_scale|scale_ub)$"
)
_INDICES = frozenset(("indices", "W_q", "trellis", "q_weight", "codes", "dense_weights"))


def is_aid(name: str) -> bool:
    """Whether a tensor beside packed weights only says how to unpack them."""
    return _AIDS.match(name) is not None


def holds_weights(parts: Parts) -> bool:
    """Whether a module is packed, be it in a way that is known or not."""
    return any(name in _INDICES or (name in _READERS and is_opaque(tensor)) for name, tensor in parts.items())
