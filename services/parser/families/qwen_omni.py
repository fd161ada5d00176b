"""Qwen2.5-Omni: a thinker that hears, sees and writes, a talker that makes speech tokens, and their way into a wave."""

from services.parser import catalogue
from services.parser.families.qwen2_vl import gated_tower
from services.parser.families.whisper import encoder
from services.parser.layers import gated_layer
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

_TIME = 256


def omni(c: Section) -> Network:
    """Qwen2.5-Omni with its talker, unless the configuration switches that off."""
    thinker = c.section("thinker_config")
    language = catalogue.language_part(thinker, "text_config", "qwen2_5_omni_text")
    audio = thinker.section("audio_config")
    heard, width = audio.integer("d_model", default=1280), audio.integer("output_dim", default=3584)
    parts = {
        **language.parts,
        "audio_tower": encoder(audio, positions=False) + linear(heard, width, bias=True) + embedding(2, width),
        "vision_tower": gated_tower(thinker.section("vision_config")),
    }
    if c.flag("enable_audio_output", default=True):
        parts["talker"] = uncached(_talker(c.section("talker_config")))
        wave = c.section("token2wav_config")
        parts["token2wav"] = _diffusion(wave.section("dit_config")) + _vocoder(wave.section("bigvgan_config"))
    return Network(parts)


def _talker(t: Section) -> Tally:
    width, thought = t.integer("hidden_size", default=896), t.integer("embedding_size", default=3584)
    tokens = t.integer("vocab_size", default=8448)
    layer = gated_layer(t, bias=True, output_bias=False)
    ends = linear(thought, width, bias=True) + embedding(tokens, thought) + linear(width, tokens) + norm(width)
    return t.integer("num_hidden_layers", default=24) * layer + ends


def _diffusion(d: Section) -> Tally:
    """A diffusion transformer over the spectrum, conditioned on tokens and on an embedding of the speaker."""
    width, heads = d.integer("hidden_size", default=1024), d.integer("num_attention_heads", default=16)
    bands, tokens = d.integer("mel_dim", default=80), d.integer("num_embeds", default=8193) + 1
    embedded, speaker = d.integer("emb_dim", default=512), d.integer("enc_dim", default=128)
    inputs = bands + speaker + embedded + d.integer("enc_emb_dim", default=192)
    block = uncached(attention(width, heads, bias=True)) + linear(width, 6 * width, bias=True)
    block += plain(width, d.integer("ff_mult", default=2) * width)
    time = linear(_TIME, width, bias=True) + linear(width, width, bias=True)
    ends = embedding(tokens, embedded) + linear(inputs, width, bias=True)
    ends += linear(width, 2 * width, bias=True) + linear(width, bands, bias=True)
    return d.integer("num_hidden_layers", default=22) * block + time + ends + _speaker(d, bands, speaker)


def _speaker(d: Section, bands: int, out: int) -> Tally:
    """ECAPA-TDNN: https://arxiv.org/abs/2005.07143."""
    channels = d.integers("enc_channels", default=(256, 256, 256, 256, 768))
    kernels = d.integers("enc_kernel_sizes", default=(5, 3, 3, 3, 1))
    narrow, scale = d.integer("enc_attention_channels", default=64), d.integer("enc_res2net_scale", default=2)
    squeezed = d.integer("enc_se_channels", default=64)
    total, inputs = convolution(bands, channels[0], kernels[0]), channels[0]
    for width, kernel in zip(channels[1:-1], kernels[1:-1], strict=True):
        part = width // scale
        total += (
            convolution(inputs, width, 1) + (scale - 1) * convolution(part, part, kernel) + convolution(width, width, 1)
        )
        total += convolution(width, squeezed, 1) + convolution(squeezed, width, 1)
        inputs = width
    joined, last = sum(channels[1:-1]), channels[-1]
    total += convolution(joined, last, kernels[-1]) + convolution(3 * last, narrow, 1) + convolution(narrow, last, 1)
    return total + convolution(2 * last, out, 1)


def _vocoder(v: Section) -> Tally:
    """BigVGAN: https://arxiv.org/abs/2206.04658."""
    width = v.integer("upsample_initial_channel", default=1536)
    total = convolution(v.integer("mel_dim", default=80), width, 7)
    kernels = v.integers("resblock_kernel_sizes", default=(3, 7, 11))
    dilations = len(v.items("resblock_dilation_sizes")[0]) if v.items("resblock_dilation_sizes") else 3
    for up in v.integers("upsample_kernel_sizes", default=(11, 7, 4, 4, 4, 4)):
        total += convolution(width, width // 2, up)
        width //= 2
        # Each convolution follows an activation with two learned numbers per channel.
        total += sum((2 * dilations * (convolution(width, width, kernel) + 2 * width) for kernel in kernels), Tally())
    return total + 2 * width + convolution(width, 1, 7, bias=False)


FAMILIES = (
    Family(
        ("qwen2_5_omni",),
        omni,
        classes=("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel"),
        ignores=frozenset(
            (
                "block_size",
                "enable_audio_output_",
                "enc_dilations",
                "upsample_rates",
                "use_bias_at_final",
                "look_ahead_layers",
                "look_backward_layers",
                "repeats",
                "max_source_positions",
                "embed_dim",
                "dim",
                "head_dim",
                "depth",
                "heads",
                "enc_global_context",
                "enc_lin_neurons",
                "spatial_merge_size",
                "max_length",
                "tie_word_embeddings",
            )
        ),
        assumes={"enable_talker": (True,), "enable_audio_output": (True,)},
        parts=(
            "qwen2_5_omni_talker",
            "qwen2_5_omni_audio_encoder",
            "qwen2_5_omni_thinker",
            "qwen2_5_omni_vision_encoder",
            "qwen2_5_omni_bigvgan",
            "qwen2_5_omni_token2wav",
            "qwen2_5_omni_dit",
        ),
    ),
)
