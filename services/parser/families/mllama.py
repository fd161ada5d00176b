"""Llama 3.2 Vision: a language model some of whose layers attend to a tiled vision tower instead of to themselves."""

from services.parser.layers import gated_layer
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, plain, uncached

# The token for pictures and its kin have embeddings but no output.
_EXTRA_EMBEDDINGS = 8
_CROSSING = 8


def mllama(c: Section) -> Network:
    """Llama 3.2 11B and 90B Vision."""
    language, vision = mllama_text(c.section("text_config")), c.section("vision_config")
    seen = vision.integer("hidden_size", default=1280)
    states = len(vision.items("intermediate_layers_indices")) or 5
    out = vision.integer("vision_output_dim", default=seen * (1 + states))
    projector = linear(out, c.section("text_config").integer("hidden_size", default=4096), bias=True)
    return Network({**language.parts, "vision_tower": _tower(vision), "projector": projector})


def mllama_text(c: Section) -> Network:
    """The language model: cross_attention_layers are among num_hidden_layers."""
    c = c.with_defaults(_TEXT)
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    heads, kv_heads = c.integer("num_attention_heads"), c.integer("num_key_value_heads")
    stated = [index for index in c.items("cross_attention_layers") if isinstance(index, int)]
    crossings = sum(1 for index in stated if index < depth) if stated else _CROSSING
    crossing = (
        attention(width, heads, kv_heads, inputs=width)
        + 2 * norm(width // heads)
        + gated(width, c.integer("intermediate_size"))
        + 2 * norm(width)
        + 2
    )
    layers = (depth - crossings) * gated_layer(c) + crossings * crossing
    # The head has no output for the extra tokens, so it is never tied.
    untied = {"architectures": ["MllamaForCausalLM"], "tie_word_embeddings": False}
    network = decoder(c.merged(untied), layers, width)
    return Network({**network.parts, "extra_embeddings": embedding(_EXTRA_EMBEDDINGS, width)})


def _tower(v: Section) -> Tally:
    width, patch = v.integer("hidden_size", default=1280), v.integer("patch_size", default=14)
    tiles, shapes = v.integer("max_num_tiles", default=4), (len(v.items("supported_aspect_ratios")) or 8) + 1
    places = (v.integer("image_size", default=560) // patch) ** 2 + 1
    block = attention(width, v.integer("attention_heads", default=16))
    block += plain(width, v.integer("intermediate_size", default=5120)) + 2 * norm(width, bias=True)
    depth, overall = v.integer("num_hidden_layers", default=32), v.integer("num_global_layers", default=8)
    positions = embedding(places, width) + embedding(shapes, tiles * places * width) + 1
    around = 2 * (embedding(shapes, tiles * width) + 1)
    stem = convolution(v.integer("num_channels", default=3), width, patch, patch, bias=False) + width
    return uncached(stem + positions + around + 2 * norm(width, bias=True) + depth * block + overall * (block + 2))


_TEXT = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}

FAMILIES = (
    Family(
        ("mllama",),
        mllama,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("MllamaForConditionalGeneration",),
        assumes={"tie_word_embeddings": (True,)},
        parts=("mllama_text_model", "mllama_vision_model"),
    ),
    Family(("mllama_text_model",), mllama_text, classes=("MllamaForCausalLM",)),
)
