"""Arcee's AFM and NVIDIA's Nemotron: Llama's attention with plain feed-forward blocks."""

from services.parser.layers import grouped_attention
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import norm, plain


def arcee(c: Section) -> Network:
    """AFM-4.5B."""
    width = c.integer("hidden_size")
    layer = grouped_attention(c) + plain(width, c.integer("intermediate_size"), c.flag("mlp_bias")) + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


def nemotron(c: Section) -> Network:
    """Nemotron 3 to 4: LayerNorms with bias."""
    width = c.integer("hidden_size")
    feed_forward = plain(width, c.integer("intermediate_size"), c.flag("mlp_bias"))
    layer = grouped_attention(c) + feed_forward + 2 * norm(width, bias=True)
    return decoder(c, c.integer("num_hidden_layers") * layer, width, norms=2)


FAMILIES = (
    Family(("arcee",), arcee, classes=classes(DECODER, "Arcee")),
    Family(("nemotron",), nemotron, classes=classes(DECODER, "Nemotron")),
)
