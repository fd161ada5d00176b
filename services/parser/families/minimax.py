"""MiniMax M2 and M3: norms over all queries and keys, many small experts, in M3 a vision tower and sparse attention."""

from services.parser.families import clip
from services.parser.layers import grouped_attention, routed
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, convolution, gated, linear, norm, uncached


def minimax_m2(c: Section) -> Network:
    """MiniMax M2 to M2.7."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    head_width = c.stated_integer("head_dim") or width // heads
    head_norms = (
        norm((heads + c.integer("num_key_value_heads")) * head_width) if c.flag("use_qk_norm", default=True) else 0
    )
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok")
    layer = grouped_attention(c) + head_norms + routed(width, count, chosen, c.integer("intermediate_size"))
    return decoder(c, c.integer("num_hidden_layers") * (layer + 2 * norm(width)), width)


def minimax_m3(c: Section) -> Network:
    """MiniMax M3: dense layers first, then experts; an indexer where attention is sparse; a CLIP-like tower."""
    t, v = c.section("text_config"), c.section("vision_config")
    language = minimax_m3_text(t.merged({"architectures": ["MiniMaxM3ForCausalLM"]}))
    return Network({**language.parts, **_vision(c, v, t.integer("hidden_size"))})


def minimax_m3_text(t: Section) -> Network:
    """The language model of MiniMax M3, alone or beside its tower."""
    width, depth = t.integer("hidden_size"), t.integer("num_hidden_layers")
    sparse = sum(1 for routes in t.integers("moe_layer_freq", default=(1,) * depth)[:depth] if routes)
    inner = t.integer("moe_intermediate_size", "intermediate_size")
    mixture = routed(
        width,
        t.integer("num_local_experts"),
        t.integer("num_experts_per_tok"),
        inner,
        shared_inner=t.integer("shared_intermediate_size", default=inner) * (t.stated_integer("n_shared_experts") or 0),
    )
    choosing = t.section("sparse_attention_config")
    indexed = sum(1 for index in choosing.integers("sparse_attention_freq", default=(0,))[:depth] if index)
    heads, key = choosing.integer("index_n_heads", "sparse_num_index_heads", default=4), choosing.integer(
        "index_head_dim", "sparse_index_dim", default=128
    )
    indexer = linear(width, heads * key) + linear(width, key) + 2 * norm(key) + Tally(cached=key)
    layers = (
        depth * (grouped_attention(t, head_norm=t.flag("use_qk_norm")) + 2 * norm(width))
        + sparse * mixture
        + (depth - sparse) * gated(width, t.integer("dense_intermediate_size", default=inner))
        + indexed * indexer
    )
    return decoder(t, layers, width)


def _vision(c: Section, v: Section, width: int) -> dict[str, Tally]:
    seen, patch = v.integer("hidden_size"), v.integer("patch_size")
    bias = c.flag("multimodal_projector_bias", default=True)
    stem = convolution(v.integer("num_channels", default=3), seen, _TEMPORAL, patch, patch, bias=False)
    wide = c.integer("projector_hidden_size", default=width)
    # Two frames and two by two patches are merged after the projection, not before it.
    merging = linear(4 * width, wide, bias) + linear(wide, width, bias)
    return {
        "vision_tower": uncached(stem + norm(seen, bias=True)) + clip.layers(v),
        "projector": linear(seen, wide, bias) + linear(wide, width, bias) + merging,
    }


_TEMPORAL = 2

_SPARSE = frozenset(
    (
        *("use_gemma_norm", "num_mtp_modules", "use_routing_bias", "num_reward_heads", "use_sparse_attention"),
        *("sparse_topk_blocks", "sparse_block_size", "sparse_disable_index_value", "sparse_score_type"),
        *("sparse_init_block", "sparse_local_block"),
    )
)
_ASSUMED = {
    "attention_output_gate": (False,),
    "hidden_act": ("swigluoai", "gelu"),
    "qk_norm_type": ("per_head",),
}

FAMILIES = (
    Family(
        ("minimax_m2",),
        minimax_m2,
        classes=("MiniMaxM2Model", "MiniMaxM2ForCausalLM"),
        ignores=frozenset(
            ("attn_type_list", "mtp_transformer_layers", "num_mtp_modules", "use_mtp", "use_routing_bias")
        ),
        assumes={"qk_norm_type": ("per_layer",), "shared_intermediate_size": (0,)},
    ),
    Family(
        ("minimax_m3",),
        minimax_m3_text,
        classes=("MiniMaxM3ForCausalLM",),
        ignores=_SPARSE | {"first_k_dense_replace", "num_nextn_predict_layers"},
        assumes=_ASSUMED,
    ),
    Family(
        ("minimax_m3_vl",),
        minimax_m3,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT"),
        classes=("MiniMaxM3SparseForConditionalGeneration",),
        ignores=_SPARSE | {"image_size", "projection_dim", "vocab_size", "img_token_compression_config"},
        assumes=_ASSUMED,
        parts=("clip_vision_model",),
    ),
)
