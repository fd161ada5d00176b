"""Cohere's Command R: attention and feed-forward side by side behind one norm, tied heads."""

from services.parser.layers import gated_layer
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally


def cohere(c: Section) -> Network:
    """Command R, Command R+ with norms over every head, and Command R7B."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    head_norms = Tally((heads + kv_heads) * (width // heads)) if c.flag("use_qk_norm") else Tally()
    return decoder(c, c.integer("num_hidden_layers") * (gated_layer(c, norms=1) + head_norms), width, tied=True)


FAMILIES = (
    Family(
        ("cohere", "cohere2"),
        cohere,
        classes=("CohereModel", "CohereForCausalLM", "Cohere2Model", "Cohere2ForCausalLM"),
    ),
)
