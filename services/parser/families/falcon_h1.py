"""Falcon-H1: Mamba 2 and attention side by side in each layer."""

from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, convolution, gated, linear, norm


def falcon_h1(c: Section) -> Network:
    """Falcon-H1."""
    width = c.integer("hidden_size")
    block = gated(width, c.integer("intermediate_size"), c.flag("mlp_bias"))
    layer = grouped_attention(c) + _mixer(c) + block + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


def _mixer(c: Section) -> Tally:
    width, heads = c.integer("hidden_size"), c.integer("mamba_n_heads", default=128)
    inner = c.stated_integer("mamba_d_ssm") or c.integer("mamba_expand", default=2) * width
    groups, state = c.integer("mamba_n_groups", default=1), c.integer("mamba_d_state", default=256)
    mixed = inner + 2 * groups * state
    bias, kernel = c.flag("mamba_proj_bias"), c.integer("mamba_d_conv", default=4)
    out = linear(inner, width, c.flag("projectors_bias"))
    normed = norm(inner) if c.flag("mamba_rms_norm") else Tally()
    return (
        linear(width, inner + mixed + heads, bias)
        + convolution(mixed, mixed, kernel, bias=c.flag("mamba_conv_bias", default=True), groups=mixed)
        + Tally(3 * heads)
        + normed
        + out
    )


FAMILIES = (
    Family(
        ("falcon_h1",),
        falcon_h1,
        classes=("FalconH1Model", "FalconH1ForCausalLM"),
        ignores=frozenset(
            (
                *("attention_in_multiplier", "attention_out_multiplier", "key_multiplier", "lm_head_multiplier"),
                *("mlp_multipliers", "ssm_in_multiplier", "ssm_multipliers", "ssm_out_multiplier", "mamba_d_head"),
                *(
                    "mamba_norm_before_gate",
                    "mamba_expand",
                    "mamba_use_mlp",
                    "attn_layer_indices",
                    "mlp_expansion_factor",
                ),
            )
        ),
    ),
)
