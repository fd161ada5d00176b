"""Counts parameters from safetensors headers: packed weights unpacked, what is no parameter left out.

Knows how each quantizer stores its weights. Must not read files or configurations.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.parser.safetensors import Tensor

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
_BYTE_DTYPES = ("U8", "I8")
_FOUR_BIT_STATES = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4", "absmax")


@dataclass
class Counted:
    """What the tensors of a model hold."""

    parameters: int = 0
    prediction: int = 0
    # Parameters of routed experts, of which a token passes through a part.
    expert_parameters: int = 0
    bytes_by_dtype: Counter[str] = field(default_factory=Counter)
    # Bits per packed weight, by the number of weights.
    packed: Counter[int] = field(default_factory=Counter)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors, scales and the like included."""
        return sum(self.bytes_by_dtype.values())


def count_tensors(
    tensors: Mapping[str, Tensor], *, packed_bits: int = 4, tied: bool = False, layers: int = 0
) -> Counted:
    """Count the tensors of a model by name.

    packed_bits is the width of weights packed into 32-bit words, tied says that head and embeddings are one tensor,
    layers is the number of layers that are the model's own: those behind predict further tokens (0: not known).
    """
    counted = Counted()
    skipped = _tied_head(tensors) if tied else None
    for name, tensor in tensors.items():
        counted.bytes_by_dtype[tensor.dtype] += tensor.size_bytes
        if name == skipped or _is_no_parameter(name, tensors):
            continue
        bits = _packed_width(name, tensor, tensors, packed_bits)
        count = tensor.size_bytes * 8 // bits if bits else tensor.elements
        if bits:
            counted.packed[bits] += count
        if _predicts(name, layers):
            counted.prediction += count
            continue
        counted.parameters += count
        if ".experts." in name and "shared" not in name:
            counted.expert_parameters += count
    return counted


def _is_no_parameter(name: str, tensors: Mapping[str, Tensor]) -> bool:
    stem, _, last = name.rpartition(".")
    if last == "scale":
        # A norm may well call its parameter so, as in models born in Flax; a quantizer's scale is beside a weight.
        return f"{stem}.weight" in tensors
    if last in _NO_PARAMETERS or last.endswith(_NO_PARAMETER_ENDINGS) or ".quant_state." in name:
        return True
    return tensors[name].dtype == "BOOL"


def _packed_width(name: str, tensor: Tensor, tensors: Mapping[str, Tensor], packed_bits: int) -> int:
    """Bits per weight of a packed tensor; 0 when its elements are its parameters."""
    stem, _, last = name.rpartition(".")
    if last in ("qweight", "weight_packed"):
        return packed_bits if tensor.dtype in ("I32", "U32", "I64") else 4
    if last.endswith("_blocks") and tensor.dtype == "U8":
        return 4
    if tensor.dtype == "F4":
        return 4
    if tensor.dtype not in _BYTE_DTYPES or last != "weight":
        return 0
    if any(f"{name}.{state}" in tensors for state in _FOUR_BIT_STATES):
        return 4
    # Two 4-bit floats in a byte come with one 8-bit float per block; 8-bit integers have wider scales.
    scale = next((tensors[f"{stem}.{s}"] for s in ("weight_scale", "scale") if f"{stem}.{s}" in tensors), None)
    return 4 if scale is not None and scale.dtype in ("F8_E4M3", "F8_E8M0", "U8") else 0


def _tied_head(tensors: Mapping[str, Tensor]) -> str | None:
    head = next((name for name in _HEADS if name in tensors), None)
    if head is None:
        return None
    same = (t for n, t in tensors.items() if n.endswith(_EMBEDDINGS) and t.elements == tensors[head].elements)
    return head if any(same) else None


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
        total.bytes_by_dtype.update(counted.bytes_by_dtype)
        total.packed.update(counted.packed)
    return total
