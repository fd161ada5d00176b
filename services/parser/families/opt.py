"""OPT, XGLM, BLOOM and MPT: decoders of 2022 and 2023 with tied heads."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, linear, norm, plain

# OPT's position table starts at 2.
_OPT_OFFSET = 2


def opt(c: Section) -> Network:
    """OPT: the smallest but one projects narrow embeddings, and has its norms behind the blocks."""
    width, heads = c.integer("hidden_size", default=768), c.integer("num_attention_heads", default=12)
    narrow = c.integer("word_embed_proj_dim", default=width)
    bias, learned = c.flag("enable_bias", default=True), c.flag("layer_norm_elementwise_affine", default=True)
    norms = norm(width, bias=True) if learned else Tally()
    layer = attention(width, heads, bias=bias) + plain(width, c.integer("ffn_dim", default=3072), bias) + 2 * norms
    layers = c.integer("num_hidden_layers", default=12) * layer
    if c.flag("do_layer_norm_before", default=True) and not c.flag("_remove_final_layer_norm"):
        layers += norms
    positions = c.integer("max_position_embeddings", default=2048) + _OPT_OFFSET
    projections = 2 * linear(width, narrow) if narrow != width else Tally()
    tables = embedding(c.integer("vocab_size", default=50272), narrow) + embedding(positions, width)
    return Network({"embeddings": tables + projections, "layers": layers})


def xglm(c: Section) -> Network:
    """XGLM: calculated positions."""
    width = c.integer("d_model", default=1024)
    heads, inner = c.integer("attention_heads", default=16), c.integer("ffn_dim", default=4096)
    layer = attention(width, heads, bias=True) + plain(width, inner) + 2 * norm(width, bias=True)
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size", default=256008), width),
            "layers": c.integer("num_layers", default=24) * layer + norm(width, bias=True),
        }
    )


def bloom(c: Section) -> Network:
    """BLOOM: a norm behind the embeddings."""
    width, heads = c.integer("hidden_size", "n_embed"), c.integer("num_attention_heads", "n_head")
    layer = attention(width, heads, bias=True) + plain(width, 4 * width) + 2 * norm(width, bias=True)
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size"), width) + norm(width, bias=True),
            "layers": c.integer("num_hidden_layers", "n_layer") * layer + norm(width, bias=True),
        }
    )


def mpt(c: Section) -> Network:
    """MPT as the library builds it: ALiBi instead of positions, no bias."""
    width = c.integer("d_model", default=2048)
    inner = 4 * width
    heads = c.integer("n_heads", default=16)
    layer = attention(width, heads, _kv_heads(c, heads)) + plain(width, inner, bias=False) + 2 * norm(width)
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size", default=50368), width),
            "layers": c.integer("n_layers", default=24) * layer + norm(width),
        }
    )


def _kv_heads(c: Section, heads: int) -> int:
    return c.section("attn_config").stated_integer("kv_n_heads") or heads


FAMILIES = (
    Family(
        ("opt",),
        opt,
        classes=("OPTModel", "OPTForCausalLM"),
        ignores=frozenset(("_remove_final_layer_norm",)),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(("xglm",), xglm, classes=("XGLMModel", "XGLMForCausalLM"), assumes={"tie_word_embeddings": (True,)}),
    Family(
        ("bloom",),
        bloom,
        classes=("BloomModel", "BloomForCausalLM"),
        ignores=frozenset(
            (
                "apply_residual_connection_post_layernorm",
                "masked_softmax_fusion",
                "offset_alibi",
                "skip_bias_add",
                "skip_bias_add_qkv",
                "attention_softmax_in_fp32",
                "unk_token_id",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("mpt",),
        mpt,
        classes=("MptModel", "MptForCausalLM", "MPTForCausalLM"),
        ignores=frozenset(
            (
                "alibi",
                "attn_type",
                "attn_uses_sequence_id",
                "prefix_lm",
                "embedding_fraction",
                "tokenizer_name",
                "verbose",
                "norm_type",
            )
        ),
        assumes={
            "qk_ln": (False,),
            "expansion_ratio": (4,),
            "no_bias": (True,),
            "learned_pos_emb": (True,),
            "tie_word_embeddings": (True,),
        },
        parts=("",),
    ),
)
