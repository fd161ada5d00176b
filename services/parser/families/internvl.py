"""InternVL: InternViT, a projector of two layers behind a pixel shuffle, any language model."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached


def internvl(c: Section) -> Network:
    """InternVL 1.5 to 3 as its authors publish it."""
    llm, v = c.section("llm_config"), c.section("vision_config")
    language = catalogue.describe(llm, "", llm.architecture or "LlamaForCausalLM")
    seen, width = v.integer("hidden_size"), llm.integer("hidden_size")
    shuffled = seen * int(1 / c.number("downsample_ratio", default=0.5)) ** 2
    projector = norm(shuffled, bias=True) + linear(shuffled, width, bias=True) + linear(width, width, bias=True)
    return Network({**language.parts, "vision_tower": tower(v), "projector": projector})


def tower(v: Section) -> Tally:
    """InternViT: layer scales, and norms over queries and keys in the largest."""
    width, patch = v.integer("hidden_size"), v.integer("patch_size")
    norms = 2 * norm(width, bias=v.text("norm_type") != "rms_norm")
    layer = attention(width, v.integer("num_attention_heads"), bias=v.flag("qkv_bias"), output_bias=True)
    layer += plain(width, v.integer("intermediate_size")) + norms + 2 * width
    layer += 2 * norm(width) if v.flag("qk_normalization") else 0
    places = (v.integer("image_size") // patch) ** 2 + 1
    stem = convolution(v.integer("num_channels", default=3), width, patch, patch) + embedding(places, width) + width
    return uncached(stem + v.integer("num_hidden_layers") * layer)


FAMILIES = (
    Family(
        ("internvl_chat",),
        internvl,
        classes=("InternVLChatModel",),
        assumes={"bias": (False,)},
        parts=("intern_vit_6b",),
    ),
)
