"""IBM's Granite with experts and with Mamba 2 layers, and Bamba, its forerunner."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.state_space import mamba2
from services.parser.tally import Tally, gated, norm


def granite_moe(c: Section) -> Network:
    """Granite 3 with experts."""
    width = c.integer("hidden_size")
    count, chosen = c.integer("num_local_experts", default=8), c.integer("num_experts_per_tok", default=2)
    shared = c.stated_integer("shared_intermediate_size") or 0
    mixture = routed(width, count, chosen, c.integer("intermediate_size"), shared_inner=shared)
    layer = grouped_attention(c) + mixture + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


def granite_hybrid(c: Section) -> Network:
    """Granite 4: layer_types says which layers attend; each has a shared block and, in some models, experts."""
    width = c.integer("hidden_size")
    block = gated(width, c.integer("shared_intermediate_size", default=1024)) + 2 * norm(width)
    count = c.stated_integer("num_local_experts") or 0
    if count:
        block += routed(width, count, c.integer("num_experts_per_tok"), c.integer("intermediate_size"))
    types = c.items("layer_types") or ["mamba"] * c.integer("num_hidden_layers")
    layers = Tally()
    for kind in types[: c.integer("num_hidden_layers")]:
        layers += block + (grouped_attention(c) if kind == "attention" else _mixer(c))
    return decoder(c, layers, width)


def bamba(c: Section) -> Network:
    """Bamba: the layers of attn_layer_indices attend, the others are Mamba 2."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    attending = len(c.items("attn_layer_indices"))
    block = gated(width, c.integer("intermediate_size"), c.flag("mlp_bias")) + 2 * norm(width)
    layers = depth * block + (depth - attending) * _mixer(c)
    return decoder(c, layers + (attending * grouped_attention(c) if attending else 0), width)


def _mixer(c: Section) -> Tally:
    return mamba2(
        c.integer("hidden_size"),
        c.integer("mamba_n_heads", default=128),
        c.integer("mamba_d_head", default=64),
        c.integer("mamba_d_state", default=256),
        c.integer("mamba_n_groups", default=1),
        c.integer("mamba_d_conv", default=4),
        bias=c.flag("mamba_proj_bias"),
        kernel_bias=c.flag("mamba_conv_bias", default=True),
    )


FAMILIES = (
    Family(
        ("granitemoe", "granitemoeshared"),
        granite_moe,
        classes=("GraniteMoeModel", "GraniteMoeForCausalLM", "GraniteMoeSharedModel", "GraniteMoeSharedForCausalLM"),
    ),
    Family(
        ("granitemoehybrid",),
        granite_hybrid,
        classes=("GraniteMoeHybridModel", "GraniteMoeHybridForCausalLM"),
        ignores=frozenset(
            (
                "mamba_expand",
                "num_experts_per_tok",
                "normalization_function",
                "intermediate_size",
                "mamba_conv_bias",
                "mamba_d_conv",
                "mamba_d_head",
                "mamba_d_state",
                "mamba_n_groups",
                "mamba_n_heads",
                "mamba_proj_bias",
                "num_attention_heads",
                "num_key_value_heads",
            )
        ),
        assumes={"attention_bias": (False,)},
    ),
    Family(
        ("bamba",),
        bamba,
        classes=("BambaModel", "BambaForCausalLM"),
        ignores=frozenset(("mamba_expand", "num_attention_heads", "num_key_value_heads", "attn_rotary_emb")),
        assumes={"attention_bias": (False,)},
    ),
)
