"""BERT, RoBERTa and XLM-RoBERTa: encoders with learned positions, a pooler, and the heads of their classes."""

from services.parser.network import Family, Network, labels
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, linear, norm, plain, uncached


def layers(c: Section) -> Tally:
    """The stack of post-norm encoder layers."""
    width = c.integer("hidden_size", default=768)
    layer = (
        attention(width, c.integer("num_attention_heads", default=12), bias=True)
        + plain(width, c.integer("intermediate_size", default=3072))
        + 2 * norm(width, bias=True)
    )
    return uncached(c.integer("num_hidden_layers", default=12) * layer)


def embeddings(c: Section) -> Tally:
    """Tables for words, positions and token types, and a norm."""
    width = c.integer("hidden_size", default=768)
    entries = (
        c.integer("vocab_size", default=30522)
        + c.integer("max_position_embeddings", default=512)
        + c.integer("type_vocab_size", default=2)
    )
    return embedding(entries, width) + norm(width, bias=True)


def head(c: Section, *, roberta: bool) -> Tally:
    """Pooler and head: a masked language model has a transform and a tied output with its own bias."""
    width = c.integer("hidden_size", default=768)
    architecture = c.architecture
    pooler = linear(width, width, bias=True)
    transform = linear(width, width, bias=True) + norm(width, bias=True)
    if architecture.endswith("ForMaskedLM"):
        return transform + c.integer("vocab_size", default=30522)
    if architecture.endswith("ForPreTraining"):
        return pooler + transform + c.integer("vocab_size", default=30522) + linear(width, 2, bias=True)
    if architecture.endswith("ForSequenceClassification"):
        # RoBERTa's classifier has a dense layer of its own instead of the pooler; in size they are alike.
        return pooler + linear(width, labels(c), bias=True)
    if architecture.endswith("ForTokenClassification"):
        return linear(width, labels(c), bias=True)
    if architecture.endswith("ForQuestionAnswering"):
        return linear(width, 2, bias=True)
    return pooler


def bert(c: Section) -> Network:
    """BERT."""
    return Network({"embeddings": embeddings(c), "layers": layers(c), "head": head(c, roberta=False)})


FAMILIES = (Family(("bert", "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"), bert),)
