"""GLM-4.1V: a tower of gated layers without bias, whose output is downsampled and passes a gated merger."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, embedding, gated, linear, norm, uncached


def glm4v(c: Section) -> Network:
    """GLM-4.1V with the dense language model; the tower's own blocks are as wide as its output."""
    if c.section("text_config"):
        language = catalogue.language_part(
            c, "text_config", "glm4v_moe_text" if c.model_type == "glm4v_moe" else "glm4v_text"
        )
    else:
        language = catalogue.describe(c.merged({"model_type": "glm4"}), "", "TextForCausalLM")
    v = c.section("vision_config")
    width, patch, out = v.integer("hidden_size"), v.integer("patch_size"), v.integer("out_hidden_size")
    merge = v.integer("spatial_merge_size", default=2)
    layer = (
        attention(width, v.integer("num_heads"), bias=v.flag("attention_bias"), output_bias=False)
        + gated(width, out)
        + 2 * norm(width)
    )
    patches = convolution(
        v.integer("in_channels", default=3), width, v.integer("temporal_patch_size", default=2), patch, patch
    )
    positions = embedding((v.integer("image_size") // patch) ** 2, width)
    tower = patches + positions + v.integer("depth") * layer + 2 * norm(width)
    merger = linear(out, out) + norm(out, bias=True) + gated(out, v.integer("intermediate_size"))
    downsample = convolution(width, out, merge, merge)
    return Network({**language.parts, "vision_tower": uncached(tower), "projector": downsample + merger})


FAMILIES = (
    Family(
        ("glm4v", "glm4v_moe", "glm46v"),
        glm4v,
        classes=("Glm4vForConditionalGeneration", "Glm4vMoeForConditionalGeneration", "Glm46VForConditionalGeneration"),
        parts=("glm4v_vision", "glm4v_moe_vision"),
    ),
)
