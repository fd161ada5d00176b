"""OpenAI's gpt-oss: attention sinks, biases everywhere, experts with biases and a fused gate."""

from services.parser.layers import grouped_attention
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import experts, gated, linear, norm


def gpt_oss(c: Section) -> Network:
    """gpt-oss 20B and 120B."""
    width = c.integer("hidden_size")
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok", "experts_per_token")
    bias = c.flag("attention_bias", default=True)
    sinks = c.integer("num_attention_heads")
    mixture = experts(count, chosen, gated(width, c.integer("intermediate_size"), bias=True))
    router = linear(width, count, bias=True)
    layer = grouped_attention(c, bias=bias, output_bias=bias) + sinks + mixture + router + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


FAMILIES = (Family(("gpt_oss",), gpt_oss, classes=classes(DECODER, "GptOss")),)
