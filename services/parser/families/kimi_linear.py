"""Kimi Linear and Ling 3: delta attention with a gate per channel in most layers, latent attention in the others."""

from services.parser.families.deepseek import latent_attention
from services.parser.layers import routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, convolution, gated, linear, norm


def kimi_linear(c: Section) -> Network:
    """Kimi Linear, whose gates are of low rank."""
    width, heads, head = c.integer("hidden_size"), *_heads(c)
    low_rank = linear(width, head) + linear(head, heads * head)
    return _hybrid(c, _delta(c, low_rank), latent_attention(c))


def bailing_hybrid(c: Section) -> Network:
    """Ling 3: gates of full rank, and one per head on latent attention."""
    width, heads, head = c.integer("hidden_size"), *_heads(c)
    latent = latent_attention(c) + linear(width, c.integer("num_attention_heads"))
    return _hybrid(c, _delta(c, linear(width, heads * head)), latent)


def _heads(c: Section) -> tuple[int, int]:
    """Number and width of the heads of linear attention, in the library's words or the publisher's."""
    stated = c.section("linear_attn_config")
    return (
        stated.integer("num_heads", default=c.integer("linear_num_heads", "num_attention_heads")),
        stated.integer("head_dim", default=c.integer("linear_head_dim", default=128)),
    )


def _delta(c: Section, gate: Tally) -> Tally:
    """Queries, keys and values behind a convolution; a decay per channel and a gate on the output, of equal size."""
    width, heads, head = c.integer("hidden_size"), *_heads(c)
    inner = heads * head
    kernel = c.section("linear_attn_config").integer(
        "short_conv_kernel_size", default=c.integer("linear_conv_kernel_dim", "short_conv_kernel_size", default=4)
    )
    mixing = 3 * linear(width, inner) + convolution(3 * inner, 3 * inner, kernel, bias=False, groups=3 * inner)
    return mixing + 2 * gate + linear(width, heads) + inner + heads + norm(head) + linear(inner, width)


def _hybrid(c: Section, delta: Tally, latent: Tally) -> Network:
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    full = _full_layers(c, depth)
    inner = c.integer("moe_intermediate_size")
    mixture = routed(
        width,
        c.integer("num_experts"),
        c.integer("num_experts_per_token", "num_experts_per_tok"),
        inner,
        shared_inner=inner * (c.stated_integer("num_shared_experts") or 0),
    )
    types = c.items("mlp_layer_types")[:depth]
    dense = types.count("dense") if types else min(c.integer("first_k_dense_replace", default=1), depth)
    layers = full * latent + (depth - full) * delta + depth * 2 * norm(width)
    layers += dense * gated(width, c.integer("intermediate_size")) + (depth - dense) * mixture
    # The head is never tied.
    return decoder(c.merged({"tie_word_embeddings": False}), layers, width)


def _full_layers(c: Section, depth: int) -> int:
    types = c.items("layer_types")[:depth]
    if types:
        return types.count("full_attention")
    listed = c.section("linear_attn_config").items("full_attn_layers")
    if listed:
        # They are counted from one.
        return sum(1 for index in listed if isinstance(index, int) and 0 < index <= depth)
    every = c.integer("layer_group_size")
    return depth // every if every else 0


_IGNORED = frozenset(
    (
        *("num_key_value_heads", "head_dim", "num_expert_group", "moe_renormalize", "moe_router_activation_func"),
        *("use_grouped_topk", "kda_layers", "kda_safe_gate", "kda_lower_bound", "layer_group_size", "mla_use_nope"),
        *("num_nextn_predict_layers", "mtp_loss_scaling_factor", "first_k_dense_replace", "short_conv_kernel_size"),
    )
)

FAMILIES = (
    Family(
        ("kimi_linear",),
        kimi_linear,
        classes=("KimiLinearModel", "KimiLinearForCausalLM"),
        ignores=_IGNORED,
        assumes={"moe_layer_freq": (1,)},
    ),
    Family(
        ("bailing_hybrid",),
        bailing_hybrid,
        classes=("BailingHybridModel", "BailingHybridForCausalLM"),
        ignores=_IGNORED,
        assumes={"moe_layer_freq": (1,)},
    ),
)
