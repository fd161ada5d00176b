"""Gemma 1 to 3: tied heads, wide heads, and from the second on norms around both blocks."""

from services.parser import catalogue
from services.parser.layers import gated_layer
from services.parser.network import DECODER, Family, Network, classes, decoder
from services.parser.section import Section
from services.parser.tally import linear, norm

# The library's defaults, which the published configurations of Gemma 3 leave out.
_GEMMA3 = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
}


def gemma(c: Section) -> Network:
    """Gemma 1."""
    return _gemma(c.merged({"head_dim": c.integer("head_dim", default=256)}), norms=2)


def gemma2(c: Section) -> Network:
    """Gemma 2."""
    return _gemma(c.merged({"head_dim": c.integer("head_dim", default=256)}), norms=4)


def gemma3_text(c: Section) -> Network:
    """The text part of Gemma 3."""
    stated = {name: c.integer(name, default=default) for name, default in _GEMMA3.items()}
    return _gemma(c.merged(stated), norms=4, head_norm=True)


def gemma3(c: Section) -> Network:
    """Gemma 3 with its SigLIP tower, which has no pooling head."""
    vision = c.section("vision_config")
    if "vision_use_head" not in vision:
        c.doubt("the library adds a pooling head to the tower where the configuration does not say that there is none")
    c = c.merged({"vision_config": {**vision.values, "vision_use_head": vision.flag("vision_use_head")}})
    language = catalogue.language_part(c, "text_config", "gemma3_text", "Gemma3ForCausalLM")
    tower = catalogue.tower(c, "vision_config", "siglip_vision_model")
    seen = vision.integer("hidden_size")
    width = c.section("text_config").integer("hidden_size", default=_GEMMA3["hidden_size"])
    return Network({**language.parts, "vision_tower": tower, "projector": norm(seen) + linear(seen, width)})


def _gemma(c: Section, *, norms: int, head_norm: bool = False) -> Network:
    layer = gated_layer(c, norms=norms, head_norm=head_norm)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"), tied=True)


FAMILIES = (
    Family(("gemma", "vaultgemma"), gemma, classes=classes(DECODER, "Gemma", "VaultGemma")),
    Family(("gemma2",), gemma2, classes=classes(DECODER, "Gemma2")),
    Family(
        ("gemma3_text",),
        gemma3_text,
        classes=("Gemma3TextModel", "Gemma3ForCausalLM", "Gemma3TextForSequenceClassification"),
        ignores=frozenset(("use_bidirectional_attention",)),
    ),
    Family(("gemma3",), gemma3, classes=("Gemma3ForConditionalGeneration",)),
)
