"""Molmo: a decoder of OLMo's or Qwen2's shape behind CLIP, whose configuration leaves the tower to the code."""

from services.parser import catalogue
from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import embedding, gated, linear, norm

# Words for pictures come after the vocabulary and have no output.
_EXTRA_EMBEDDINGS = 128
# CLIP ViT-L/14 at 336 pixels.
_CLIP = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}


def molmo(c: Section) -> Network:
    """Molmo 7B and 72B; intermediate_size counts gate and up projection together."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    attending = grouped_attention(c, bias=c.flag("qkv_bias"), output_bias=False)
    if c.flag("attention_layer_norm"):
        attending += norm(width) + norm(c.integer("num_key_value_heads", default=heads) * (width // heads))
    layer = attending + gated(width, c.integer("intermediate_size") // 2) + 2 * norm(width)
    entries = c.integer("embedding_size", "vocab_size")
    tied = c.flag("weight_tying", "tie_word_embeddings")
    network = decoder(
        c.merged({"tie_word_embeddings": tied}), c.integer("num_hidden_layers") * layer, width, vocabulary=entries
    )
    tower = catalogue.tower(c.merged({"tower": _CLIP}), "tower", "clip_vision_model")
    seen, inner = _CLIP["hidden_size"], c.integer("intermediate_size") // 2
    # The projector is a gated block whose output is as wide as the decoder.
    projector = 2 * linear(seen, inner) + linear(inner, width)
    parts = {**network.parts, "extra_embeddings": embedding(_EXTRA_EMBEDDINGS, width)}
    return Network(
        {**parts, "vision_tower": tower, "projector": projector},
        exact=False,
        why="the vision tower of Molmo is in its code, not in its configuration",
    )


FAMILIES = (
    Family(("molmo",), molmo, capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"), classes=("MolmoForCausalLM",)),
)
