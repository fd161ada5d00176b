"""EXAONE 4 and OLMo 2 and 3: norms behind both blocks, and over queries and keys."""

from services.parser.layers import gated_layer
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import norm


def exaone4(c: Section) -> Network:
    """EXAONE 4: the norms over queries and keys have a head's width."""
    layer = gated_layer(c, bias=False, head_norm=True)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def olmo2(c: Section) -> Network:
    """OLMo 2 and 3: the norms over queries and keys span all heads."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_width = c.stated_integer("head_dim") or width // heads
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    layer = gated_layer(c) + norm(heads * head_width) + norm(kv_heads * head_width)
    return decoder(c, c.integer("num_hidden_layers") * layer, width)


FAMILIES = (
    Family(("exaone4",), exaone4, classes=classes(DECODER, "Exaone4")),
    Family(
        ("olmo2", "olmo3"),
        olmo2,
        classes=(
            "Olmo2Model",
            "Olmo2ForCausalLM",
            "Olmo2ForSequenceClassification",
            "Olmo3Model",
            "Olmo3ForCausalLM",
            "Olmo3ForSequenceClassification",
        ),
    ),
)
