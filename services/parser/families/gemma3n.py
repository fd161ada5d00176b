"""Gemma 3n: layers with per-layer inputs, four parallel streams and a shortcut of low rank; a MobileNet, a Conformer.

The formula follows modeling_gemma3n.py of transformers. The published checkpoints E2B and E4B have 5,439,438,272 and
7,849,978,192 parameters; the formula's difference between the two is exactly theirs, and what remains of each is the
same number, that of the vision encoder. The library takes it from timm and no configuration describes it, so that the
whole is called an estimate nevertheless.
"""

from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, convolution, embedding, gated, linear, norm, uncached

# timm's mobilenetv5_300m_enc, as the checkpoints above have it.
_ENCODERS = {"mobilenetv5_300m_enc": 294_126_912}
# Both convolutions over the spectrum halve it.
_SUBSAMPLED = 4


def gemma3n(c: Section) -> Network:
    """Gemma 3n with its towers."""
    text = c.section("text_config")
    vision, audio = c.section("vision_config"), c.section("audio_config")
    width = text.integer("hidden_size", default=2048)
    encoder = _ENCODERS.get(vision.text("architecture", default="mobilenetv5_300m_enc"))
    if encoder is None:
        raise Undescribed("vision_config.architecture is an encoder that no page describes")
    heard = audio.integer("hidden_size", default=1536)
    return Network(
        {
            **gemma3n_text(text).parts,
            "vision_tower": Tally(encoder) + _entrance(vision, vision.integer("hidden_size", default=2048), width),
            "audio_tower": uncached(_conformer(audio, heard)) + _entrance(audio, heard, width),
        },
        exact=False,
        why="the vision encoder is timm's, and its size follows from its name alone",
    )


def gemma3n_text(c: Section) -> Network:
    """The language model, whose head is tied. Its last layers use keys and values of earlier ones."""
    width, depth = c.integer("hidden_size", default=2048), c.integer("num_hidden_layers", default=35)
    if not c.flag("tie_word_embeddings", default=True):
        raise Undescribed("a head of its own is not described for Gemma 3n")
    side, streams = c.integer("hidden_size_per_layer_input", default=256), c.integer("altup_num_inputs", default=4)
    inner = c.integers("intermediate_size", default=()) if c.items("intermediate_size") else ()
    types, own = c.items("layer_types"), depth - c.integer("num_kv_shared_layers", default=15)
    layers = Tally()
    for index in range(depth):
        full = types[index] == "full_attention" if index < len(types) else (index + 1) % 5 == 0
        block = inner[index] if index < len(inner) else c.integer("intermediate_size", default=16384)
        layers += _layer(c, width, block, side, streams, keeps=full and index < own)
    tables = embedding(c.integer("vocab_size", default=262400), width)
    tables += embedding(c.integer("vocab_size_per_layer_input", default=262144), depth * side)
    tables += linear(width, depth * side) + norm(side)
    between = 2 * (streams - 1) * linear(width, width)
    return Network({"embeddings": tables, "layers": layers + norm(width), "streams": between})


def _layer(c: Section, width: int, inner: int, side: int, streams: int, *, keeps: bool) -> Tally:
    heads, head = c.integer("num_attention_heads", default=8), c.integer("head_dim", default=256)
    kv_heads, rank = c.integer("num_key_value_heads", default=2), c.integer("laurel_rank", default=64)
    projections = 2 * linear(width, heads * head) + 2 * linear(width, kv_heads * head) + 2 * norm(head)
    shortcut = linear(width, rank) + linear(rank, width) + norm(width)
    scale = norm(width) if c.flag("altup_correct_scale", default=True) else Tally()
    router = linear(width, streams) + norm(width)
    mixed = scale + linear(streams, streams) + linear(streams, streams * streams) + router
    inputs = linear(width, side) + linear(side, width) + norm(width)
    # A windowed layer keeps no more than its window, however long the context is.
    cached = Tally(cached=2 * kv_heads * head if keeps else 0)
    return projections + gated(width, inner) + 4 * norm(width) + shortcut + mixed + inputs + cached


def _entrance(c: Section, seen: int, width: int) -> Tally:
    """Tokens of a kind of their own, and the projection of what a tower yields."""
    return embedding(c.integer("vocab_size", default=128), seen) + 2 * norm(seen) + linear(seen, width)


def _conformer(a: Section, width: int) -> Tally:
    channels = a.integers("sscp_conv_channel_size", default=(128, 32))
    bands = a.integer("input_feat_size", default=128) // _SUBSAMPLED
    inputs, total = 1, Tally()
    for outputs in channels:
        total += convolution(inputs, outputs, 3, 3, bias=False) + norm(outputs)
        inputs = outputs
    total += linear(inputs * bands, width)
    feed = 2 * linear(width, 4 * width) + 2 * norm(width)
    # Queries, keys, values, positions and output; each number of a query has a scale.
    attending = 5 * linear(width, width) + width // a.integer("conf_num_attention_heads", default=8) + 2 * norm(width)
    kernel = a.integer("conf_conv_kernel_size", default=5)
    convolved = linear(width, 2 * width) + convolution(width, width, kernel, bias=False, groups=width)
    convolved += linear(width, width) + 2 * norm(width)
    layer = 2 * feed + attending + convolved + norm(width)
    return total + a.integer("conf_num_hidden_layers", default=12) * layer


FAMILIES = (
    Family(
        ("gemma3n",),
        gemma3n,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT", "AUDIO_TEXT_TO_TEXT"),
        classes=("Gemma3nForConditionalGeneration",),
        ignores=frozenset(
            (
                "activation_sparsity_pattern",
                "altup_active_idx",
                "altup_coef_clip",
                "altup_lr_multiplier",
                "conf_attention_chunk_size",
                "conf_attention_context_left",
                "conf_attention_context_right",
                "conf_attention_logit_cap",
                "conf_reduction_factor",
                "conf_residual_weight",
                "gradient_clipping",
                "label_names",
                "num_classes",
                "sliding_window",
                "sscp_conv_stride_size",
                "vocab_offset",
                "audio_soft_tokens_per_image",
                "vision_soft_tokens_per_image",
            )
        ),
        assumes={
            "do_pooling": (False,),
            "attention_bias": (False,),
            "sscp_conv_kernel_size": ([[3, 3], [3, 3]],),
            "model_args": ({},),
        },
        parts=("gemma3n_text", "gemma3n_vision", "gemma3n_audio"),
    ),
    Family(
        ("gemma3n_text",),
        gemma3n_text,
        classes=("Gemma3nForCausalLM", "Gemma3nTextModel"),
        ignores=frozenset(("activation_sparsity_pattern", "altup_active_idx", "altup_coef_clip", "sliding_window")),
        assumes={"attention_bias": (False,)},
    ),
)
