"""Flux, Chroma and Qwen-Image: diffusion transformers whose picture and text streams attend jointly."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, linear, norm, plain, uncached

# Sines and cosines of the time step.
_TIME = 256


def flux(c: Section) -> Network:
    """Flux: double blocks, then single blocks that run attention and feed-forward side by side."""
    width = _width(c, heads=24)
    pooled = c.integer("pooled_projection_dim", default=768)
    guidance = 2 if c.flag("guidance_embeds") else 1
    conditions = guidance * _embedder(_TIME, width) + _embedder(pooled, width)
    double = _double(c, width) + 2 * linear(width, 6 * width, bias=True)
    single = _single(c, width) + linear(width, 3 * width, bias=True)
    ends = linear(width, 2 * width, bias=True)
    return _network(c, width, conditions, double, single, ends)


def chroma(c: Section) -> Network:
    """Chroma: one network makes the modulation of all blocks, which have none of their own."""
    width, hidden = _width(c, heads=24), c.integer("approximator_hidden_dim", default=5120)
    depth = c.integer("approximator_layers", default=5)
    inputs = c.stated_integer("approximator_num_channels") or 4 * c.integer("approximator_in_factor", default=16)
    guidance = linear(inputs, hidden, bias=True) + linear(hidden, width, bias=True)
    guidance += depth * (2 * linear(hidden, hidden, bias=True) + norm(hidden))
    return _network(c, width, guidance, _double(c, width), _single(c, width), Tally())


def qwen_image(c: Section) -> Network:
    """Qwen-Image: double blocks alone, the text normed first."""
    width, joint = _width(c, heads=24), c.integer("joint_attention_dim", default=3584)
    channels, patch = c.integer("in_channels", default=64), c.integer("patch_size", default=2)
    double = _double(c, width) + 2 * linear(width, 6 * width, bias=True)
    ends = (
        linear(channels, width, bias=True)
        + linear(joint, width, bias=True)
        + norm(joint)
        + linear(width, 2 * width, bias=True)
        + linear(width, patch**2 * c.integer("out_channels", default=16), bias=True)
    )
    blocks = c.integer("num_layers", default=60) * double
    return Network({"conditions": _embedder(_TIME, width), "blocks": blocks, "ends": ends})


def _network(c: Section, width: int, conditions: Tally, double: Tally, single: Tally, ends: Tally) -> Network:
    channels, patch = c.integer("in_channels", default=64), c.integer("patch_size", default=1)
    out = c.stated_integer("out_channels") or channels
    joint = c.integer("joint_attention_dim", default=4096)
    streams = linear(channels, width, bias=True) + linear(joint, width, bias=True)
    return Network(
        {
            "conditions": conditions,
            "double_blocks": c.integer("num_layers", default=19) * double,
            "single_blocks": c.integer("num_single_layers", default=38) * single,
            "ends": streams + ends + linear(width, patch**2 * out, bias=True),
        }
    )


def _double(c: Section, width: int) -> Tally:
    """Attention with heads' norms and a feed-forward block, once for each stream."""
    heads, head = c.integer("num_attention_heads", default=24), c.integer("attention_head_dim", default=128)
    return 2 * uncached(attention(width, heads, heads, head, bias=True) + 2 * norm(head) + plain(width, 4 * width))


def _single(c: Section, width: int) -> Tally:
    head = c.integer("attention_head_dim", default=128)
    projections = 3 * linear(width, width, bias=True) + 2 * norm(head)
    return projections + linear(width, 4 * width, bias=True) + linear(5 * width, width, bias=True)


def _width(c: Section, heads: int) -> int:
    return c.integer("num_attention_heads", default=heads) * c.integer("attention_head_dim", default=128)


def _embedder(inputs: int, width: int) -> Tally:
    return linear(inputs, width, bias=True) + linear(width, width, bias=True)


FAMILIES = (
    Family((), flux, ("FluxTransformer2DModel",), ignores=frozenset(("axes_dims_rope",))),
    Family((), chroma, ("ChromaTransformer2DModel",)),
    Family(
        (),
        qwen_image,
        ("QwenImageTransformer2DModel",),
        ignores=frozenset(("pooled_projection_dim",)),
        assumes={"guidance_embeds": (False,), "zero_cond_t": (True, False)},
    ),
)
