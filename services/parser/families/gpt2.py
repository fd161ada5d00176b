"""GPT-2 and GPT BigCode: learned positions, LayerNorms, biases, tied heads."""

from services.parser.network import DECODER, Family, Network, classes, with_head
from services.parser.section import Section
from services.parser.tally import attention, embedding, norm, plain


def gpt2(c: Section) -> Network:
    """GPT-2."""
    return _gpt2(c, kv_heads=c.integer("n_head", default=12))


def gpt_bigcode(c: Section) -> Network:
    """StarCoder 1 and SantaCoder: all queries may share one key and one value."""
    return _gpt2(c, kv_heads=1 if c.flag("multi_query", default=True) else c.integer("n_head", default=12))


def _gpt2(c: Section, kv_heads: int) -> Network:
    width, heads = c.integer("n_embd", default=768), c.integer("n_head", default=12)
    entries = c.integer("vocab_size", default=50257)
    layer = (
        attention(width, heads, kv_heads, bias=True)
        + plain(width, c.stated_integer("n_inner") or 4 * width)
        + 2 * norm(width, bias=True)
    )
    return Network(
        {
            "embeddings": embedding(entries + c.integer("n_positions", "n_ctx", default=1024), width),
            "layers": c.integer("n_layer", default=12) * layer + norm(width, bias=True),
            "head": with_head(c, width, c.flag("tie_word_embeddings", default=True), entries),
        }
    )


FAMILIES = (
    Family(
        ("gpt2", "gpt-sw3"),
        gpt2,
        classes=("GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification"),
        ignores=frozenset(("summary_proj_to_labels", "summary_type", "summary_use_proj", "summary_activation")),
    ),
    Family(
        ("gpt_bigcode",),
        gpt_bigcode,
        classes=classes(DECODER, "GPTBigCode"),
        ignores=frozenset(("summary_proj_to_labels", "summary_type", "summary_use_proj", "num_key_value_heads")),
    ),
)
