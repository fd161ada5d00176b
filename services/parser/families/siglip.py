"""SigLIP 1 and 2: text and vision encoders that meet in one space without projections."""

from services.parser import catalogue
from services.parser.families.clip import layers
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

_TEXT = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
}
# A temperature and a bias for the sigmoid.
_LOGIT = 2


def text(c: Section) -> Network:
    """The text encoder with its head."""
    width = c.integer("hidden_size")
    entries = c.integer("vocab_size") + c.integer("max_position_embeddings", default=64)
    head = linear(width, c.integer("projection_size", default=width), bias=True)
    return Network(
        {"embeddings": embedding(entries, width), "layers": layers(c) + norm(width, bias=True), "head": head}
    )


def vision(c: Section) -> Network:
    """SigLIP 1: a table of positions for one resolution."""
    positions = (c.integer("image_size", default=224) // c.integer("patch_size")) ** 2
    return _vision(c, positions)


def vision2(c: Section) -> Network:
    """SigLIP 2 for any aspect: a table of positions that is stretched to the picture."""
    return _vision(c, c.integer("num_patches", default=256))


def both(c: Section) -> Network:
    """Both encoders."""
    inner = f"{c.model_type}_vision_model"
    return Network(
        {
            "text": catalogue.tower(c, "text_config", f"{c.model_type}_text_model"),
            "vision": catalogue.tower(c, "vision_config", inner),
            "logit": Tally(_LOGIT),
        }
    )


def _vision(c: Section, positions: int) -> Network:
    width, patch = c.integer("hidden_size"), c.integer("patch_size")
    patches = convolution(c.integer("num_channels", default=3), width, patch, patch)
    parts = {
        "embeddings": patches + embedding(positions, width),
        "layers": layers(c) + norm(width, bias=True),
    }
    if c.flag("vision_use_head", default=True):
        # One learned query attends to all patches.
        pooled = uncached(attention(width, c.integer("num_attention_heads"), bias=True))
        parts["head"] = pooled + width + norm(width, bias=True) + plain(width, c.integer("intermediate_size"))
    return Network(parts)


FAMILIES = (
    Family(
        ("siglip_text_model", "siglip2_text_model"),
        text,
        capabilities=("EMBEDDING",),
        defaults=_TEXT,
        classes=("SiglipTextModel", "Siglip2TextModel"),
    ),
    Family(
        ("siglip_vision_model",), vision, capabilities=("VISION",), defaults=_VISION, classes=("SiglipVisionModel",)
    ),
    Family(
        ("siglip2_vision_model",), vision2, capabilities=("VISION",), defaults=_VISION, classes=("Siglip2VisionModel",)
    ),
    Family(("siglip", "siglip2"), both, capabilities=("EMBEDDING", "VISION"), classes=("SiglipModel", "Siglip2Model")),
)
