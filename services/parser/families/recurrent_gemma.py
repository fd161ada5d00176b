"""RecurrentGemma: gated linear recurrences with a windowed attention layer now and then."""

from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, convolution, gated, linear, norm, uncached


def recurrent_gemma(c: Section) -> Network:
    """RecurrentGemma, whose configuration states twice the width of the feed-forward block."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    state = c.stated_integer("lru_width") or width
    block = state // heads
    recurrence = (
        2 * linear(width, state, bias=True)
        + linear(state, width, bias=True)
        + convolution(state, state, c.integer("conv1d_width", default=4), groups=state)
        + Tally(state)
        + 2 * heads * linear(block, block, bias=True)
    )
    attending = uncached(grouped_attention(c, output_bias=True))
    feed_forward = gated(width, c.integer("intermediate_size") // 2, bias=True) + 2 * norm(width)
    types = c.items("block_types", "_block_types") or ["recurrent", "recurrent", "attention"]
    layers = Tally()
    for index in range(c.integer("num_hidden_layers")):
        layers += feed_forward + (attending if types[index % len(types)] == "attention" else recurrence)
    return decoder(c, layers, width, tied=True)


FAMILIES = (
    Family(("recurrent_gemma",), recurrent_gemma, classes=("RecurrentGemmaModel", "RecurrentGemmaForCausalLM")),
)
