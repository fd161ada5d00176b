"""Qwen2 with routed experts and one gated shared expert."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, gated, linear, norm


def qwen2_moe(c: Section) -> Network:
    """Qwen1.5-MoE and Qwen2-57B-A14B."""
    width = c.integer("hidden_size")
    bias = c.flag("qkv_bias", default=True)
    attending = grouped_attention(c, bias=bias, output_bias=False) + 2 * norm(width)
    mixture = routed(
        width,
        c.integer("num_experts", default=60),
        c.integer("num_experts_per_tok", default=4),
        c.integer("moe_intermediate_size", default=1408),
        shared_inner=c.integer("shared_expert_intermediate_size", default=5632),
    ) + linear(width, 1)
    step, dense_layers = c.integer("decoder_sparse_step", default=1), c.items("mlp_only_layers")
    layers = Tally()
    for index in range(c.integer("num_hidden_layers")):
        sparse = index not in dense_layers and (index + 1) % step == 0
        layers += attending + (mixture if sparse else gated(width, c.integer("intermediate_size")))
    return decoder(c, layers, width)


FAMILIES = (
    Family(("qwen2_moe",), qwen2_moe, classes=classes(DECODER, "Qwen2Moe"), ignores=frozenset(("intermediate_size",))),
)
