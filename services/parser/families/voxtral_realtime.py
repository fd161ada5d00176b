"""Voxtral Realtime: a causal encoder with rotary positions, and a language model whose norms follow the delay."""

from services.parser.layers import gated_layer
from services.parser.network import Family, Network, decoder
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, gated, linear, norm, uncached

# The rank of what the delay adds to a norm, which the code fixes.
_RANK = 32


def voxtral_realtime(c: Section) -> Network:
    """Voxtral Mini 4B Realtime; always tied."""
    t, a = c.section("text_config"), c.section("audio_config")
    t = t.merged({"architectures": ["TextForCausalLM"], "tie_word_embeddings": True})
    width, seen = t.integer("hidden_size"), a.integer("hidden_size")
    layer = gated_layer(t, bias=False, output_bias=False) + 2 * linear(width, _RANK)
    language = decoder(t, t.integer("num_hidden_layers") * layer, width)
    joined = seen * c.integer("downsample_factor", default=4)
    projector = linear(joined, width) + linear(width, width)
    return Network({**language.parts, "audio_tower": uncached(_encoder(a)), "projector": projector})


def _encoder(a: Section) -> Tally:
    width, heads, inner = a.integer("hidden_size"), a.integer("num_attention_heads"), a.integer("intermediate_size")
    head = a.stated_integer("head_dim") or width // heads
    # Only the last projection of a block has a bias.
    layer = attention(width, heads, heads, head, bias=True, key_bias=False) + gated(width, inner) + width
    stem = convolution(a.integer("num_mel_bins", default=128), width, 3) + convolution(width, width, 3)
    return stem + a.integer("num_hidden_layers") * (layer + 2 * norm(width)) + norm(width)


FAMILIES = (
    Family(
        ("voxtral_realtime",),
        voxtral_realtime,
        classes=("VoxtralRealtimeForConditionalGeneration",),
        ignores=frozenset(("vocab_size", "audio_length_per_tok", "default_num_delay_tokens", "hidden_size")),
        assumes={"tie_word_embeddings": (True,)},
        parts=("voxtral_realtime_encoder", "voxtral_realtime_text"),
    ),
)
