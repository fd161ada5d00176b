"""BART, mBART and Pegasus: encoder and decoder with biases, one table of embeddings for both."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, embedding, norm, plain, uncached

# BART's position table starts at 2.
_OFFSET = 2


def bart(c: Section) -> Network:
    """BART: learned positions, norms behind the blocks and behind the embeddings."""
    return _both(c, _ends(c, _OFFSET))


def pegasus(c: Section) -> Network:
    """Pegasus: positions are calculated but stored; norms before the blocks, and one at the end."""
    return _both(c, _ends(c, 0))


def mbart(c: Section) -> Network:
    """mBART: both kinds of norm."""
    return _both(c, _ends(c, _OFFSET) + norm(c.integer("d_model", default=1024), bias=True))


def _ends(c: Section, offset: int) -> Tally:
    width = c.integer("d_model", default=1024)
    return embedding(c.integer("max_position_embeddings", default=1024) + offset, width) + norm(width, bias=True)


def _both(c: Section, ends: Tally) -> Network:
    width = c.integer("d_model", default=1024)
    encoder = c.integer("encoder_layers", default=12) * _layer(c, "encoder") + ends
    crossing = attention(width, c.integer("decoder_attention_heads", default=16), bias=True, inputs=width)
    layer = _layer(c, "decoder") + crossing + norm(width, bias=True)
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size", default=50265), width),
            "encoder": uncached(encoder),
            "decoder": c.integer("decoder_layers", default=12) * layer + ends,
        }
    )


def _layer(c: Section, side: str) -> Tally:
    width = c.integer("d_model", default=1024)
    attending = attention(width, c.integer(f"{side}_attention_heads", default=16), bias=True)
    return attending + plain(width, c.integer(f"{side}_ffn_dim", default=4096)) + 2 * norm(width, bias=True)


FAMILIES = (
    Family(
        ("bart", "mvp", "plbart"),
        bart,
        capabilities=("TEXT_GENERATION",),
        classes=(
            "BartModel",
            "BartForConditionalGeneration",
            "MvpForConditionalGeneration",
            "PLBartForConditionalGeneration",
        ),
        ignores=frozenset(
            (
                "_num_labels",
                "add_final_layer_norm",
                "force_bos_token_to_be_generated",
                "normalize_before",
                "num_hidden_layers",
                "extra_pos_embeddings",
                "static_position_embeddings",
            )
        ),
        assumes={"tie_word_embeddings": (True,), "add_bias_logits": (False,), "normalize_embedding": (True,)},
    ),
    Family(
        ("pegasus", "blenderbot"),
        pegasus,
        capabilities=("TEXT_GENERATION",),
        classes=("PegasusModel", "PegasusForConditionalGeneration", "BlenderbotForConditionalGeneration"),
        ignores=frozenset(
            (
                "_num_labels",
                "normalize_before",
                "num_hidden_layers",
                "add_final_layer_norm",
                "extra_pos_embeddings",
                "static_position_embeddings",
                "force_bos_token_to_be_generated",
            )
        ),
        assumes={"tie_word_embeddings": (True,), "add_bias_logits": (False,), "normalize_embedding": (False,)},
    ),
    Family(
        ("mbart",),
        mbart,
        capabilities=("TEXT_GENERATION",),
        classes=("MBartModel", "MBartForConditionalGeneration"),
        ignores=frozenset(
            (
                "_num_labels",
                "normalize_before",
                "num_hidden_layers",
                "add_final_layer_norm",
                "extra_pos_embeddings",
                "static_position_embeddings",
            )
        ),
        assumes={"tie_word_embeddings": (True,), "add_bias_logits": (False,), "normalize_embedding": (True,)},
    ),
)
