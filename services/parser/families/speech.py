"""WavLM and SpeechT5: features of speech, and speech from text."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

# Gates of the relative position bias come from two groups of four outputs.
_GATES = 8


def wavlm(c: Section) -> Network:
    """WavLM: convolutions over the wave, then layers whose position bias is gated by the content."""
    width, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    channels = c.integers("conv_dim", default=(512,) * 7)
    kernels = c.integers("conv_kernel", default=(10, 3, 3, 3, 3, 2, 2))
    bias, inputs, waves = c.flag("conv_bias"), 1, Tally()
    everywhere = c.text("feat_extract_norm", default="group") == "layer"
    for index, (outputs, kernel) in enumerate(zip(channels, kernels, strict=True)):
        waves += convolution(inputs, outputs, kernel, bias=bias)
        waves += norm(outputs, bias=True) if everywhere or index == 0 else 0
        inputs = outputs
    projected = norm(inputs, bias=True) + linear(inputs, width, bias=True)
    kernel, groups = c.integer("num_conv_pos_embeddings", default=128), c.integer(
        "num_conv_pos_embedding_groups", default=16
    )
    # Weight normalization keeps a length per position of the kernel beside the direction.
    positions = convolution(width, width, kernel, groups=groups) + kernel
    layer = (
        attention(width, heads, bias=True) + plain(width, c.integer("intermediate_size")) + 2 * norm(width, bias=True)
    )
    layer += heads + linear(width // heads, _GATES, bias=True)
    distances = embedding(c.integer("num_buckets", default=320), heads)
    stack = uncached(c.integer("num_hidden_layers") * layer) + distances + norm(width, bias=True)
    return Network({"waves": waves + projected + width, "positions": positions, "layers": stack})


def speecht5(c: Section) -> Network:
    """SpeechT5 as a speaker of texts."""
    width = c.integer("hidden_size", default=768)
    scale = 1
    encoder = c.integer("encoder_layers", default=12) * _layer(c, "encoder") + norm(width, bias=True)
    head = width // c.integer("encoder_attention_heads", default=12)
    encoder += embedding(2 * c.integer("encoder_max_relative_position", default=160), head)
    heads = c.integer("decoder_attention_heads", default=12)
    layer = _layer(c, "decoder") + attention(width, heads, bias=True, inputs=width) + norm(width, bias=True)
    bands, units = c.integer("num_mel_bins", default=80), c.integer("speech_decoder_prenet_units", default=256)
    depth = c.integer("speech_decoder_prenet_layers", default=2)
    prenet = linear(bands, units, bias=True) + (depth - 1) * linear(units, units, bias=True)
    speaker = linear(width + c.integer("speaker_embedding_dim", default=512), width, bias=True)
    prenet += linear(units, width, bias=True) + speaker + scale
    return Network(
        {
            "embeddings": embedding(c.integer("vocab_size", default=81), width) + scale,
            "encoder": uncached(encoder),
            "prenet": prenet,
            "decoder": c.integer("decoder_layers", default=6) * layer,
            "postnet": _postnet(c, width, bands),
        }
    )


def _postnet(c: Section, width: int, bands: int) -> Tally:
    frames = c.integer("reduction_factor", default=2)
    units, kernel = c.integer("speech_decoder_postnet_units", default=256), c.integer(
        "speech_decoder_postnet_kernel", default=5
    )
    depth = c.integer("speech_decoder_postnet_layers", default=5)
    ends = convolution(bands, units, kernel, bias=False) + convolution(units, bands, kernel, bias=False)
    middle = (depth - 2) * convolution(units, units, kernel, bias=False)
    norms = (depth - 1) * norm(units, bias=True) + norm(bands, bias=True)
    return linear(width, frames * bands, bias=True) + linear(width, frames, bias=True) + ends + middle + norms


def _layer(c: Section, side: str) -> Tally:
    width = c.integer("hidden_size", default=768)
    attending = attention(width, c.integer(f"{side}_attention_heads", default=12), bias=True)
    return attending + plain(width, c.integer(f"{side}_ffn_dim", default=3072)) + 2 * norm(width, bias=True)


FAMILIES = (
    Family(
        ("wavlm",),
        wavlm,
        capabilities=("AUDIO",),
        classes=("WavLMModel",),
        ignores=frozenset(
            (
                "adapter_kernel_size",
                "adapter_stride",
                "classifier_proj_size",
                "num_feat_extract_layers",
                "replace_prob",
                "codevector_dim",
                "conv_stride",
                "do_stable_layer_norm",
                "feat_extract_activation",
                "freeze_feat_extract_train",
                "mask_channel_length",
                "mask_channel_min_space",
                "mask_channel_other",
                "mask_channel_prob",
                "mask_channel_selection",
                "mask_time_min_space",
                "mask_time_other",
                "mask_time_selection",
                "no_mask_channel_overlap",
                "no_mask_time_overlap",
                "num_adapter_layers",
                "vocab_size",
                "num_codevectors_per_group",
                "num_codevector_groups",
                "num_negatives",
                "proj_codevector_dim",
                "tdnn_dim",
                "tdnn_kernel",
                "tdnn_dilation",
                "xvector_output_dim",
                "num_ctc_classes",
                "output_hidden_size",
            )
        ),
        assumes={"add_adapter": (False,)},
    ),
    Family(
        ("speecht5",),
        speecht5,
        architectures=("SpeechT5ForTextToSpeech",),
        capabilities=("TEXT_TO_SPEECH",),
        ignores=frozenset(
            (
                "conv_bias",
                "conv_dim",
                "conv_kernel",
                "conv_stride",
                "feat_extract_activation",
                "feat_extract_norm",
                "max_text_positions",
                "num_conv_pos_embedding_groups",
                "num_conv_pos_embeddings",
                "num_feat_extract_layers",
            )
        ),
        assumes={"tie_word_embeddings": (True,)},
    ),
)
