"""PaliGemma, Aya Vision's successor Command A Vision, and EXAONE 4.5: known towers before known language models."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, gated, linear, norm, uncached

_SEES = ("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT")
_TEMPORAL = 2


def paligemma(c: Section) -> Network:
    """PaliGemma 1 and 2: SigLIP without its pooling head, one projection, Gemma."""
    vision = c.section("vision_config")
    language = catalogue.language_part(c, "text_config", "gemma", "TextForCausalLM")
    tower = catalogue.tower(c, "vision_config", "siglip_vision_model")
    width = c.section("text_config").integer("hidden_size", default=2048)
    projector = linear(vision.integer("hidden_size"), c.integer("projection_dim", default=width), bias=True)
    return Network({**language.parts, "vision_tower": tower, "projector": projector})


def cohere2_vision(c: Section) -> Network:
    """Command A Vision: patches are merged, and a gated projection leads to Cohere 2."""
    language = catalogue.language_part(c, "text_config", "cohere2")
    tower = catalogue.tower(c, "vision_config", "siglip_vision_model")
    merged = c.section("vision_config").integer("hidden_size") * c.integer("downsample_factor", default=2) ** 2
    inner, width = c.integer("alignment_intermediate_size", default=36864), c.section("text_config").integer(
        "hidden_size"
    )
    projector = linear(merged, inner, bias=True) + linear(inner // 2, width, bias=True)
    return Network({**language.parts, "vision_tower": tower, "projector": projector})


def exaone4_5(c: Section) -> Network:
    """EXAONE 4.5: the tower of Qwen2.5-VL with grouped queries."""
    language = catalogue.language_part(c, "text_config", "exaone4")
    return Network({**language.parts, "vision_tower": uncached(_grouped_tower(c.section("vision_config")))})


def _grouped_tower(v: Section) -> Tally:
    width, heads, patch = v.integer("hidden_size"), v.integer("num_heads"), v.integer("patch_size", default=14)
    kv_heads = v.integer("num_key_value_heads", default=heads)
    layer = attention(width, heads, kv_heads, bias=True) + gated(width, v.integer("intermediate_size"), bias=True)
    frames = v.integer("temporal_patch_size", default=_TEMPORAL)
    patches = convolution(v.integer("in_channels", default=3), width, frames, patch, patch, bias=False)
    merged = width * v.integer("spatial_merge_size", default=2) ** 2
    merger = norm(width) + linear(merged, merged, bias=True)
    merger += linear(merged, v.integer("out_hidden_size"), bias=True)
    return patches + v.integer("depth") * (layer + 2 * norm(width)) + merger


FAMILIES = (
    Family(
        ("paligemma",),
        paligemma,
        capabilities=_SEES,
        classes=("PaliGemmaForConditionalGeneration",),
        ignores=frozenset(
            (
                "num_image_tokens",
                "vocab_size",
                "projection_dim",
                "use_bidirectional_attention",
                "hidden_size",
                "num_positions",
            )
        ),
    ),
    Family(("cohere2_vision",), cohere2_vision, capabilities=_SEES, classes=("Cohere2VisionForConditionalGeneration",)),
    Family(
        ("exaone4_5",),
        exaone4_5,
        capabilities=_SEES,
        classes=("Exaone4_5_ForConditionalGeneration",),
        ignores=frozenset(
            ("num_nextn_predict_layers", "_num_mtp_layers", "mtp_loss_scaling_factor", "mtp_share_layers")
        ),
        parts=("exaone4_5_vision", "exaone4_5_text"),
    ),
)
