"""T5, Flan-T5, mT5 and UMT5: encoder and decoder without biases, positions as a bias of attention."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, gated, linear, norm, plain, uncached


def t5(c: Section) -> Network:
    """T5; its encoder alone is the text encoder of many pipelines."""
    width, entries = c.integer("d_model"), c.integer("vocab_size")
    parts = {"embeddings": embedding(entries, width), "encoder": uncached(_stack(c, "num_layers", crossing=False))}
    if "EncoderModel" in c.architecture:
        return Network(parts)
    parts["decoder"] = _stack(c, "num_decoder_layers", crossing=True)
    tied = c.flag("tie_word_embeddings", default=True)
    if not tied and c.architecture.endswith("ForConditionalGeneration"):
        c.doubt("publishers store a head of its own, which newer versions of the library tie")
        parts["head"] = linear(width, entries)
    return Network(parts)


def _stack(c: Section, name: str, *, crossing: bool) -> Tally:
    width, heads, head = c.integer("d_model"), c.integer("num_heads"), c.integer("d_kv", default=64)
    inner = c.integer("d_ff")
    projected = c.text("feed_forward_proj", default="relu").startswith("gated")
    block = gated(width, inner) if c.flag("is_gated_act", default=projected) else plain(width, inner, bias=False)
    layer = attention(width, heads, heads, head) + block + 2 * norm(width)
    if crossing:
        layer += attention(width, heads, heads, head, inputs=width) + norm(width)
    depth = c.integer(name, "num_layers")
    # In T5 the first layer has the table of distances, in UMT5 every layer has one.
    tables = depth if c.model_type == "umt5" else 1
    return (
        depth * layer + tables * embedding(c.integer("relative_attention_num_buckets", default=32), heads) + norm(width)
    )


FAMILIES = (
    Family(
        ("t5", "mt5", "umt5", "longt5"),
        t5,
        architectures=("T5EncoderModel", "UMT5EncoderModel", "MT5EncoderModel"),
        classes=(
            "T5Model",
            "T5ForConditionalGeneration",
            "MT5Model",
            "MT5ForConditionalGeneration",
            "UMT5Model",
            "UMT5ForConditionalGeneration",
            "LongT5ForConditionalGeneration",
        ),
        ignores=frozenset(("n_positions", "num_decoder_layers", "scale_decoder_outputs", "tie_word_embeddings")),
        assumes={"dense_act_fn": ("gelu_new", "gelu_pytorch_tanh", "relu", "gelu", "silu")},
    ),
)
