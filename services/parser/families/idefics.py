"""Idefics3 and SmolVLM, PaddleOCR-VL, MiniCPM-V 4.6 and LFM2-VL: SigLIP-like towers with merged patches."""

from services.parser import catalogue
from services.parser.families import clip
from services.parser.layers import grouped_attention
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, gated, linear, norm, uncached


def idefics3(c: Section) -> Network:
    """Idefics3 and SmolVLM: pixel shuffle and one projection."""
    language, v = catalogue.language_part(c, "text_config", "llama"), c.section("vision_config")
    seen, factor = v.integer("hidden_size"), c.integer("scale_factor", default=2)
    projector = linear(seen * factor**2, c.section("text_config").integer("hidden_size"))
    return Network({**language.parts, "vision_tower": _siglip(v), "projector": projector})


def paddleocr_vl(c: Section) -> Network:
    """PaddleOCR-VL: ERNIE 4.5 and a projector of two layers; the published files hold parts that nothing uses, too."""
    kind = {"model_type": "ernie4_5", "architectures": ["Ernie4_5ForCausalLM"]}
    if c.section("text_config"):
        language = catalogue.language_part(c, "text_config", "ernie4_5")
    else:
        language = catalogue.describe(c.merged(kind))
    v = c.section("vision_config")
    seen, width = v.integer("hidden_size"), c.integer("hidden_size")
    merged = seen * v.integer("spatial_merge_size", default=2) ** 2
    projector = norm(seen, bias=True) + linear(merged, merged, bias=True) + linear(merged, width, bias=True)
    parts = {**language.parts, "vision_tower": _siglip(v), "projector": projector}
    return Network(
        parts, exact=False, why="the published files of PaddleOCR-VL also hold a pooling head that nothing uses"
    )


def minicpm_v46(c: Section) -> Network:
    """MiniCPM-V 4.6: Qwen3.5 behind a tower that merges its patches once in the middle and again at the end."""
    language, v = catalogue.language_part(c, "text_config", "qwen3_5_text"), c.section("vision_config")
    seen, width = v.integer("hidden_size"), c.section("text_config").integer("hidden_size")
    inner = v.integer("intermediate_size")
    rows, columns = v.integers("window_kernel_size", default=(2, 2))
    merged = seen * rows * columns
    middle = uncached(attention(seen, v.integer("num_attention_heads"), bias=True)) + norm(seen, bias=True)
    middle += norm(merged, bias=True)
    middle += linear(merged, inner * rows * columns, bias=True) + linear(inner * rows * columns, seen, bias=True)
    times = c.integer("merger_times", default=1)
    last = linear(merged, merged, bias=True) + linear(merged, width, bias=True) + norm(merged, bias=True)
    between = linear(merged, merged, bias=True) + linear(merged, seen, bias=True) + norm(merged, bias=True)
    projector = last + (times - 1) * between
    parts = {**language.parts, "vision_tower": _siglip(v) + middle, "projector": projector}
    return Network(parts, language.prediction)


def lfm2_vl(c: Section) -> Network:
    """LFM2-VL."""
    language = catalogue.language_part(c, "text_config", "lfm2")
    tower = catalogue.tower(c, "vision_config", "siglip2_vision_model")
    seen = c.section("vision_config").integer("hidden_size") * c.integer("downsample_factor", default=2) ** 2
    inner, width = c.integer("projector_hidden_size", default=2560), c.section("text_config").integer("hidden_size")
    bias = c.flag("projector_bias", default=True)
    projector = linear(seen, inner, bias) + linear(inner, width, bias)
    projector += norm(seen, bias=True) if c.flag("projector_use_layernorm", default=True) else 0
    return Network({**language.parts, "vision_tower": tower, "projector": projector})


def lfm2(c: Section) -> Network:
    """LFM2: short gated convolutions, and attention with norms over heads here and there; always tied."""
    width = c.integer("hidden_size")
    inner = c.integer("block_ff_dim", "intermediate_size")
    if c.flag("block_auto_adjust_ff_dim", default=True):
        inner = int(c.number("block_ffn_dim_multiplier", default=1.0) * int(2 * inner / 3))
        multiple = c.integer("block_multiple_of", default=256)
        inner = -(-inner // multiple) * multiple
    bias = c.flag("conv_bias")
    kernel = convolution(width, width, c.integer("conv_L_cache", default=3), bias=bias, groups=width)
    mixer = linear(width, 3 * width, bias) + kernel + linear(width, width, bias)
    attending = grouped_attention(c, bias=False, output_bias=False, head_norm=True)
    layers = Tally()
    for kind in c.items("layer_types")[: c.integer("num_hidden_layers")]:
        layers += gated(width, inner) + 2 * norm(width) + (attending if kind == "full_attention" else mixer)
    tied = c.flag("tie_embedding", "tie_word_embeddings", default=True)
    return decoder(c.merged({"tie_word_embeddings": tied}), layers, width)


def _siglip(v: Section) -> Tally:
    width, patch = v.integer("hidden_size"), v.integer("patch_size")
    places = (v.integer("image_size") // patch) ** 2
    stem = convolution(v.integer("num_channels", default=3), width, patch, patch) + embedding(places, width)
    return uncached(stem) + clip.layers(v) + norm(width, bias=True)


FAMILIES = (
    Family(
        ("idefics3", "smolvlm"),
        idefics3,
        classes=("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"),
        ignores=frozenset(("max_image_size", "size", "vocab_size")),
        assumes={"tie_word_embeddings": (True,)},
        parts=("idefics3_vision", "smolvlm_vision"),
    ),
    Family(("paddleocr_vl",), paddleocr_vl, classes=("PaddleOCRVLForConditionalGeneration",)),
    Family(
        ("minicpmv4_6", "minicpmv4_7"),
        minicpm_v46,
        classes=(
            "MiniCPMV4_6ForConditionalGeneration",
            "MiniCPMV4_7ForConditionalGeneration",
        ),
        ignores=frozenset(
            (
                "drop_vision_last_layer",
                "image_size",
                "insert_layer_id",
                "merge_kernel_size",
                "patch_size",
                "downsample_mode",
            )
        ),
        parts=(
            "minicpmv4_6_vision",
            "minicpmv4_7_vision",
        ),
    ),
    Family(
        ("lfm2_vl",),
        lfm2_vl,
        classes=("Lfm2VlForConditionalGeneration",),
        ignores=frozenset(
            (
                "do_image_splitting",
                "encoder_patch_size",
                "max_image_tokens",
                "max_pixels_tolerance",
                "max_tiles",
                "min_image_tokens",
                "min_tiles",
                "tile_size",
                "use_image_special_tokens",
            )
        ),
    ),
    Family(
        ("lfm2",),
        lfm2,
        classes=("Lfm2Model", "Lfm2ForCausalLM"),
        ignores=frozenset(
            (
                "full_attn_idxs",
                "block_dim",
                "block_mlp_init_scale",
                "block_out_init_scale",
                "block_use_swiglu",
                "block_use_xavier_init",
                "conv_dim",
                "conv_dim_out",
                "conv_use_xavier_init",
                "num_heads",
                "use_pos_enc",
            )
        ),
    ),
)
