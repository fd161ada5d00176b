"""Mixtral and those that route tokens to experts of full width: Granite MoE, MiniMax M2."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import norm


def mixtral(c: Section) -> Network:
    """Mixtral 8x7B and 8x22B."""
    width = c.integer("hidden_size")
    count, chosen = c.integer("num_local_experts", default=8), c.integer("num_experts_per_tok", default=2)
    layer = grouped_attention(c, bias=False) + routed(width, count, chosen, c.integer("intermediate_size"))
    return decoder(c, c.integer("num_hidden_layers") * (layer + 2 * norm(width)), width)


FAMILIES = (Family(("mixtral",), mixtral),)
