"""Z-Image: one stream of text and picture, refined apart first, with few modulations."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, gated, linear, norm, uncached

_TIME = 256
_TIME_INNER = 1024


def z_image(c: Section) -> Network:
    """Z-Image."""
    width, heads = c.integer("dim", default=3840), c.integer("n_heads", default=30)
    head = width // heads
    # The width of the feed-forward block is fixed at eight thirds.
    block = attention(width, heads, heads, head) + gated(width, width * 8 // 3)
    block = uncached(block) + 4 * norm(width) + (2 * norm(head) if c.flag("qk_norm", default=True) else 0)
    modulation = linear(min(width, _TIME), 4 * width, bias=True)
    refiners, depth = c.integer("n_refiner_layers", default=2), c.integer("n_layers", default=30)
    caption = c.integer("cap_feat_dim", default=2560)
    time = linear(_TIME, _TIME_INNER, bias=True) + linear(_TIME_INNER, _TIME, bias=True)
    text = norm(caption) + linear(caption, width, bias=True) + 2 * width
    ends = 0 * text
    frames = c.integers("all_f_patch_size", default=(1,))
    for patch, frame in zip(c.integers("all_patch_size", default=(2,)), frames, strict=True):
        pixels = frame * patch**2 * c.integer("in_channels", default=16)
        ends += linear(pixels, width, bias=True) + linear(width, pixels, bias=True) + linear(_TIME, width, bias=True)
    return Network(
        {
            "conditions": time,
            "text": text,
            "blocks": (depth + 2 * refiners) * block + (depth + refiners) * modulation,
            "ends": ends,
        }
    )


FAMILIES = (
    Family(
        (),
        z_image,
        ("ZImageTransformer2DModel",),
        ignores=frozenset(("axes_dims", "n_kv_heads", "axes_lens", "t_scale")),
    ),
)
