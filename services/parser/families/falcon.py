"""Falcon: grouped or single keys and values, attention and feed-forward side by side, a tied head."""

from services.parser.network import DECODER, Family, Network, classes, with_head
from services.parser.section import Section
from services.parser.tally import attention, embedding, norm, plain


def falcon(c: Section) -> Network:
    """Falcon 7B, 40B, 180B and Falcon 2."""
    width = c.integer("hidden_size", default=4544)
    heads = c.integer("num_attention_heads", "n_head", default=71)
    new = c.flag("new_decoder_architecture")
    if new:
        kv_heads = c.stated_integer("num_kv_heads", "n_head_kv") or heads
    else:
        kv_heads = 1 if c.flag("multi_query", default=True) else heads
    bias = c.flag("bias")
    norms = c.stated_integer("num_ln_in_parallel_attn") or 2
    if not new:
        norms = 1 if c.flag("parallel_attn", default=True) else 2
    layer = (
        attention(width, heads, kv_heads, bias=bias)
        + plain(width, c.stated_integer("ffn_hidden_size") or 4 * width, bias=bias)
        + norms * norm(width, bias=True)
    )
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size", default=65024), width),
            "layers": c.integer("num_hidden_layers", "n_layer", default=32) * layer + norm(width, bias=True),
            "head": with_head(
                c, width, c.flag("tie_word_embeddings", default=True), c.integer("vocab_size", default=65024)
            ),
        }
    )


FAMILIES = (
    Family(
        ("falcon", "RefinedWeb", "RefinedWebModel"),
        falcon,
        classes=(*classes(DECODER, "Falcon"), "RWForCausalLM", "RWModel"),
        ignores=frozenset(
            ("apply_residual_connection_post_layernorm", "alibi", "multi_query", "parallel_attn", "num_kv_heads")
        ),
        assumes={"activation": ("gelu",)},
    ),
)
