"""ERNIE 4.5 VL: experts for words and experts for pictures in each layer, a resampler in space and time."""

from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, experts, gated, linear, norm, plain, uncached


def ernie_vl(c: Section) -> Network:
    """ERNIE 4.5 VL in the library's format."""
    t, v = c.section("text_config"), c.section("vision_config")
    tied = c.flag("tie_word_embeddings", default=t.flag("tie_word_embeddings", default=True))
    t = t.merged({"architectures": ["TextForCausalLM"], "tie_word_embeddings": tied})
    width = t.integer("hidden_size")
    language = decoder(t, _layers(t), width, tied=True)
    return Network({**language.parts, "vision_tower": uncached(_tower(v)), "resampler": _resampler(v, width)})


def _layers(t: Section) -> Tally:
    width, depth = t.integer("hidden_size"), t.integer("num_hidden_layers")
    count, chosen = t.integer("moe_num_experts"), t.integer("moe_k")
    words, pictures = t.integers("moe_intermediate_size")
    # A token passes through experts of its own kind alone, and most tokens are words.
    mixture = experts(count, chosen, gated(width, words)) + experts(count, 0, gated(width, pictures))
    routers = 2 * (linear(width, count) + count)
    shared = gated(width, words * t.integer("moe_num_shared_experts"))
    dense = t.items("mlp_layer_types")[:depth].count("dense")
    attending = grouped_attention(t, bias=False, output_bias=False) + 2 * norm(width)
    sparse = mixture + routers + shared
    return depth * attending + dense * gated(width, t.integer("intermediate_size")) + (depth - dense) * sparse


def _tower(v: Section) -> Tally:
    width, patch = v.integer("hidden_size"), v.integer("patch_size")
    layer = attention(width, v.integer("num_heads"), bias=True) + plain(width, v.integer("intermediate_size"))
    pixels = v.integer("in_channels", default=3) * patch**2
    return linear(pixels, width) + v.integer("depth") * (layer + 2 * norm(width, bias=True)) + norm(width, bias=True)


def _resampler(v: Section, width: int) -> Tally:
    merged = v.integer("hidden_size") * v.integer("spatial_merge_size", default=2) ** 2
    frames = v.integer("temporal_merge_size", default=2)
    space = linear(merged, merged, bias=True)
    stages = space + linear(frames * merged, merged, bias=True) + 2 * (space + norm(merged, bias=True))
    return stages + linear(merged, width, bias=True) + norm(width)


FAMILIES = (
    Family(
        ("ernie4_5_vl_moe",),
        ernie_vl,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("Ernie4_5_VLMoeForConditionalGeneration",),
        assumes={"use_bias": (False,)},
        parts=("ernie4_5_vl_moe_text", "ernie4_5_vl_moe_vision"),
    ),
)
