"""BERT and its kin: encoders with post-norm layers and the heads of their classes."""

from typing import Any

from services.parser.network import ENCODER, Family, Network, classes, labels
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, gated, linear, norm, plain, uncached

# The library's defaults, for configurations from before it wrote all of them.
_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def bert(c: Section) -> Network:
    """BERT, RoBERTa and XLM-RoBERTa."""
    c = c.with_defaults({**_DEFAULTS, "type_vocab_size": 2})
    parts = {"embeddings": _embeddings(c), "layers": layers(c), "head": _head(c)}
    if "alibi_starting_size" in c:
        return Network(parts, exact=False, why="the configuration is for an implementation of its own, with ALiBi")
    return Network(parts)


def mpnet(c: Section) -> Network:
    """MPNet: no token types; distances as a bias of attention."""
    c = c.with_defaults({**_DEFAULTS, "vocab_size": 30527, "type_vocab_size": 0})
    heads = c.integer("num_attention_heads")
    distances = embedding(c.integer("relative_attention_num_buckets", default=32), heads)
    return Network({"embeddings": _embeddings(c), "layers": layers(c) + distances, "head": _head(c)})


def deberta_v2(c: Section) -> Network:
    """DeBERTa 2 and 3: distances have a table, and their own projections unless these are shared with attention's."""
    c = c.with_defaults({**_DEFAULTS, "vocab_size": 128100, "type_vocab_size": 0})
    width, depth = c.integer("hidden_size"), c.integer("num_hidden_layers")
    narrow = c.integer("embedding_size", default=width)
    entries = c.integer("vocab_size") + c.integer("type_vocab_size")
    if c.flag("position_biased_input", default=True):
        entries += c.integer("max_position_embeddings")
    tables = embedding(entries, narrow) + norm(width, bias=True)
    tables += linear(narrow, width) if narrow != width else 0
    stack = layers(c)
    if c.flag("relative_attention"):
        buckets = c.stated_integer("position_buckets") or c.integer("max_position_embeddings")
        stack += embedding(2 * buckets, width)
        stack += norm(width, bias=True) if "layer_norm" in c.text("norm_rel_ebd") else 0
        if not c.flag("share_att_key"):
            stack += depth * len([word for word in _words(c, "pos_att_type") if word]) * linear(width, width, bias=True)
    kernel = c.stated_integer("conv_kernel_size")
    if kernel:
        stack += linear(width * kernel, width, bias=True) + norm(width, bias=True)
    return Network({"embeddings": tables, "layers": stack, "head": _head(c)})


def _words(c: Section, name: str) -> list[Any]:
    return c.items(name) or c.text(name).split("|")


def electra(c: Section) -> Network:
    """ELECTRA: narrow embeddings; the discriminator tells replaced tokens."""
    c = c.with_defaults({**_DEFAULTS, "hidden_size": 256, "intermediate_size": 1024, "type_vocab_size": 2})
    width = c.integer("hidden_size")
    narrow = c.integer("embedding_size", default=128)
    tables = _embeddings(c.merged({"hidden_size": narrow}))
    tables += linear(narrow, width, bias=True) if narrow != width else 0
    head = Tally()
    if c.architecture.endswith("ForPreTraining"):
        head = linear(width, width, bias=True) + linear(width, 1, bias=True)
    elif c.architecture.endswith("ForMaskedLM"):
        head = linear(width, narrow, bias=True) + norm(narrow, bias=True) + c.integer("vocab_size")
    elif c.architecture.endswith("ForSequenceClassification"):
        head = linear(width, width, bias=True) + linear(width, labels(c), bias=True)
    return Network({"embeddings": tables, "layers": layers(c), "head": head})


def albert(c: Section) -> Network:
    """ALBERT: narrow embeddings, and one group of layers used again and again."""
    c = c.with_defaults({**_DEFAULTS, "vocab_size": 30000, "type_vocab_size": 2, "hidden_size": 4096})
    width, narrow = c.integer("hidden_size"), c.integer("embedding_size", default=128)
    groups = c.integer("num_hidden_groups", default=1) * c.integer("inner_group_num", default=1)
    stack = layers(c.merged({"num_hidden_layers": groups})) + linear(narrow, width, bias=True)
    if c.architecture.endswith("ForMaskedLM"):
        head = linear(width, narrow, bias=True) + norm(narrow, bias=True) + c.integer("vocab_size")
    else:
        head = linear(width, width, bias=True)
        head += linear(width, labels(c), bias=True) if c.architecture.endswith("ForSequenceClassification") else 0
    return Network({"embeddings": _embeddings(c.merged({"hidden_size": narrow})), "layers": stack, "head": head})


def distilbert(c: Section) -> Network:
    """DistilBERT, which has names of its own and no pooler."""
    inner = {
        "hidden_size": c.integer("dim", default=768),
        "num_hidden_layers": c.integer("n_layers", default=6),
        "num_attention_heads": c.integer("n_heads", default=12),
        "intermediate_size": c.integer("hidden_dim", default=3072),
        "type_vocab_size": 0,
    }
    c = c.merged(inner).with_defaults(_DEFAULTS)
    width = c.integer("hidden_size")
    head = Tally() if c.architecture.endswith("Model") else _head(c)
    if c.architecture.endswith("ForSequenceClassification"):
        head = linear(width, width, bias=True) + linear(width, labels(c), bias=True)
    return Network({"embeddings": _embeddings(c), "layers": layers(c), "head": head})


def bert_generation(c: Section) -> Network:
    """BERT for generation: no token types, no pooler, a head with a bias."""
    c = c.with_defaults({**_DEFAULTS, "type_vocab_size": 0})
    entries = c.integer("vocab_size")
    head = Tally(entries) if c.architecture.endswith("Decoder") else Tally()
    return Network({"embeddings": _embeddings(c), "layers": layers(c), "head": head})


def nomic_bert(c: Section) -> Network:
    """Nomic's BERT: rotary positions, gated blocks, no bias but in norms, no pooler."""
    c = c.with_defaults({**_DEFAULTS, "type_vocab_size": 2})
    width = c.integer("hidden_size", "n_embd")
    layer = attention(width, c.integer("num_attention_heads", "n_head"))
    layer += gated(width, c.integer("intermediate_size", "n_inner")) + 2 * norm(width, bias=True)
    tables = _embeddings(c.merged({"max_position_embeddings": 0, "hidden_size": width}))
    return Network({"embeddings": tables, "layers": uncached(c.integer("num_hidden_layers", "n_layer") * layer)})


def jina_v3(c: Section) -> Network:
    """Jina embeddings 3 as the library builds it: rotary positions, adapters not included."""
    c = c.with_defaults({**_DEFAULTS, "type_vocab_size": 1})
    return Network(
        {"embeddings": _embeddings(c.merged({"max_position_embeddings": 0})), "layers": layers(c), "head": _head(c)}
    )


def modernbert(c: Section) -> Network:
    """ModernBERT: rotary positions, gated blocks, pre-norms of which the first layer has one less."""
    width, inner = c.integer("hidden_size"), c.integer("intermediate_size")
    bias, norm_bias = c.flag("mlp_bias"), c.flag("norm_bias")
    attending = attention(width, c.integer("num_attention_heads"), bias=c.flag("attention_bias"))
    layer = attending + linear(width, 2 * inner, bias) + linear(inner, width, bias) + 2 * norm(width, norm_bias)
    depth = c.integer("num_hidden_layers")
    # The first layer has no norm before attention, but there is one behind the embeddings; one more ends the stack.
    stack = uncached(depth * layer) + norm(width, norm_bias)
    head = Tally()
    transform = linear(width, width, c.flag("classifier_bias")) + norm(width, norm_bias)
    if c.architecture.endswith(("ForMaskedLM", "ForCausalLM")):
        head = transform + (c.integer("vocab_size") if c.flag("decoder_bias", default=True) else 0)
    elif c.architecture.endswith(("ForSequenceClassification", "ForTokenClassification")):
        head = transform + linear(width, labels(c), bias=True)
    return Network({"embeddings": embedding(c.integer("vocab_size"), width), "layers": stack, "head": head})


def modernbert_decoder(c: Section) -> Network:
    """ModernBERT that looks back only, and so keeps keys and values."""
    network = modernbert(c)
    cached = Tally(cached=2 * c.integer("num_hidden_layers") * c.integer("hidden_size"))
    return Network({**network.parts, "cache": cached})


def layers(c: Section) -> Tally:
    """The stack of post-norm encoder layers."""
    width = c.integer("hidden_size")
    layer = attention(width, c.integer("num_attention_heads"), bias=True)
    layer += plain(width, c.integer("intermediate_size")) + 2 * norm(width, bias=True)
    return uncached(c.integer("num_hidden_layers") * layer)


def _embeddings(c: Section) -> Tally:
    width = c.integer("hidden_size")
    entries = c.integer("vocab_size") + c.integer("max_position_embeddings") + c.integer("type_vocab_size")
    return embedding(entries, width) + norm(width, bias=True)


def _head(c: Section) -> Tally:
    """A masked language model has a transform and a tied output with its own bias; most other classes have a pooler."""
    width = c.integer("hidden_size")
    architecture = c.architecture
    square = linear(width, width, bias=True)
    if architecture.endswith(("ForMaskedLM", "LMHeadModel", "ForCausalLM")):
        return square + norm(width, bias=True) + c.integer("vocab_size")
    if architecture.endswith("ForPreTraining"):
        return square + square + norm(width, bias=True) + c.integer("vocab_size") + linear(width, 2, bias=True)
    if architecture.endswith("ForSequenceClassification"):
        # RoBERTa's classifier has a dense layer of its own instead of the pooler; in size they are alike.
        return square + linear(width, labels(c), bias=True)
    if architecture.endswith("ForTokenClassification"):
        return linear(width, labels(c), bias=True)
    if architecture.endswith("ForQuestionAnswering"):
        return linear(width, 2, bias=True)
    return Tally() if c.model_type.startswith("deberta") else square


_BERTS = ("Bert", "Roberta", "XLMRoberta", "XLMRobertaXL", "Camembert", "Ernie", "IBert")
_BERT_LANGUAGE = (
    *("BertForPreTraining", "BertLMHeadModel", "RobertaForCausalLM", "XLMRobertaForCausalLM"),
    *("XLMRobertaXLForCausalLM", "CamembertForCausalLM"),
)

FAMILIES = (
    Family(
        ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "ernie", "ibert"),
        bert,
        classes=(*classes(ENCODER, *_BERTS), *_BERT_LANGUAGE),
        ignores=frozenset(
            (
                "sbert_ce_default_activation_function",
                "directionality",
                "pooler_fc_size",
                "pooler_num_attention_heads",
                "pooler_num_fc_layers",
                "pooler_size_per_head",
                "pooler_type",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(("mpnet",), mpnet, classes=classes(ENCODER, "MPNet"), assumes={"tie_word_embeddings": (True,)}),
    Family(
        ("deberta-v2",),
        deberta_v2,
        classes=classes(ENCODER, "DebertaV2"),
        ignores=frozenset(("legacy", "max_relative_positions", "pooler_hidden_act", "pooler_hidden_size", "conv_act")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("electra",),
        electra,
        classes=("ElectraModel", "ElectraForPreTraining", "ElectraForMaskedLM", "ElectraForSequenceClassification"),
        ignores=frozenset(("summary_activation", "summary_type", "summary_use_proj", "summary_last_dropout")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("albert",),
        albert,
        classes=("AlbertModel", "AlbertForMaskedLM", "AlbertForSequenceClassification"),
        ignores=frozenset(("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("distilbert",),
        distilbert,
        classes=classes(ENCODER, "DistilBert"),
        ignores=frozenset(
            (
                "activation",
                "sinusoidal_pos_embds",
                "sequence_classif_dropout",
                "max_position_embeddings",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("bert-generation",),
        bert_generation,
        capabilities=("TEXT_GENERATION",),
        classes=("BertGenerationEncoder", "BertGenerationDecoder"),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("nomic_bert",),
        nomic_bert,
        classes=("NomicBertModel",),
        ignores=frozenset(
            ("head_dim", "prenorm", "causal", "pad_vocab_size_multiple", "parallel_block", "parallel_block_tied_norm")
        ),
        assumes={
            "mlp_fc1_bias": (False,),
            "mlp_fc2_bias": (False,),
            "qkv_proj_bias": (False,),
            "use_rms_norm": (False,),
            "activation_function": ("swiglu",),
            "hidden_act": ("silu",),
            "tie_word_embeddings": (True,),
        },
    ),
    Family(
        ("jina_embeddings_v3",),
        jina_v3,
        classes=classes(ENCODER, "JinaEmbeddingsV3"),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("modernbert-decoder",),
        modernbert_decoder,
        capabilities=("TEXT_GENERATION",),
        classes=("ModernBertDecoderModel", "ModernBertDecoderForCausalLM"),
        ignores=frozenset(("classifier_activation", "classifier_pooling", "decoder_bias")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("modernbert",),
        modernbert,
        classes=classes(ENCODER, "ModernBert"),
        ignores=frozenset(("classifier_activation", "classifier_pooling", "decoder_bias", "position_embedding_type")),
        assumes={"tie_word_embeddings": (True,), "embedding_bias": (False,)},
    ),
)
