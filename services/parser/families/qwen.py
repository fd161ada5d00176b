"""The first Qwen: biased queries, keys and values in one projection, a feed-forward width that counts both halves."""

from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import attention, gated, norm


def qwen(c: Section) -> Network:
    """Qwen 1.8B to 72B; some derivatives keep the names of Megatron."""
    width, heads = c.integer("hidden_size", "n_embd"), c.integer("num_attention_heads", "n_head")
    inner = c.integer("intermediate_size", "ffn_hidden_size") // 2
    head = c.integer("kv_channels", default=width // heads)
    layer = attention(width, heads, heads, head, bias=True, output_bias=False) + gated(width, inner) + 2 * norm(width)
    entries = c.integer("vocab_size") if "intermediate_size" in c else c.integer("padded_vocab_size", "vocab_size")
    layers = c.integer("num_hidden_layers", "n_layer") * layer
    network = decoder(c.merged({"tie_word_embeddings": False}), layers, width, vocabulary=entries)
    if c.section("visual"):
        # 1,9 billion of ViT-bigG and a resampler, of which the configuration names the sizes but not the shape.
        return Network(network.parts, exact=False, why="the vision tower of Qwen-VL is not described")
    return network


FAMILIES = (
    Family(
        ("qwen",),
        qwen,
        classes=("QWenLMHeadModel",),
        ignores=frozenset(("tokenizer_type", "n_positions")),
        assumes={
            "no_bias": (True,),
            "activation": ("swiglu",),
            "apply_residual_connection_post_layernorm": (False,),
            "pos_emb": ("rotary",),
        },
    ),
)
