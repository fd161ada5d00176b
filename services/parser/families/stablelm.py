"""StableLM, StarCoder 2 and Persimmon: rotary decoders with LayerNorms."""

from services.parser.layers import gated_layer, grouped_attention
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, norm, plain


def stablelm(c: Section) -> Network:
    """StableLM 2 and its predecessors: one norm when attention and feed-forward lie side by side."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    norms = (1 if c.flag("use_parallel_residual") else 2) * norm(width, bias=True)
    head_norms = Tally((heads + kv_heads) * (width // heads)) if c.flag("qk_layernorm") else Tally()
    layer = gated_layer(c, bias=c.flag("use_qkv_bias"), output_bias=False, norms=0) + norms + head_norms
    return decoder(c, c.integer("num_hidden_layers") * layer, width, norms=2)


def starcoder2(c: Section) -> Network:
    """StarCoder 2: use_bias is its word for every bias."""
    width, bias = c.integer("hidden_size"), c.flag("use_bias", default=True)
    attending = grouped_attention(c, bias=bias, output_bias=bias)
    layer = attending + plain(width, c.integer("intermediate_size"), bias) + 2 * norm(width, bias=True)
    return decoder(c, c.integer("num_hidden_layers") * layer, width, tied=True, norms=2)


def persimmon(c: Section) -> Network:
    """Persimmon and Fuyu's text part."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_norms = 2 * norm(width // heads, bias=True) if c.flag("qk_layernorm", default=True) else Tally()
    layer = attention(width, heads, bias=True) + head_norms + plain(width, c.integer("intermediate_size"))
    return decoder(c, c.integer("num_hidden_layers") * (layer + 2 * norm(width, bias=True)), width, norms=2)


FAMILIES = (
    Family(
        ("stablelm", "stablelm_epoch"),
        stablelm,
        classes=(*classes(DECODER, "StableLm"), "StableLMEpochForCausalLM"),
        ignores=frozenset(("num_heads", "rope_pct", "rotary_scaling_factor")),
    ),
    Family(("starcoder2",), starcoder2, classes=classes(DECODER, "Starcoder2")),
    Family(("persimmon",), persimmon, classes=classes(DECODER, "Persimmon")),
)
