"""Segment Anything: a vision transformer with positions relative to windows, prompts, and a decoder of masks.

The formula follows modeling_sam.py of transformers; the counts of the three published sizes are those of the authors'
checkpoints without their random positions, which nobody trains.
"""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

# Sizes that the library fixes in code: convolutions over masks and from features to masks.
_MASK_KERNEL, _UPSCALED = 2, (4, 8)


def sam(c: Section) -> Network:
    """The whole model."""
    vision, prompts, masks = (c.section(f"{name}_config") for name in ("vision", "prompt_encoder", "mask_decoder"))
    return Network(
        {"vision_encoder": uncached(_encoder(vision)), "prompt_encoder": _prompts(prompts), "masks": _decoder(masks)}
    )


def _encoder(v: Section) -> Tally:
    width, heads = v.integer("hidden_size", default=768), v.integer("num_attention_heads", default=12)
    patch, channels = v.integer("patch_size", default=16), v.integer("num_channels", default=3)
    grid, depth = v.integer("image_size", default=1024) // patch, v.integer("num_hidden_layers", default=12)
    window, everywhere = v.integer("window_size", default=14), v.integers("global_attn_indexes", default=(2, 5, 8, 11))
    inner = v.stated_integer("mlp_dim") or int(v.number("mlp_ratio", default=4.0) * width)
    bias = v.flag("qkv_bias", default=True)
    total = convolution(channels, width, patch, patch)
    if v.flag("use_abs_pos", default=True):
        total += embedding(grid * grid, width)
    layer = attention(width, heads, bias=bias, output_bias=True) + plain(width, inner) + 2 * norm(width, bias=True)
    total += depth * layer
    if v.flag("use_rel_pos", default=True):
        whole = sum(1 for index in everywhere if index < depth)
        # Each of the two directions has a vector of a head's width per distance.
        distances = whole * (2 * grid - 1) + (depth - whole) * (2 * window - 1)
        total += embedding(2 * distances, width // heads)
    out = v.integer("output_channels", default=256)
    neck = linear(width, out) + convolution(out, out, 3, 3, bias=False) + 2 * norm(out, bias=True)
    return total + neck


def _prompts(p: Section) -> Tally:
    width, channels = p.integer("hidden_size", default=256), p.integer("mask_input_channels", default=16)
    # Kinds of points, what is no point, and what is no mask.
    vectors = embedding(p.integer("num_point_embeddings", default=4) + 2, width)
    narrow = channels // 4
    kernel = (_MASK_KERNEL, _MASK_KERNEL)
    masks = (
        convolution(1, narrow, *kernel) + convolution(narrow, channels, *kernel) + linear(channels, width, bias=True)
    )
    return vectors + masks + norm(narrow, bias=True) + norm(channels, bias=True)


def _decoder(d: Section) -> Tally:
    width, inner = d.integer("hidden_size", default=256), d.integer("mlp_dim", default=2048)
    masks = d.integer("num_multimask_outputs", default=3) + 1
    crossing = _attention(width, width // d.integer("attention_downsample_rate", default=2))
    layer = _attention(width, width) + 2 * crossing + plain(width, inner) + 4 * norm(width, bias=True)
    layers = d.integer("num_hidden_layers", default=2) * layer + crossing + norm(width, bias=True)
    first, second = (width // by for by in _UPSCALED)
    kernel = (_MASK_KERNEL, _MASK_KERNEL)
    upscaling = convolution(width, first, *kernel) + norm(first, bias=True) + convolution(first, second, *kernel)
    depth, hidden = d.integer("iou_head_depth", default=3), d.integer("iou_head_hidden_dim", default=256)
    quality = _perceptron(width, hidden, masks, depth)
    return embedding(1 + masks, width) + layers + upscaling + masks * _perceptron(width, width, second, 3) + quality


def _attention(width: int, inner: int) -> Tally:
    return 3 * linear(width, inner, bias=True) + linear(inner, width, bias=True)


def _perceptron(inputs: int, hidden: int, outputs: int, depth: int) -> Tally:
    ends = linear(inputs, hidden, bias=True) + linear(hidden, outputs, bias=True)
    return ends + (depth - 2) * linear(hidden, hidden, bias=True)


FAMILIES = (
    Family(
        ("sam",),
        sam,
        capabilities=("VISION",),
        classes=("SamModel",),
        ignores=frozenset(("num_pos_feats", "image_embedding_size", "vision_config_type")),
        parts=("sam_vision_model", "sam_prompt_encoder", "sam_mask_decoder"),
    ),
)
