"""EleutherAI's decoders and CodeGen: rotary positions, LayerNorms, plain feed-forward blocks."""

from services.parser.network import DECODER, Family, Network, classes, with_head
from services.parser.section import Section
from services.parser.tally import attention, embedding, norm, plain


def gpt_neox(c: Section) -> Network:
    """GPT-NeoX and Pythia."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    bias = c.flag("attention_bias", default=True)
    layer = (
        attention(width, heads, bias=bias) + plain(width, c.integer("intermediate_size")) + 2 * norm(width, bias=True)
    )
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size"), width),
            "layers": c.integer("num_hidden_layers") * layer + norm(width, bias=True),
            "head": with_head(c, width, c.flag("tie_word_embeddings")),
        }
    )


def gpt_j(c: Section) -> Network:
    """GPT-J and CodeGen: one norm per layer, a head with bias."""
    width, heads = c.integer("n_embd"), c.integer("n_head")
    layer = attention(width, heads) + plain(width, c.stated_integer("n_inner") or 4 * width) + norm(width, bias=True)
    entries = c.integer("vocab_size")
    head = with_head(c, width, False, entries, bias=True)
    return Network(
        {
            "embeddings": embedding(entries, width),
            "layers": c.integer("n_layer") * layer + norm(width, bias=True),
            "head": head,
        }
    )


FAMILIES = (
    Family(("gpt_neox",), gpt_neox, classes=classes(DECODER, "GPTNeoX"), ignores=frozenset(("use_parallel_residual",))),
    Family(
        ("gptj", "codegen"),
        gpt_j,
        classes=("GPTJModel", "GPTJForCausalLM", "GPTJForSequenceClassification", "CodeGenModel", "CodeGenForCausalLM"),
        ignores=frozenset(("n_positions", "summary_proj_to_labels", "summary_type", "summary_use_proj", "rotary")),
        assumes={"tie_word_embeddings": (False,)},
    ),
)
