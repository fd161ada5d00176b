"""Whisper, and the audio encoders made from its encoder: Qwen2-Audio, Qwen3-ASR, Qwen2.5-Omni, Voxtral."""

from services.parser import catalogue
from services.parser.network import Family, Network, with_head
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached


def whisper(c: Section) -> Network:
    """Whisper with its tied head."""
    width, heads = c.integer("d_model"), c.integer("decoder_attention_heads")
    crossing = attention(width, heads, bias=True, key_bias=False, inputs=width)
    layer = attention(width, heads, bias=True, key_bias=False) + crossing
    layer += plain(width, c.integer("decoder_ffn_dim")) + 3 * norm(width, bias=True)
    tables = c.integer("vocab_size") + c.integer("max_target_positions", default=448)
    return Network(
        {
            "encoder": encoder(c),
            "embeddings": embedding(tables, width),
            "decoder": c.integer("decoder_layers") * layer + norm(width, bias=True),
            "head": with_head(
                c, width, c.flag("tie_word_embeddings", default=True) or c.architecture.endswith("Model")
            ),
        }
    )


def encoder(c: Section, *, positions: bool = True) -> Tally:
    """Two convolutions over the spectrum, learned positions in most models, layers whose keys have no bias."""
    width = c.integer("d_model", "hidden_size")
    heads = c.integer("encoder_attention_heads", "num_attention_heads")
    layer = attention(width, heads, bias=True, key_bias=False)
    layer += plain(width, c.integer("encoder_ffn_dim", "intermediate_size")) + 2 * norm(width, bias=True)
    stem = convolution(c.integer("num_mel_bins", default=80), width, 3) + convolution(width, width, 3)
    table = embedding(c.integer("max_source_positions", default=1500), width) if positions else Tally()
    depth = c.integer("encoder_layers", "num_hidden_layers")
    return uncached(stem + table + depth * layer + norm(width, bias=True))


def qwen2_audio(c: Section) -> Network:
    """Qwen2-Audio: the encoder, one projection, Qwen2."""
    language = catalogue.language_part(c, "text_config", "qwen2")
    width = c.section("text_config").integer("hidden_size", default=4096)
    audio = c.section("audio_config")
    projector = linear(audio.integer("d_model"), width, bias=True)
    return Network({**language.parts, "audio_tower": encoder(audio), "projector": projector})


def voxtral(c: Section) -> Network:
    """Voxtral: four states of the encoder make one token."""
    language = catalogue.language_part(c, "text_config", "llama")
    audio, width = c.section("audio_config"), c.section("text_config").integer("hidden_size")
    projector = linear(audio.integer("intermediate_size"), width) + linear(width, width)
    return Network({**language.parts, "audio_tower": encoder(audio), "projector": projector})


def qwen3_asr(c: Section) -> Network:
    """Qwen3-ASR: three convolutions over time and frequency instead of two over time."""
    thinker = c.section("thinker_config") or c
    if thinker is not c:
        c.doubt("the library reads another form of this configuration than its publisher writes")
    audio = thinker.section("audio_config")
    language = catalogue.language_part(thinker, "text_config", "qwen3_asr_text")
    width, narrow = audio.integer("d_model"), audio.integer("downsample_hidden_size", default=480)
    layer = attention(width, audio.integer("encoder_attention_heads"), bias=True)
    layer += plain(width, audio.integer("encoder_ffn_dim")) + 2 * norm(width, bias=True)
    # Each of the three convolutions halves the frequencies.
    bands = -(-audio.integer("num_mel_bins", default=128) // 8)
    stem = convolution(1, narrow, 3, 3) + 2 * convolution(narrow, narrow, 3, 3) + linear(narrow * bands, width)
    out = thinker.section("text_config").integer("hidden_size")
    projector = linear(width, width, bias=True) + linear(width, audio.integer("output_dim", default=out), bias=True)
    tower = uncached(stem + audio.integer("encoder_layers") * layer + norm(width, bias=True))
    return Network({**language.parts, "audio_tower": tower, "projector": projector})


FAMILIES = (
    Family(
        ("whisper",),
        whisper,
        capabilities=("SPEECH_TO_TEXT",),
        classes=("WhisperModel", "WhisperForConditionalGeneration"),
        ignores=frozenset(("classifier_proj_size",)),
    ),
    Family(
        ("qwen2_audio",),
        qwen2_audio,
        classes=("Qwen2AudioForConditionalGeneration",),
        ignores=frozenset(("vocab_size",)),
        parts=("qwen2_audio_encoder",),
    ),
    Family(
        ("voxtral",),
        voxtral,
        classes=("VoxtralForConditionalGeneration",),
        ignores=frozenset(("head_dim", "num_key_value_heads", "vocab_size", "hidden_size")),
        parts=("voxtral_encoder",),
    ),
    Family(
        ("qwen3_asr",),
        qwen3_asr,
        capabilities=("SPEECH_TO_TEXT",),
        classes=("Qwen3ASRModel", "Qwen3ASRForConditionalGeneration"),
        ignores=frozenset(
            (
                "support_languages",
                "conv_chunksize",
                "max_source_positions",
                "token_classification_bias",
                "num_hidden_layers",
                "tie_word_embeddings",
            )
        ),
        parts=("qwen3_asr_audio_encoder", "qwen3_asr_encoder", "qwen3_asr_thinker"),
    ),
)
