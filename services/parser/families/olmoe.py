"""OLMoE: norms over all queries and keys, 64 small experts."""

from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import norm


def olmoe(c: Section) -> Network:
    """OLMoE 1B-7B."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    head_norms = norm((heads + kv_heads) * (width // heads))
    mixture = routed(
        width,
        c.integer("num_experts", "num_local_experts", default=64),
        c.integer("num_experts_per_tok", default=8),
        c.integer("intermediate_size"),
    )
    layer = grouped_attention(c) + head_norms + mixture + 2 * norm(width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


FAMILIES = (
    Family(
        ("olmoe", "flex_olmo"),
        olmoe,
        classes=("OlmoeModel", "OlmoeForCausalLM", "FlexOlmoModel", "FlexOlmoForCausalLM"),
    ),
)
