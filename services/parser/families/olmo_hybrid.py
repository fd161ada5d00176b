"""OLMo hybrid: gated DeltaNet in most layers, attention with norms over all heads in the others."""

from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.state_space import gated_delta
from services.parser.tally import Tally, gated, norm


def olmo_hybrid(c: Section) -> Network:
    """OLMo 3 hybrid."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head = c.stated_integer("head_dim") or width // heads
    delta = gated_delta(
        width,
        c.integer("linear_num_key_heads", default=heads),
        c.integer("linear_num_value_heads", default=heads),
        c.integer("linear_key_head_dim"),
        c.integer("linear_value_head_dim"),
        c.integer("linear_conv_kernel_dim", default=4),
    )
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    attending = grouped_attention(c) + norm((heads + kv_heads) * head)
    kinds, layers = c.items("layer_types"), Tally()
    for index in range(c.integer("num_hidden_layers")):
        layers += attending if kinds[index] == "full_attention" else delta
    block = gated(width, c.integer("intermediate_size")) + 2 * norm(width)
    return decoder(c, layers + c.integer("num_hidden_layers") * block, width)


FAMILIES = (
    Family(
        ("olmo_hybrid",),
        olmo_hybrid,
        classes=("OlmoHybridModel", "OlmoHybridForCausalLM"),
        ignores=frozenset(
            (
                *("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor"),
                *("linear_allow_neg_eigval", "linear_use_gate"),
            )
        ),
    ),
)
