"""Qwen3-Next and Qwen3.5: gated delta layers, every fourth one attends with gated queries; dense or with experts."""

from services.parser import catalogue
from services.parser.families.qwen2_vl import vision_tower
from services.parser.layers import routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.state_space import gated_delta
from services.parser.tally import Tally, gated, linear, norm

_HEAD_WIDTH = 256


def qwen3_next(c: Section) -> Network:
    """Qwen3-Next and the text part of Qwen3.5 with experts."""
    width = c.integer("hidden_size")
    mixture = routed(
        width,
        c.integer("num_experts", default=512),
        c.integer("num_experts_per_tok", default=10),
        c.integer("moe_intermediate_size", default=512),
        shared_inner=c.integer("shared_expert_intermediate_size", default=512),
    )
    return _hybrid(c, mixture + linear(width, 1))


def qwen3_5_moe_text(c: Section) -> Network:
    """The text part of Qwen3.5 with experts; it differs from Qwen3-Next in defaults."""
    chosen, count = c.integer("num_experts_per_tok", default=8), c.integer("num_experts", default=256)
    return qwen3_next(c.merged({"num_experts_per_tok": chosen, "num_experts": count}))


def qwen3_5_text(c: Section) -> Network:
    """The text part of dense Qwen3.5."""
    return _hybrid(c, gated(c.integer("hidden_size"), c.integer("intermediate_size")))


def qwen3_5(c: Section) -> Network:
    """Qwen3.5 with its vision tower."""
    kind = c.model_type if c.model_type.endswith("_text") else f"{c.model_type}_text"
    language = catalogue.language_part(c, "text_config", kind)
    return Network({**language.parts, "vision_tower": vision_tower(c.section("vision_config"))}, language.prediction)


def _hybrid(c: Section, block: Tally) -> Network:
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    types = c.items("layer_types")
    if not types:
        interval = c.integer("full_attention_interval", default=4)
        types = ["full_attention" if (index + 1) % interval == 0 else "linear" for index in range(depth)]
    attending = _attention(c)
    mixer = gated_delta(
        width,
        c.integer("linear_num_key_heads", default=16),
        c.integer("linear_num_value_heads", default=32),
        c.integer("linear_key_head_dim", default=128),
        c.integer("linear_value_head_dim", default=128),
        c.integer("linear_conv_kernel_dim", default=4),
    )
    layers = Tally()
    for kind in types[:depth]:
        layers += block + 2 * norm(width) + (attending if kind == "full_attention" else mixer)
    extra = attending + block + 2 * norm(width) + linear(2 * width, width) + 3 * norm(width)
    count = c.stated_integer("mtp_num_hidden_layers") or 0
    return decoder(c, layers, width, prediction=count * extra.parameters)


def _attention(c: Section) -> Tally:
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads", default=16)
    head = c.integer("head_dim", default=_HEAD_WIDTH)
    keys = c.integer("num_key_value_heads", default=2) * head
    # Queries come with a gate of their own size.
    projected = linear(width, 2 * heads * head) + 2 * linear(width, keys) + linear(heads * head, width)
    return projected + 2 * norm(head) + Tally(cached=2 * keys)


FAMILIES = (
    Family(
        ("qwen3_next",),
        qwen3_next,
        classes=classes(DECODER, "Qwen3Next"),
        ignores=frozenset(("intermediate_size", "mlp_only_layers")),
        assumes={"decoder_sparse_step": (1,), "attention_bias": (False,)},
    ),
    Family(
        ("qwen3_5_text",),
        qwen3_5_text,
        classes=("Qwen3_5TextModel", "Qwen3_5ForCausalLM", "Qwen3_5TextForSequenceClassification"),
        ignores=frozenset(
            ("full_attention_interval", "mtp_use_dedicated_embeddings", "output_gate_type", "mlp_only_layers")
        ),
        assumes={"attention_bias": (False,), "attn_output_gate": (True,)},
    ),
    Family(
        ("qwen3_5_moe_text",),
        qwen3_5_moe_text,
        classes=("Qwen3_5MoeTextModel", "Qwen3_5MoeForCausalLM"),
        ignores=frozenset(
            ("full_attention_interval", "mtp_use_dedicated_embeddings", "output_gate_type", "mlp_only_layers")
        ),
        assumes={"attention_bias": (False,), "attn_output_gate": (True,)},
    ),
    Family(
        ("qwen3_5", "qwen3_5_moe"),
        qwen3_5,
        classes=("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
        assumes={"language_model_only": (False,)},
        parts=("qwen3_5_vision", "qwen3_5_moe_vision"),
    ),
)
