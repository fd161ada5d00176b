"""Qwen2 and Qwen2.5, Seed-OSS, and MiMo, which adds a prediction layer to it."""

from services.parser.layers import gated_layer
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import linear, norm


def qwen2(c: Section) -> Network:
    """Llama with biased queries, keys and values."""
    layer = gated_layer(c, bias=c.flag("attention_bias", default=True), output_bias=False)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def seed_oss(c: Section) -> Network:
    """Seed-OSS: the bias of the output has a word of its own."""
    layer = gated_layer(c, bias=c.flag("attention_bias", default=True), output_bias=c.flag("attention_out_bias"))
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def mimo(c: Section) -> Network:
    """MiMo 7B: each prediction layer joins two hidden states and passes them through a layer of the model's kind."""
    network = qwen2(c)
    width = c.integer("hidden_size")
    layer = gated_layer(c, bias=True, output_bias=False)
    extra = layer + linear(2 * width, width) + 3 * norm(width)
    count = c.stated_integer("num_nextn_predict_layers") or 0
    return Network(network.parts, prediction=count * extra.parameters)


_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}

FAMILIES = (
    Family(
        ("qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),
        qwen2,
        defaults=_DEFAULTS,
        classes=(*classes(DECODER, "Qwen2"), "Qwen2VLTextModel", "Qwen2_5_VLTextModel", "Qwen2_5OmniThinkerTextModel"),
    ),
    Family(("seed_oss",), seed_oss, classes=classes(DECODER, "SeedOss")),
    Family(("mimo",), mimo, classes=("MiMoForCausalLM",)),
)
