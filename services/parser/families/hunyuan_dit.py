"""HunyuanDiT: blocks with cross-attention to two text encoders, the second half takes skips from the first."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, embedding, linear, norm, plain, uncached

_TIME = 256
# Sizes of the picture and of the crop, six numbers of sines and cosines.
_SIZES = 6 * 256


def hunyuan_dit(c: Section) -> Network:
    """HunyuanDiT 1.0 to 1.2."""
    heads, head = c.integer("num_attention_heads", default=16), c.integer("attention_head_dim", default=88)
    width, depth = heads * head, c.integer("num_layers", default=40)
    crossed, second = c.integer("cross_attention_dim", default=1024), c.integer("cross_attention_dim_t5", default=2048)
    pooled, patch = c.integer("pooled_projection_dim", default=1024), c.integer("patch_size", default=2)
    channels, length = c.integer("in_channels", default=4), c.integer("text_len_t5", default=256)
    inner = int(width * c.number("mlp_ratio", default=4.0))
    attending = attention(width, heads, heads, head, bias=True) + 2 * norm(head, bias=True)
    crossing = attention(width, heads, heads, head, bias=True, inputs=crossed) + 2 * norm(head, bias=True)
    block = uncached(attending) + crossing + plain(width, inner) + 3 * norm(width, bias=True)
    block += linear(width, width, bias=True)
    skip = norm(2 * width, bias=True) + linear(2 * width, width, bias=True)
    pooler = 3 * linear(second, second, bias=True) + linear(second, pooled, bias=True) + embedding(length + 1, second)
    styled = c.flag("use_style_cond_and_image_meta_size", default=True)
    extra = pooled + (_SIZES + width if styled else 0)
    conditions = linear(_TIME, width, bias=True) + linear(width, width, bias=True) + pooler
    conditions += linear(extra, 4 * width, bias=True) + linear(4 * width, width, bias=True) + (width if styled else 0)
    text = linear(second, 4 * second, bias=True) + linear(4 * second, crossed, bias=True)
    text += embedding(c.integer("text_len", default=77) + length, crossed)
    out = channels * 2 if c.flag("learn_sigma", default=True) else channels
    ends = convolution(channels, width, patch, patch) + linear(width, 2 * width, bias=True)
    ends += linear(width, patch**2 * out, bias=True)
    blocks = depth * block + (depth // 2 - 1) * skip
    return Network({"conditions": conditions, "text": text, "blocks": blocks, "ends": ends})


FAMILIES = (
    Family(
        (),
        hunyuan_dit,
        ("HunyuanDiT2DModel",),
        ignores=frozenset(("hidden_size",)),
        assumes={"activation_fn": ("gelu-approximate",), "norm_type": ("layer_norm",)},
    ),
)
