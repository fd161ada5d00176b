"""Phi-4 multimodal: Phi-4 mini with SigLIP, a Conformer, and an adapter of low rank for each of the two.

The formula follows modeling_phi4mm.py, vision_siglip_navit.py and speech_conformer_encoder.py of the published
repository. It yields the 5,574,460,384 parameters of its weights: the adapters, a pooling head that nothing uses, the
table of relative positions and the means of the spectrum included. What the code fixes stands here as constants.
"""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

_VISION_WIDTH, _VISION_INNER, _VISION_DEPTH, _VISION_HEADS = 1152, 4304, 27, 16
_PATCH, _CROP = 14, 448


def phi4mm(c: Section) -> Network:
    """The model with its adapters."""
    language = catalogue.describe(c.merged({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}))
    width = c.integer("hidden_size")
    image, sound = (c.section("embd_layer").section(f"{name}_embd_layer") for name in ("image", "audio"))
    processor = c.section("audio_processor")
    if not (image and sound and processor):
        raise Undescribed("embd_layer or audio_processor is not stated")
    separators = 2 * norm(_VISION_WIDTH) if image.flag("with_learnable_separator") else Tally()
    heard = processor.section("config")
    projected = 2 * _perceptron(heard.integer("attention_dim"), width)
    return Network(
        {
            **language.parts,
            "vision_tower": _siglip() + _perceptron(_VISION_WIDTH, width) + separators,
            # One projection for sounds alone, and one for sounds beside pictures.
            "audio_tower": uncached(_conformer(heard)) + projected,
            "adapters": _adapter(c, c.section("vision_lora")) + _adapter(c, c.section("speech_lora")),
        }
    )


def _perceptron(seen: int, width: int) -> Tally:
    return linear(seen, width, bias=True) + linear(width, width, bias=True)


def _siglip() -> Tally:
    width, inner = _VISION_WIDTH, _VISION_INNER
    layer = attention(width, _VISION_HEADS, bias=True) + plain(width, inner) + 2 * norm(width, bias=True)
    pool = attention(width, _VISION_HEADS, bias=True) + plain(width, inner) + norm(width, bias=True) + width
    positions = embedding((_CROP // _PATCH) ** 2, width)
    ends = convolution(3, width, _PATCH, _PATCH) + positions + norm(width, bias=True)
    return uncached(_VISION_DEPTH * layer + pool) + ends


def _conformer(a: Section) -> Tally:
    width, inner, heads = a.integer("attention_dim"), a.integer("linear_units"), a.integer("attention_heads")
    bands, reduction = a.integer("input_size"), a.integer("time_reduction")
    channels = a.section("nemo_conv_settings").integer("conv_channels")
    if reduction != 2 ** (reduction.bit_length() - 1) or not reduction:
        raise Undescribed("audio_processor.config.time_reduction is no power of two")
    halvings = reduction.bit_length() - 1
    separable = convolution(1, channels, 3, 3) + linear(channels, channels, bias=True)
    entrance = convolution(1, channels, 3, 3) + (halvings - 1) * separable
    entrance += linear(channels * (bands // reduction), width, bias=True) + 2 * bands
    feed = norm(width, bias=True) + linear(width, 2 * inner, bias=True) + linear(inner, width, bias=True)
    attending = attention(width, heads, bias=True) + norm(width, bias=True)
    kernel = a.integer("kernel_size")
    convolved = norm(width, bias=True) + linear(width, 2 * width, bias=True) + 2 * width
    convolved += convolution(1, width, kernel) + 2 * linear(width, width, bias=True)
    block = 2 * feed + attending + convolved + norm(width, bias=True)
    distances = 2 * a.section("relative_attention_bias_args").integer("t5_bias_max_distance")
    return entrance + a.integer("num_blocks") * block + embedding(distances, heads)


def _adapter(c: Section, adapter: Section) -> Tally:
    """Two matrices beside each projection of a layer: queries, keys and values together, gates and values together."""
    width, inner, rank = c.integer("hidden_size"), c.integer("intermediate_size"), adapter.integer("r")
    heads, kv_heads = c.integer("num_attention_heads"), c.integer("num_key_value_heads")
    head = width // heads
    ends = (width, (heads + 2 * kv_heads) * head), (heads * head, width), (width, 2 * inner), (inner, width)
    layer = sum((linear(before, rank) + linear(rank, after) for before, after in ends), Tally())
    return c.integer("num_hidden_layers") * layer


FAMILIES = (
    Family(
        ("phi4mm",),
        phi4mm,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT", "AUDIO_TEXT_TO_TEXT"),
        classes=("Phi4MMForCausalLM",),
        ignores=frozenset(
            (
                "activation",
                "activation_checkpointing",
                "chunk_size",
                "left_chunk",
                "dropout_rate",
                "conv_activation",
                "crop_size",
                "hd_transform_order",
                "enable_gradient_checkpointing",
                "compression_rate",
                "downsample_rate",
                "dp",
                "lora_alpha",
                "full_attn_mod",
                "interpolate_factor",
                "causal",
                "encoder_embedding_config",
                "type",
            )
        ),
        assumes={
            "layer": (
                r"layers.*((self_attn\.(qkv_proj|o_proj))|(mlp\.(gate_up|down)_proj))",
                r"((layers.*self_attn\.(qkv|o)_proj)|(layers.*mlp\.(gate_up|down)_proj))",
            ),
            "name": ("cascades",),
            "embedding_cls": ("audio", "tune_image", "image_audio"),
            "projection_cls": ("mlp",),
            "image_token_compression_cls": ("avg_pool_2d",),
            "use_hd_transform": (True,),
            "use_qformer": (False,),
            "use_conv_downsample": (False,),
            "input_layer": ("nemo_conv",),
            "batch_norm": (False,),
            "bias_in_glu": (True,),
            "cnn_layer_norm": (True,),
            "conv_glu_type": ("swish",),
            "depthwise_multiplier": (1,),
            "depthwise_seperable_out_channel": (1024,),
            "ext_pw_kernel_size": (1,),
            "ext_pw_out_channel": (1024,),
            "lm_head_bias": (False,),
        },
    ),
)
