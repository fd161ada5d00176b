"""ERNIE 4.5: dense like Llama, and with routed and shared experts between a first and a last layer."""

from services.parser.layers import gated_layer, grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, gated, norm


def ernie(c: Section) -> Network:
    """ERNIE 4.5 dense: use_bias is its word for attention_bias."""
    bias = c.flag("use_bias")
    layer = gated_layer(c.merged({"mlp_bias": bias}), bias=bias, output_bias=bias)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"), tied=True)


def ernie_moe(c: Section) -> Network:
    """ERNIE 4.5 with experts; the correction that balances them is a stored parameter."""
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    bias = c.flag("use_bias")
    if bias:
        c.doubt("with biases, the experts of ERNIE are not described")
    attending = grouped_attention(c, bias=bias, output_bias=bias) + 2 * norm(width)
    count, inner = c.integer("moe_num_experts"), c.integer("moe_intermediate_size")
    shared = inner * (c.stated_integer("moe_num_shared_experts") or 0)
    mixture = routed(width, count, c.integer("moe_k"), inner, shared_inner=shared) + count
    first, last = c.integer("moe_layer_start_index", default=1), c.integer("moe_layer_end_index", default=depth - 1)
    interval = c.integer("moe_layer_interval", default=1)
    layers = Tally()
    for index in range(depth):
        sparse = first <= index <= last and (index + 1) % interval == 0
        layers += attending + (mixture if sparse else gated(width, c.integer("intermediate_size"), bias))
    return decoder(c, layers, width, tied=True)


FAMILIES = (
    Family(("ernie4_5",), ernie, classes=("Ernie4_5Model", "Ernie4_5ForCausalLM")),
    Family(("ernie4_5_moe",), ernie_moe, classes=("Ernie4_5_MoeModel", "Ernie4_5_MoeForCausalLM")),
)
