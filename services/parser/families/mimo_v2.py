"""MiMo V2: full and windowed layers with key and value heads of their own numbers, keys wider than values, experts."""

from services.parser.layers import routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, gated, linear, norm


def mimo_v2(c: Section) -> Network:
    """MiMo V2 Flash."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    windowed = c.integers("hybrid_layer_pattern", default=(0,) * depth)[:depth]
    sparse = c.integers("moe_layer_freq", default=(1,) * depth)[:depth]
    inner = c.integer("moe_intermediate_size")
    mixture = routed(
        width,
        c.integer("n_routed_experts"),
        c.integer("num_experts_per_tok"),
        inner,
        shared_inner=inner * (c.stated_integer("n_shared_experts") or 0),
    )
    dense = gated(width, c.integer("intermediate_size"))
    layers = Tally()
    for window, routes in zip(windowed, sparse, strict=True):
        layers += _attention(c, "swa_" if window else "") + (mixture if routes else dense) + 2 * norm(width)
    return decoder(c, layers, width)


def _attention(c: Section, prefix: str) -> Tally:
    width, heads = c.integer("hidden_size"), c.integer(f"{prefix}num_attention_heads")
    kv_heads, key = c.integer(f"{prefix}num_key_value_heads"), c.integer(f"{prefix}head_dim")
    value = c.integer(f"{prefix}v_head_dim")
    stated = "add_swa_attention_sink_bias" if prefix else "add_full_attention_sink_bias"
    sinks = heads if c.flag(stated) else 0
    projected = linear(width, heads * key) + linear(width, kv_heads * (key + value)) + linear(heads * value, width)
    # A windowed layer keeps no more than its window, however long the context is.
    return projected + sinks + Tally(cached=0 if prefix else kv_heads * (key + value))


FAMILIES = (
    Family(
        ("mimo_v2_flash",),
        mimo_v2,
        classes=("MiMoV2FlashModel", "MiMoV2FlashForCausalLM"),
        assumes={"attention_bias": (False,)},
    ),
)
