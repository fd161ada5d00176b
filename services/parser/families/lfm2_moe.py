"""LFM2 with experts: short gated convolutions, attention here and there, dense layers first."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, convolution, gated, linear, norm


def lfm2_moe(c: Section) -> Network:
    """LFM2 8B-A1B and 24B-A2B."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    bias = c.flag("conv_bias")
    kernel = convolution(width, width, c.integer("conv_L_cache", default=3), bias=bias, groups=width)
    mixer = linear(width, 3 * width, bias) + kernel + linear(width, width, bias)
    attending = grouped_attention(c, bias=False, output_bias=False, head_norm=True)
    mixture = routed(
        width, c.integer("num_experts"), c.integer("num_experts_per_tok"), c.integer("moe_intermediate_size")
    )
    dense, layers = c.integer("num_dense_layers"), Tally()
    kinds = c.items("layer_types")
    for index in range(depth):
        layers += attending if kinds[index] == "full_attention" else mixer
        layers += (gated(width, c.integer("intermediate_size")) if index < dense else mixture) + 2 * norm(width)
    tied = c.flag("tie_embedding", "tie_word_embeddings", default=True)
    return decoder(c.merged({"tie_word_embeddings": tied}), layers, width)


FAMILIES = (
    Family(
        ("lfm2_moe",),
        lfm2_moe,
        classes=("Lfm2MoeModel", "Lfm2MoeForCausalLM"),
        ignores=frozenset(
            ("use_expert_bias", "full_attn_idxs", "conv_dim", "conv_dim_out", "num_heads", "use_pos_enc")
        ),
    ),
)
