"""Microsoft's Phi: 1 and 2 with one norm per layer, 3 and 4 like Llama, 3 small with gegelu, and 3.5 with experts."""

from services.parser import catalogue
from services.parser.layers import gated_layer, grouped_attention
from services.parser.network import DECODER, Family, Network, classes, decoder, with_head
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, experts, gated, linear, norm, plain


def phi(c: Section) -> Network:
    """Phi 1, 1.5 and 2: attention and feed-forward side by side behind one norm, biases everywhere."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads = c.stated_integer("num_key_value_heads") or heads
    head_norm = 2 * norm(width // heads, bias=True) if c.flag("qk_layernorm") else Tally()
    layer = (
        attention(width, heads, kv_heads, bias=True)
        + head_norm
        + plain(width, c.integer("intermediate_size"))
        + norm(width, bias=True)
    )
    entries = c.integer("vocab_size")
    tied = c.flag("tie_word_embeddings")
    return Network(
        {
            "embeddings": embedding(entries, width),
            "layers": c.integer("num_hidden_layers") * layer + norm(width, bias=True),
            "head": with_head(c, width, tied, entries, bias=True),
        }
    )


def phi3(c: Section) -> Network:
    """Phi 3, 3.5 and 4."""
    layer = gated_layer(c, bias=False, output_bias=False)
    return decoder(c, c.integer("num_hidden_layers") * layer, c.integer("hidden_size"))


def phi3_vision(c: Section) -> Network:
    """Phi 3 vision: CLIP ViT-L/14-336, whose last layer stays unused but stored, and a projector for crops."""
    width = c.integer("hidden_size")
    tower = catalogue.tower(c.merged({"clip": _CLIP_L_336}), "clip", "clip_vision_model")
    seen = 4 * _CLIP_L_336["hidden_size"]
    # glb_GN and sub_GN separate the crops of a picture and its lines.
    separators = Tally(seen + seen)
    projector = linear(seen, width, bias=True) + linear(width, width, bias=True) + separators
    return Network({**phi3(c).parts, "vision_tower": tower, "projector": projector})


def phi3_small(c: Section) -> Network:
    """Phi 3 small: gegelu, whose up projection makes both halves, and LayerNorms with bias; always tied."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    inner = c.integer("ff_intermediate_size", "intermediate_size")
    layer = (
        attention(width, heads, c.integer("num_key_value_heads"), bias=True)
        + linear(width, 2 * inner, bias=True)
        + linear(inner, width, bias=True)
        + 2 * norm(width, bias=True)
    )
    layers = c.integer("num_hidden_layers") * layer
    return decoder(c.merged({"tie_word_embeddings": True}), layers, width, norms=2)


def phi_moe(c: Section) -> Network:
    """Phi 3.5 MoE: LayerNorms with bias and two of sixteen experts."""
    width = c.integer("hidden_size")
    count, chosen = c.integer("num_local_experts"), c.integer("num_experts_per_tok", default=2)
    mixture = experts(count, chosen, gated(width, c.integer("intermediate_size"))) + linear(width, count)
    layer = grouped_attention(c) + mixture + 2 * norm(width, bias=True)
    head = with_head(c, width, c.flag("tie_word_embeddings"), bias=c.flag("lm_head_bias"))
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size"), width),
            "layers": c.integer("num_hidden_layers") * layer + norm(width, bias=True),
            "head": head,
        }
    )


_CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}

FAMILIES = (
    Family(
        ("phi",),
        phi,
        classes=classes(DECODER, "Phi"),
        ignores=frozenset(("type_vocab_size",)),
        assumes={"attention_bias": (False,)},
    ),
    Family(
        ("phi3",),
        phi3,
        classes=classes(DECODER, "Phi3"),
        ignores=frozenset(("full_attn_mod",)),
        assumes={"lm_head_bias": (False,), "attention_bias": (False,)},
    ),
    Family(("phi3_v",), phi3_vision, classes=("Phi3VForCausalLM",), ignores=frozenset(("embd_layer", "img_processor"))),
    Family(
        ("phi3small",),
        phi3_small,
        classes=("Phi3SmallForCausalLM",),
        ignores=frozenset(
            (
                "blocksparse_block_size",
                "blocksparse_homo_head_pattern",
                "blocksparse_num_local_blocks",
                "blocksparse_triton_kernel_block_size",
                "blocksparse_vert_stride",
                "dense_attention_every_n_layers",
                "gegelu_limit",
                "gegelu_pad_to_256",
                "mup_attn_multiplier",
                "mup_embedding_multiplier",
                "mup_use_scaling",
                "mup_width_multiplier",
                "pad_sequence_to_multiple_of_64",
                "rope_embedding_base",
                "rope_position_scale",
            )
        ),
        assumes={"hidden_act": ("gegelu",), "attention_bias": (False,)},
    ),
    Family(
        ("phimoe",),
        phi_moe,
        classes=("PhimoeModel", "PhimoeForCausalLM", "PhimoeForSequenceClassification", "PhiMoEForCausalLM"),
    ),
)
