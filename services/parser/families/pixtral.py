"""Pixtral's vision encoder: Llama's layers over patches, positions by rotation."""

from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import attention, convolution, gated, norm, uncached

_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 16,
}


def pixtral(c: Section) -> Network:
    """The encoder of Pixtral, Mistral Small 3.1 and their successors."""
    width, patch = c.integer("hidden_size"), c.integer("patch_size")
    layer = attention(width, c.integer("num_attention_heads")) + gated(width, c.integer("intermediate_size"))
    return Network(
        {
            "embeddings": convolution(c.integer("num_channels", default=3), width, patch, patch, bias=False),
            "layers": uncached(c.integer("num_hidden_layers") * (layer + 2 * norm(width))) + norm(width),
        }
    )


FAMILIES = (
    Family(
        ("pixtral",),
        pixtral,
        capabilities=("VISION",),
        defaults=_DEFAULTS,
        classes=("PixtralVisionModel",),
        ignores=frozenset(("head_dim", "image_size")),
    ),
)
