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


def library(c: Section) -> Network:
    """InternVL 3 and 3.5 in the library's format."""
    language, v = catalogue.language_part(c, "text_config", "qwen2"), c.section("vision_config")
    width, seen = c.section("text_config").integer("hidden_size"), v.integer("hidden_size", default=1024)
    shuffled = int(seen * (1 / c.number("downsample_ratio", default=0.5)) ** 2)
    projector = norm(shuffled, bias=True) + linear(shuffled, width, bias=True) + linear(width, width, bias=True)
    return Network({**language.parts, "vision_tower": _library_tower(v), "projector": projector})


def _library_tower(v: Section) -> Tally:
    width, bias = v.integer("hidden_size", default=1024), v.flag("attention_bias")
    norms = norm(width, bias=v.text("norm_type", default="layer_norm") != "rms_norm")
    rows, columns = _pair(v, "patch_size", 14)
    height, breadth = _pair(v, "image_size", 448)
    layer = attention(width, v.integer("num_attention_heads", default=16), bias=bias, output_bias=True)
    layer += plain(width, v.integer("intermediate_size", default=4096)) + 2 * norms + 2 * width
    layer += 2 * norm(width) if v.flag("use_qk_norm") else 0
    places = (height // rows) * (breadth // columns) + 1
    stem = convolution(v.integer("num_channels", default=3), width, rows, columns) + width
    stem += embedding(places, width) if v.flag("use_absolute_position_embeddings", default=True) else 0
    stem += width if v.flag("use_mask_token") else 0
    stem += Tally() if v.flag("use_mean_pooling", default=True) else norm(width, bias=True)
    return uncached(stem + v.integer("num_hidden_layers", default=24) * layer)


def _pair(v: Section, name: str, default: int) -> tuple[int, int]:
    sizes = v.integers(name, default=()) or (v.integer(name, default=default),)
    return sizes[0], sizes[-1]


FAMILIES = (
    Family(
        ("internvl",),
        library,
        classes=("InternVLForConditionalGeneration",),
        ignores=frozenset(("layer_scale_init_value", "vision_feature_layer", "projection_dropout")),
        parts=("internvl_vision",),
    ),
    Family(
        ("internvl_chat",),
        internvl,
        classes=("InternVLChatModel",),
        # Sections that the vendor wrote state a mixture that is not there, and what it would be like.
        ignores=frozenset(
            (
                *(
                    "laux_allreduce",
                    "moe_coeff_ratio",
                    "moe_intermediate_size",
                    "moe_output_scale",
                    "noisy_gate_policy",
                ),
                *("num_experts", "num_routed_experts", "num_shared_experts", "shared_expert_intermediate_size"),
                *("use_residual", "use_rts", "use_weighted_residual", "pad2square"),
            )
        ),
        assumes={"bias": (False,), "use_moe": (False,)},
        parts=("intern_vit_6b",),
    ),
)
