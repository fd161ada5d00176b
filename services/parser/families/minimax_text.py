"""MiniMax Text 01 and M1: lightning attention with a gated output in most layers, experts everywhere."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, linear, norm


def minimax(c: Section) -> Network:
    """MiniMax Text 01."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    inner = heads * (c.stated_integer("head_dim") or width // heads)
    lightning = linear(width, 3 * inner) + linear(inner, width) + linear(width, inner) + norm(inner)
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok")
    mixture = routed(width, count, chosen, c.integer("intermediate_size")) + 2 * norm(width)
    layers = Tally()
    # The publisher's word for the types of layers is 1 for attention over everything.
    kinds = c.items("layer_types", "attn_type_list")
    for index in range(c.integer("num_hidden_layers")):
        full = kinds[index] in ("full_attention", 1)
        layers += mixture + (grouped_attention(c, bias=False, output_bias=False) if full else lightning)
    return decoder(c, layers, width)


FAMILIES = (
    Family(
        ("minimax", "minimax_text_01", "minimax_m1"),
        minimax,
        classes=("MiniMaxModel", "MiniMaxForCausalLM", "MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"),
        ignores=frozenset(
            (
                *("block_size", "full_attn_alpha_factor", "full_attn_beta_factor", "linear_attn_alpha_factor"),
                *("linear_attn_beta_factor", "mlp_alpha_factor", "mlp_beta_factor", "attn_type_list", "postnorm"),
                *(
                    "layernorm_full_attention_alpha",
                    "layernorm_full_attention_beta",
                    "layernorm_linear_attention_alpha",
                ),
                *("layernorm_linear_attention_beta", "layernorm_mlp_alpha", "layernorm_mlp_beta"),
                *("shared_moe_mode", "linear_attention"),
            )
        ),
        assumes={"shared_intermediate_size": (0,)},
    ),
)
