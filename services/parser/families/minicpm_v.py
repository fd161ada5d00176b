"""MiniCPM-V as its authors publish it: a SigLIP tower and a resampler in front of Qwen2 or MiniCPM."""

from services.parser import catalogue
from services.parser.families import clip
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, embedding, linear, norm, uncached


def minicpm_v(c: Section) -> Network:
    """MiniCPM-V 2.6 and 4: the configuration does not name the language model, its special tokens do."""
    # Qwen2 has biased queries, keys and values; the MiniCPM of the later versions states that it has none.
    kind = "llama" if "attention_bias" in c else "qwen2"
    language = catalogue.describe(c.merged({"model_type": kind}), kind, "TextForCausalLM")
    v = c.section("vision_config")
    seen, patch, width = v.integer("hidden_size"), v.integer("patch_size"), c.integer("hidden_size")
    tower = convolution(3, seen, patch, patch) + embedding((v.integer("image_size") // patch) ** 2, seen)
    tower += norm(seen, bias=True)
    if c.flag("drop_vision_last_layer"):
        v = v.merged({"num_hidden_layers": max(v.integer("num_hidden_layers") - 1, 0)})
    # A few learned queries attend to all patches.
    resampler = linear(seen, width) + attention(width, 1, bias=True) + 3 * norm(width, bias=True) + linear(width, width)
    resampler += embedding(c.integer("query_num", default=64), width)
    return Network(
        {**language.parts, "vision_tower": tower + clip.layers(v), "resampler": uncached(resampler)},
        exact=False,
        why="the configuration does not say which language model MiniCPM-V is built on",
    )


FAMILIES = (
    Family(("minicpmv",), minicpm_v, capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"), classes=("MiniCPMV",)),
)
