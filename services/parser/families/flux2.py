"""Flux 2: gated blocks without biases, modulations that all blocks of a kind share."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, linear, norm, uncached


def flux2(c: Section) -> Network:
    """Flux 2 dev and klein."""
    heads, head = c.integer("num_attention_heads", default=48), c.integer("attention_head_dim", default=128)
    width, time = heads * head, c.integer("timestep_guidance_channels", default=256)
    inner = int(width * c.number("mlp_ratio", default=3.0))
    both = 2 * (attention(width, heads, heads, head) + 2 * norm(head) + _gated(width, inner))
    # Attention and block share one projection in and one out.
    single = linear(width, 3 * width + 2 * inner) + linear(width + inner, width) + 2 * norm(head)
    embedder = linear(time, width) + linear(width, width)
    conditions = (2 if c.flag("guidance_embeds", default=True) else 1) * embedder
    modulations = 2 * linear(width, 6 * width) + linear(width, 3 * width)
    patch, inputs = c.integer("patch_size", default=1), c.integer("in_channels", default=128)
    outputs = (c.stated_integer("out_channels") or inputs) * patch**2
    ends = linear(inputs, width) + linear(width, 2 * width) + linear(width, outputs)
    return Network(
        {
            "conditions": conditions + modulations,
            "text": linear(c.integer("joint_attention_dim", default=15360), width),
            "blocks": uncached(c.integer("num_layers", default=8) * both),
            "single_blocks": c.integer("num_single_layers", default=48) * single,
            "ends": ends,
        }
    )


def _gated(width: int, inner: int) -> Tally:
    return linear(width, 2 * inner) + linear(inner, width)


FAMILIES = (Family((), flux2, ("Flux2Transformer2DModel",), ignores=frozenset(("axes_dims_rope",))),)
