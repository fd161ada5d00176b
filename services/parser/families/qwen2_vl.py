"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a vision transformer of their own over patches in space and time."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, plain, uncached

_TEMPORAL, _CHANNELS = 2, 3


def qwen2_vl(c: Section) -> Network:
    """Qwen2-VL, which calls the width of the tower embed_dim and the width of its output hidden_size."""
    v = c.section("vision_config")
    width = v.integer("embed_dim", default=1280)
    layer = attention(width, v.integer("num_heads", default=16), bias=True) + plain(width, 4 * width)
    blocks = v.integer("depth", default=32) * (layer + 2 * norm(width, bias=True))
    merged = width * _merged(v)
    out = v.integer("hidden_size", default=3584)
    merger = norm(width, bias=True) + linear(merged, merged, bias=True) + linear(merged, out, bias=True)
    return _with_language(c, "qwen2_vl_text", uncached(_patches(v, width, bias=False) + blocks) + merger)


def qwen2_5_vl(c: Section) -> Network:
    """Qwen2.5-VL."""
    return _with_language(c, "qwen2_5_vl_text", gated_tower(c.section("vision_config")))


def gated_tower(v: Section) -> Tally:
    """The tower of Qwen2.5-VL and Qwen2.5-Omni: gated blocks and RMSNorms."""
    width, inner = v.integer("hidden_size", default=1280), v.integer("intermediate_size", default=3420)
    layer = attention(width, v.integer("num_heads", default=16), bias=True) + gated(width, inner, bias=True)
    blocks = v.integer("depth", default=32) * (layer + 2 * norm(width))
    merged = width * _merged(v)
    merger = norm(width) + linear(merged, merged, bias=True)
    merger += linear(merged, v.integer("out_hidden_size", default=3584), bias=True)
    return uncached(_patches(v, width, bias=False) + blocks) + merger


def qwen3_vl(c: Section) -> Network:
    """Qwen3-VL, dense and with experts."""
    return _with_language(c, f"{c.model_type}_text", vision_tower(c.section("vision_config")))


def vision_tower(v: Section) -> Tally:
    """The tower of Qwen3-VL and Qwen3.5: learned positions, and mergers of states from the middle."""
    width, inner = v.integer("hidden_size", default=1152), v.integer("intermediate_size", default=4304)
    layer = attention(width, v.integer("num_heads", default=16), bias=True) + plain(width, inner)
    blocks = v.integer("depth", default=27) * (layer + 2 * norm(width, bias=True))
    positions = embedding(v.integer("num_position_embeddings", default=2304), width)
    merged, out = width * _merged(v), v.integer("out_hidden_size", default=3584)
    merging = linear(merged, merged, bias=True) + linear(merged, out, bias=True)
    mergers = merging + norm(width, bias=True)
    mergers += len(v.items("deepstack_visual_indexes")) * (merging + norm(merged, bias=True))
    return uncached(_patches(v, width, bias=True) + positions + blocks) + mergers


def _with_language(c: Section, kind: str, tower: Tally) -> Network:
    if c.section("text_config"):
        language = catalogue.language_part(c, "text_config", kind)
    else:
        # Before the library had a section for it, the language model was described at the top.
        language = catalogue.describe(c.merged({"model_type": kind}), kind, "TextForCausalLM")
    return Network({**language.parts, "vision_tower": tower}, language.prediction)


def _patches(v: Section, width: int, bias: bool) -> Tally:
    patch = v.integer("patch_size", "spatial_patch_size", default=14)
    return convolution(
        v.integer("in_channels", "in_chans", default=_CHANNELS),
        width,
        v.integer("temporal_patch_size", default=_TEMPORAL),
        patch,
        patch,
        bias=bias,
    )


def _merged(v: Section) -> int:
    return v.integer("spatial_merge_size", default=2) ** 2


FAMILIES = (
    Family(
        ("qwen2_vl",),
        qwen2_vl,
        classes=("Qwen2VLForConditionalGeneration",),
        assumes={"mlp_ratio": (4,)},
        parts=("qwen2_vl_vision",),
    ),
    Family(("qwen2_5_vl",), qwen2_5_vl, classes=("Qwen2_5_VLForConditionalGeneration",), parts=("qwen2_5_vl_vision",)),
    Family(
        ("qwen3_vl", "qwen3_vl_moe"),
        qwen3_vl,
        classes=("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
        parts=("qwen3_vl_vision", "qwen3_vl_moe_vision"),
    ),
)
