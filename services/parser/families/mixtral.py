"""Mixtral, whose publisher names models by the number and size of their experts."""

from dataclasses import replace

from services.parser.layers import grouped_attention, routed
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import gated, norm


def mixtral(c: Section) -> Network:
    """Mixtral 8x7B and 8x22B."""
    width = c.integer("hidden_size")
    count, chosen = c.integer("num_local_experts", default=8), c.integer("num_experts_per_tok", default=2)
    layer = grouped_attention(c, bias=False) + routed(width, count, chosen, c.integer("intermediate_size"))
    depth = c.integer("num_hidden_layers")
    network = decoder(c, depth * (layer + 2 * norm(width)), width)
    others = (count - 1) * depth * gated(width, c.integer("intermediate_size"))
    return replace(network, experts=(count, network.total.parameters - others.parameters))


FAMILIES = (Family(("mixtral",), mixtral, classes=classes(DECODER, "Mixtral")),)
