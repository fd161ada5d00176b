"""Kimi K2.5: DeepSeek's language model behind a vision tower that merges patches."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, embedding, linear, norm, plain, uncached


def kimi_k25(c: Section) -> Network:
    """Kimi K2.5 and K2.7."""
    language, v = catalogue.language_part(c, "text_config", "kimi_k2", "DeepseekV3ForCausalLM"), c.section(
        "vision_config"
    )
    width, patch = v.integer("vt_hidden_size", "hidden_size"), v.integer("patch_size", default=14)
    layer = attention(width, v.integer("vt_num_attention_heads", "num_attention_heads"), bias=True)
    layer += plain(width, v.integer("vt_intermediate_size", "intermediate_size")) + 2 * norm(width, bias=True)
    rows, columns = v.integer("init_pos_emb_height", "pos_emb_height", default=64), v.integer(
        "init_pos_emb_width", "pos_emb_width", default=64
    )
    places = rows * columns
    tower = convolution(3, width, patch, patch) + embedding(places, width) + norm(width, bias=True)
    tower += v.integer("vt_num_hidden_layers", "num_hidden_layers") * layer
    rows, columns = v.integers("merge_kernel_size", default=(2, 2))
    merged, out = width * rows * columns, c.section("text_config").integer("hidden_size")
    projector = norm(width, bias=True) + linear(merged, merged, bias=True) + linear(merged, out, bias=True)
    return Network({**language.parts, "vision_tower": uncached(tower), "projector": projector}, language.prediction)


FAMILIES = (
    Family(
        ("kimi_k25",),
        kimi_k25,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"),
        ignores=frozenset(
            (
                "use_unified_vision_chunk",
                "init_pos_emb_time",
                "pos_emb_time",
                "merge_type",
                "mm_projector_type",
                "pos_emb_type",
                "text_hidden_size",
                "video_attn_type",
                "mm_hidden_size",
            )
        ),
        parts=("", "kimi_k25_vision"),
    ),
)
