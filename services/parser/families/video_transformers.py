"""Diffusion transformers for video of diffusers: LTX, CogVideoX and HunyuanVideo."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, linear, norm, plain, uncached

_SINES = 256


def ltx(c: Section) -> Network:
    """LTX-Video: cross-attention to text, modulations that are tables."""
    heads, head = c.integer("num_attention_heads", default=32), c.integer("attention_head_dim", default=64)
    width, crossed = heads * head, c.integer("cross_attention_dim", default=2048)
    bias, out_bias = c.flag("attention_bias", default=True), c.flag("attention_out_bias", default=True)
    attending = attention(width, heads, heads, head, bias=bias, output_bias=out_bias) + 2 * norm(width)
    crossing = attention(width, heads, heads, head, bias=bias, output_bias=out_bias, inputs=crossed) + 2 * norm(width)
    block = uncached(attending) + crossing + plain(width, 4 * width) + 6 * width
    time = linear(_SINES, width, bias=True) + linear(width, width, bias=True) + linear(width, 6 * width, bias=True)
    caption = linear(c.integer("caption_channels", default=4096), width, bias=True) + linear(width, width, bias=True)
    inputs = c.integer("in_channels", default=128)
    outputs = c.stated_integer("out_channels") or inputs
    ends = linear(inputs, width, bias=True) + linear(width, outputs, bias=True) + 2 * width
    blocks = c.integer("num_layers", default=28) * block
    return Network({"conditions": time, "text": caption, "blocks": blocks, "ends": ends})


def cogvideox(c: Section) -> Network:
    """CogVideoX: text and video in one stream, both modulated by a narrow embedding of time."""
    heads, head = c.integer("num_attention_heads", default=30), c.integer("attention_head_dim", default=64)
    width, time = heads * head, c.integer("time_embed_dim", default=512)
    bias = c.flag("attention_bias", default=True)
    modulated = linear(time, 6 * width, bias=True) + norm(width, bias=True)
    attending = attention(width, heads, heads, head, bias=bias, output_bias=True) + 2 * norm(head, bias=True)
    block = uncached(attending) + plain(width, 4 * width) + 2 * modulated
    steps = linear(width, time, bias=True) + linear(time, time, bias=True)
    offsets = c.stated_integer("ofs_embed_dim")
    steps += linear(offsets, offsets, bias=True) + linear(offsets, offsets, bias=True) if offsets else 0
    patch, depth = c.integer("patch_size", default=2), c.stated_integer("patch_size_t") or 1
    volume = patch**2 * depth
    stem = linear(c.integer("in_channels", default=16) * volume, width, c.flag("patch_bias", default=True))
    stem += linear(c.integer("text_embed_dim", default=4096), width, bias=True)
    ends = norm(width, bias=True) + linear(time, 2 * width, bias=True) + norm(width, bias=True)
    ends += linear(width, volume * c.integer("out_channels", default=16), bias=True)
    blocks = c.integer("num_layers", default=30) * block
    if c.flag("use_learned_positional_embeddings"):
        c.doubt("the table of positions follows from the length of the video")
    return Network({"conditions": steps, "stem": stem, "blocks": blocks, "ends": ends})


def hunyuan_video(c: Section) -> Network:
    """HunyuanVideo: Flux's two kinds of blocks, and a refiner for the states of the text."""
    heads, head = c.integer("num_attention_heads", default=24), c.integer("attention_head_dim", default=128)
    width = heads * head
    inner = int(width * c.number("mlp_ratio", default=4.0))
    attending = uncached(attention(width, heads, heads, head, bias=True))
    half = attending + 2 * norm(head) + plain(width, inner) + linear(width, 6 * width, bias=True)
    single = linear(width, 3 * width, bias=True) + 2 * norm(head) + linear(width, 3 * width, bias=True)
    single += linear(width, inner, bias=True) + linear(width + inner, width, bias=True)
    time = linear(_SINES, width, bias=True) + linear(width, width, bias=True)
    text, pooled = c.integer("text_embed_dim", default=4096), c.integer("pooled_projection_dim", default=768)
    conditions = time + linear(pooled, width, bias=True) + linear(width, width, bias=True)
    conditions += time if c.flag("guidance_embeds", default=True) else 0
    patch, frames = c.integer("patch_size", default=2), c.integer("patch_size_t", default=1)
    outputs = c.integer("out_channels", default=16) * patch**2 * frames
    stem = convolution(c.integer("in_channels", default=16), width, frames, patch, patch)
    ends = stem + linear(width, 2 * width, bias=True) + linear(width, outputs, bias=True)
    # The refiner's blocks have a width of their own, whatever mlp_ratio is.
    refined = attending + plain(width, 4 * width) + 2 * norm(width, bias=True) + linear(width, 2 * width, bias=True)
    refiner = time + 2 * linear(text, width, bias=True) + linear(width, width, bias=True)
    return Network(
        {
            "conditions": conditions,
            "text": refiner + c.integer("num_refiner_layers", default=2) * refined,
            "blocks": c.integer("num_layers", default=20) * (2 * half),
            "single_blocks": c.integer("num_single_layers", default=40) * single,
            "ends": ends,
        }
    )


FAMILIES = (
    Family(
        (),
        ltx,
        ("LTXVideoTransformer3DModel",),
        ignores=frozenset(("patch_size", "patch_size_t")),
        assumes={
            "activation_fn": ("gelu-approximate",),
            "qk_norm": ("rms_norm_across_heads",),
            "norm_elementwise_affine": (False,),
        },
    ),
    Family(
        (),
        cogvideox,
        ("CogVideoXTransformer3DModel",),
        ignores=frozenset(
            (
                *(
                    "sample_width",
                    "sample_height",
                    "sample_frames",
                    "temporal_compression_ratio",
                    "max_text_seq_length",
                ),
                *("spatial_interpolation_scale", "temporal_interpolation_scale", "timestep_activation_fn"),
                *("use_rotary_positional_embeddings",),
            )
        ),
        assumes={"activation_fn": ("gelu-approximate",), "norm_elementwise_affine": (True,)},
    ),
    Family(
        (),
        hunyuan_video,
        ("HunyuanVideoTransformer3DModel",),
        ignores=frozenset(("rope_axes_dim",)),
        assumes={"qk_norm": ("rms_norm",)},
    ),
)
