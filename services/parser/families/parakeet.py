"""Parakeet: a Conformer over the spectrum of speech with a head of characters.

The formula follows modeling_parakeet.py of transformers. It is held against no published count, only against rounded
ones, so it is an estimate.
"""

from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, convolution, linear, norm, uncached


def parakeet_ctc(c: Section) -> Network:
    """The encoder with a head for connectionist temporal classification."""
    encoder = c.section("encoder_config")
    width = encoder.integer("hidden_size", default=1024)
    head = linear(width, c.integer("vocab_size", default=1025), bias=True)
    return Network({**parakeet_encoder(encoder).parts, "head": head}, exact=False, why=_WHY)


def parakeet_encoder(e: Section) -> Network:
    """The encoder: attention relative to positions, and convolutions between two halves of the feed-forward block."""
    width, inner = e.integer("hidden_size", default=1024), e.integer("intermediate_size", default=4096)
    bias, heads = e.flag("attention_bias", default=True), e.integer("num_attention_heads", default=8)
    head = e.stated_integer("head_dim") or width // heads
    kv_heads = e.stated_integer("num_key_value_heads") or heads
    projections = linear(width, heads * head, bias) + 2 * linear(width, kv_heads * head, bias)
    projections += linear(heads * head, width, bias) + linear(width, heads * head) + 2 * heads * head
    feed = linear(width, inner, bias) + linear(inner, width, bias)
    convolved = e.flag("convolution_bias", default=True)
    kernel = e.integer("conv_kernel_size", default=9)
    moved = linear(width, 2 * width, convolved) + linear(width, width, convolved) + norm(width, bias=True)
    moved += convolution(1, width, kernel, bias=convolved)
    layer = 2 * feed + projections + moved + 5 * norm(width, bias=True)
    layers = e.integer("num_hidden_layers", default=24) * layer
    return Network({"subsampling": _subsampling(e, width), "layers": uncached(layers)}, exact=False, why=_WHY)


def _subsampling(e: Section, width: int) -> Tally:
    """Each halving but the first is separable."""
    channels, kernel = e.integer("subsampling_conv_channels", default=256), e.integer(
        "subsampling_conv_kernel_size", default=3
    )
    factor = e.integer("subsampling_factor", default=8)
    if factor < 2 or factor & (factor - 1):
        raise Undescribed("subsampling_factor is no power of two")
    bands = e.integer("num_mel_bins", default=80) // factor
    first = convolution(1, channels, kernel, kernel)
    further = convolution(1, channels, kernel, kernel) + linear(channels, channels, bias=True)
    return first + (factor.bit_length() - 2) * further + linear(channels * bands, width, bias=True)


_WHY = "the page of Parakeet is held against no published count"
_HEARS = ("SPEECH_TO_TEXT",)

FAMILIES = (
    Family(("parakeet_ctc",), parakeet_ctc, capabilities=_HEARS, classes=("ParakeetForCTC",)),
    Family(("parakeet_encoder",), parakeet_encoder, capabilities=("AUDIO",), classes=("ParakeetEncoder",)),
)
