"""Stable Diffusion 3: joint attention without norms, the last block updates the picture alone."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, linear, norm, plain, uncached

_TIME = 256


def sd3(c: Section) -> Network:
    """Stable Diffusion 3 and 3.5."""
    heads, head = c.integer("num_attention_heads", default=18), c.integer("attention_head_dim", default=64)
    width, depth = heads * head, c.integer("num_layers", default=18)
    patch, channels = c.integer("patch_size", default=2), c.integer("in_channels", default=16)
    caption, pooled = c.integer("caption_projection_dim", default=1152), c.integer(
        "pooled_projection_dim", default=2048
    )
    stream = uncached(attention(width, heads, heads, head, bias=True)) + plain(width, 4 * width)
    stream += linear(width, 6 * width, bias=True)
    stream += 2 * norm(head) if c.text("qk_norm") else 0
    # The text of the last block has queries, keys and values, and only a scale and a shift.
    unused = linear(width, width, bias=True) + plain(width, 4 * width) + linear(width, 4 * width, bias=True)
    # Some blocks of 3.5 medium attend to the picture once more.
    dual = len(c.items("dual_attention_layers"))
    extra = uncached(attention(width, heads, heads, head, bias=True)) + linear(width, 3 * width, bias=True)
    extra += 2 * norm(head) if c.text("qk_norm") else 0
    blocks = 2 * depth * stream + dual * extra + Tally(-unused.parameters)
    conditions = (
        linear(_TIME, width, bias=True) + linear(pooled, width, bias=True) + 2 * linear(width, width, bias=True)
    )
    out = c.stated_integer("out_channels") or channels
    ends = (
        convolution(channels, width, patch, patch)
        + linear(c.integer("joint_attention_dim", default=4096), caption, bias=True)
        + linear(width, 2 * width, bias=True)
        + linear(width, patch**2 * out, bias=True)
    )
    return Network({"conditions": conditions, "blocks": blocks, "ends": ends})


FAMILIES = (Family((), sd3, ("SD3Transformer2DModel",), ignores=frozenset(("pos_embed_max_size",))),)
