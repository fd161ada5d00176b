"""Counts parameters from safetensors headers: packed weights unpacked, what is no parameter left out.

Decides how far the number can be wrong. Must not read files or configurations.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.parser.packings import Hint, holds_weights, is_aid, is_opaque, unpack
from services.parser.safetensors import Tensor

_WIDE = frozenset(("F64", "F32", "F16", "BF16", "C64"))

# Scales, zero points and the like of GPTQ, AWQ, compressed-tensors, bitsandbytes, modelopt, fbgemm, mxfp4 and of
# block-wise fp8; key-value scales; and buffers that older libraries saved.
_NO_PARAMETERS = frozenset(
    (
        *("scales", "qzeros", "g_idx", "weight_g_idx", "qscale", "zeros", "zero_point", "scale_inv"),
        *("weight_scale", "weight_scale_1", "weight_scale_2", "weight_scale_inv", "weight_shape", "weight_zero_point"),
        *("weight_global_scale", "input_global_scale", "input_scale", "input_scale_ub", "input_zero_point"),
        *("output_scale", "pre_quant_scale", "act_scale", "activation_scale", "smooth_quant_scale", "amax"),
        *("weights_scaling_factor", "k_scale", "v_scale", "q_scale", "kv_scale", "prob_scale"),
        *("absmax", "quant_map", "nested_absmax", "nested_quant_map", "SCB", "CB", "weight_format"),
        *("inv_freq", "position_ids", "num_batches_tracked", "running_mean", "running_var", "masked_bias"),
        *("e_score_correction_bias", "rotary_pos_emb", "relative_position_index"),
    )
)
# Fused experts have no module of their own, so the projection's name comes before the scale's.
_NO_PARAMETER_ENDINGS = (
    "proj_scales",
    "proj_scale",
    "proj_scale_inv",
    "_weight_scale",
    "_weight_scale_inv",
    "_input_scale",
)
_PREDICTION = re.compile(r"(^|\.)(mtp|mtp_layers|mtp_block|nextn_predict_layers)\.")
_LAYER = re.compile(r"^(?:model\.|language_model\.|model\.language_model\.)*layers\.(\d+)\.")
_HEADS = ("lm_head.weight", "language_model.lm_head.weight", "output.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight")
# Rates that packings reach: one bit per weight, and none at all.
_FEWEST_BITS, _MOST_BITS = 1, 16
# Shards share a tensor or two, such as a tied head; where most names are in several files, each holds slices.
_SLICED = 0.5

HintFor = Callable[[str], Hint]


@dataclass
class Counted:
    """What the tensors of a model hold."""

    parameters: int = 0
    prediction: int = 0
    # Parameters of routed experts, of which a token passes through a part.
    expert_parameters: int = 0
    # Bounds of the parameters: equal to them unless something is packed in a way that is not known for sure.
    lowest: int = 0
    highest: int = 0
    # Parameters of a head that may be the embeddings once more.
    head: int = 0
    quantized: bool = False
    bytes_by_dtype: Counter[str] = field(default_factory=Counter)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors, scales and the like included."""
        return sum(self.bytes_by_dtype.values())

    @property
    def is_decoded(self) -> bool:
        """Whether every tensor is one of which it is known what it holds."""
        return self.lowest == self.parameters == self.highest


def count_tensors(
    tensors: Mapping[str, Tensor],
    *,
    hint_for: HintFor = lambda module: Hint(),
    tied: bool = False,
    layers: int = 0,
    repeated: Iterable[Tensor] = (),
) -> Counted:
    """Count the tensors of a model by name.

    hint_for tells what is stated about a module's packing, tied says that head and embeddings are one tensor, layers is
    the number of layers that are the model's own: those behind predict further tokens (0: not known). repeated are the
    tensors that further files hold under the same names.
    """
    counted = Counted()
    head = _head(tensors)
    for stem, parts in _modules(tensors).items():
        for tensor in parts.values():
            counted.bytes_by_dtype[tensor.dtype] += tensor.size_bytes
        weights = _count_module(parts, hint_for(stem))
        counted.quantized = counted.quantized or weights.quantized
        if stem == head:
            counted.head = weights.likely
            if tied:
                continue
        if _predicts(f"{stem}.", layers):
            counted.prediction += weights.likely
            continue
        counted.parameters += weights.likely
        counted.lowest += weights.lowest
        counted.highest += weights.highest
        if ".experts." in f"{stem}." and "shared" not in stem:
            counted.expert_parameters += weights.likely
    _add_slices(counted, len(tensors), repeated)
    return counted


class _Weights(NamedTuple):
    likely: int
    lowest: int
    highest: int
    quantized: bool


def _modules(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the module that they belong to and the rest of their names."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        if ".weight." in name:
            stem, _, last = name.rpartition(".weight.")
            last = f"weight.{last}"
        elif stem.endswith("centroids"):
            stem, _, parent = stem.rpartition(".")
            last = f"{parent}.{last}"
        modules.setdefault(stem, {})[last.replace(":", "_").lstrip("_") if ":" in last else last] = tensor
    return modules


def _count_module(parts: Mapping[str, Tensor], hint: Hint) -> _Weights:
    if all(tensor.dtype in _WIDE for tensor in parts.values()):
        elements = sum(tensor.elements for name, tensor in parts.items() if not _is_no_parameter(name, parts))
        return _Weights(elements, elements, elements, quantized=False)
    packed = unpack(parts, hint)
    is_packed = packed is not None or holds_weights(parts)
    likely = lowest = highest = 0
    for name, tensor in parts.items():
        if packed is not None and name == packed.holder:
            likely += packed.weights
            lowest += packed.weights if packed.confirmed else packed.weights // 4
            highest += packed.weights if packed.confirmed else packed.weights * 4
        elif _is_no_parameter(name, parts) or (is_packed and packed is not None and is_aid(name)):
            continue
        elif name.endswith("_blocks") and tensor.dtype == "U8" and f"{name.removesuffix('blocks')}scales" in parts:
            likely, lowest, highest = (total + 2 * tensor.elements for total in (likely, lowest, highest))
        elif is_opaque(tensor):
            likely += tensor.size_bytes * 8 // (hint.bits or 8)
            lowest += tensor.size_bytes * 8 // _MOST_BITS
            highest += tensor.size_bytes * 8 // _FEWEST_BITS
        else:
            # Beside what cannot be read, numbers may be parameters or only say how to read it.
            surely = packed is not None or not is_packed
            likely += tensor.elements if surely or not is_aid(name) else 0
            lowest += tensor.elements if surely else 0
            highest += tensor.elements
    return _Weights(likely, lowest, highest, quantized=True)


def _is_no_parameter(last: str, parts: Mapping[str, Tensor]) -> bool:
    tensor = parts[last]
    if tensor.dtype in ("BOOL", "F8_E8M0"):
        # A type of exponents alone is one of scales.
        return True
    if last == "scale":
        # A norm may well call its parameter so, as in models born in Flax; a quantizer's scale is beside a weight.
        return "weight" in parts or "W_q" in parts
    if last in _NO_PARAMETERS or last.endswith(_NO_PARAMETER_ENDINGS) or ".quant_state." in last:
        return True
    # bitsandbytes keeps its states below the weight, of which they have no other use.
    return last.startswith("weight.") and last.removeprefix("weight.").lstrip("_") in _NO_PARAMETERS


def _add_slices(counted: Counted, names: int, repeated: Iterable[Tensor]) -> None:
    again = list(repeated)
    if len(again) <= _SLICED * names:
        return
    for tensor in again:
        counted.bytes_by_dtype[tensor.dtype] += tensor.size_bytes
        counted.highest += tensor.elements if tensor.dtype in _WIDE else tensor.size_bytes * 8 // _FEWEST_BITS
        # Norms are in every file, matrices are cut.
        counted.parameters += tensor.elements if len(tensor.shape) > 1 else 0


def _head(tensors: Mapping[str, Tensor]) -> str | None:
    """The module of a head that is as large as the embeddings, which may be the same tensor."""
    head = next((name for name in _HEADS if name in tensors), None)
    if head is None:
        return None
    same = (t for n, t in tensors.items() if n.endswith(_EMBEDDINGS) and t.elements == tensors[head].elements)
    return head.rpartition(".")[0] if any(same) else None


def _predicts(name: str, layers: int) -> bool:
    if _PREDICTION.search(name):
        return True
    match = _LAYER.match(name) if layers else None
    return match is not None and int(match[1]) >= layers


def merge(counts: Iterable[Counted]) -> Counted:
    """The sum of several parts."""
    total = Counted()
    for counted in counts:
        total.parameters += counted.parameters
        total.prediction += counted.prediction
        total.expert_parameters += counted.expert_parameters
        total.lowest += counted.lowest
        total.highest += counted.highest
        total.quantized = total.quantized or counted.quantized
        total.bytes_by_dtype.update(counted.bytes_by_dtype)
    return total
