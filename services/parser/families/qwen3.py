"""Qwen3, dense and with experts: norms over each head's queries and keys."""

from services.parser.layers import gated_layer, grouped_attention, routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, gated, norm

# What the library assumes where a configuration is silent.
_HEAD_WIDTH = 128


def qwen3(c: Section) -> Network:
    """Qwen3 dense."""
    layer = gated_layer(_with_head_width(c), head_norm=True)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def qwen3_moe(c: Section) -> Network:
    """Qwen3 with experts in every decoder_sparse_step-th layer but those of mlp_only_layers."""
    return decoder(c, sparse_layers(c), c.integer("hidden_size"))


def sparse_layers(c: Section) -> Tally:
    """The layers of a Qwen3 mixture of experts."""
    width, count = c.integer("hidden_size"), c.integer("num_experts", "num_local_experts", default=128)
    # Beside pictures the library has another default than alone.
    attending = grouped_attention(c if c.model_type == "qwen3_moe" else _with_head_width(c), head_norm=True)
    attending += 2 * norm(width)
    chosen = c.integer("num_experts_per_tok", default=8)
    mixture = routed(width, count, chosen, c.integer("moe_intermediate_size", default=768))
    step, dense_layers = c.integer("decoder_sparse_step", default=1), c.items("mlp_only_layers")
    total = Tally()
    for index in range(c.integer("num_hidden_layers")):
        sparse = count > 0 and index not in dense_layers and (index + 1) % step == 0
        total += attending + (mixture if sparse else gated(width, c.integer("intermediate_size")))
    return total


def _with_head_width(c: Section) -> Section:
    return c.merged({"head_dim": c.stated_integer("head_dim") or _HEAD_WIDTH})


FAMILIES = (
    Family(
        ("qwen3", "qwen3_vl_text", "qwen3_asr_text"), qwen3, classes=(*classes(DECODER, "Qwen3"), "Qwen3VLTextModel")
    ),
    Family(
        ("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "mellum"),
        qwen3_moe,
        architectures=("Qwen3MoeForCausalLM",),
        classes=(*classes(DECODER, "Qwen3Moe", "Mellum"), "Qwen3VLMoeTextModel"),
        ignores=frozenset(("intermediate_size",)),
        assumes={"qkv_bias": (False,), "shared_expert_intermediate_size": (0,), "use_qk_norm": (True,)},
    ),
)
