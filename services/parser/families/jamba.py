"""Jamba: Mamba with norms inside, an attention layer now and then, experts in every other layer."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.state_space import mamba
from services.parser.tally import Tally, gated, norm


def jamba(c: Section) -> Network:
    """Jamba 1 and 1.5."""
    width, inner = c.integer("hidden_size"), c.integer("intermediate_size")
    state = c.integer("mamba_d_state", default=16)
    rank = c.stated_integer("mamba_dt_rank") or -(-width // 16)
    mixer = mamba(
        width,
        c.integer("mamba_expand", default=2) * width,
        state,
        rank,
        c.integer("mamba_d_conv", default=4),
        bias=c.flag("mamba_proj_bias"),
        kernel_bias=c.flag("mamba_conv_bias", default=True),
    )
    mixer += norm(rank) + 2 * norm(state)
    count, chosen = c.integer("num_experts", default=16), c.integer("num_experts_per_tok", default=2)
    mixture = routed(width, count, chosen, inner) if count > 1 else gated(width, inner)
    attends = _every(c, "attn_layer", offset=4, period=8)
    routes = _every(c, "expert_layer", offset=1, period=2)
    layers = Tally()
    for index in range(c.integer("num_hidden_layers", default=32)):
        layers += grouped_attention(c) if index in attends else mixer
        layers += (mixture if index in routes else gated(width, inner)) + 2 * norm(width)
    return decoder(c, layers, width)


def _every(c: Section, name: str, offset: int, period: int) -> range:
    return range(
        c.integer(f"{name}_offset", default=offset),
        c.integer("num_hidden_layers", default=32),
        c.integer(f"{name}_period", default=period),
    )


FAMILIES = (
    Family(
        ("jamba",),
        jamba,
        classes=("JambaModel", "JambaForCausalLM", "JambaForSequenceClassification"),
        ignores=frozenset(("num_attention_heads", "num_key_value_heads")),
    ),
)
