"""CLIP: a text and a vision encoder, alone or together; and the safety checker that Stable Diffusion builds on it."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, attention, convolution, embedding, linear, norm, plain, uncached

_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
# Concepts that the safety checker knows: 17 of them, and 3 that need special care.
_CONCEPTS = 17 + 3


def layers(c: Section) -> Tally:
    """A stack of pre-norm encoder layers with biases everywhere."""
    width = c.integer("hidden_size")
    attending = attention(width, c.integer("num_attention_heads"), bias=True)
    layer = attending + plain(width, c.integer("intermediate_size")) + 2 * norm(width, bias=True)
    return uncached(c.integer("num_hidden_layers") * layer)


def text(c: Section) -> Network:
    """The text encoder, with a projection in the classes that are named for it."""
    width = c.integer("hidden_size")
    entries = c.integer("vocab_size", default=49408) + c.integer("max_position_embeddings", default=77)
    parts = {"embeddings": embedding(entries, width), "layers": layers(c) + norm(width, bias=True)}
    return Network({**parts, "head": _projection(c)})


def vision(c: Section) -> Network:
    """The vision encoder: a class token, patches without bias, norms before and behind the layers."""
    width, patch = c.integer("hidden_size"), c.integer("patch_size")
    positions = (c.integer("image_size", default=224) // patch) ** 2 + 1
    patches = convolution(c.integer("num_channels", default=3), width, patch, patch, bias=False)
    return Network(
        {
            "embeddings": patches + embedding(positions + 1, width),
            "layers": layers(c) + 2 * norm(width, bias=True),
            "head": _projection(c),
        }
    )


def both(c: Section) -> Network:
    """Both encoders, a projection of each into a common space, and a temperature."""
    shared = c.integer("projection_dim", default=512)
    return Network(
        {
            "text": catalogue.tower(c, "text_config", "clip_text_model"),
            "vision": catalogue.tower(c, "vision_config", "clip_vision_model"),
            "projections": _project(c, "text_config", _TEXT, shared)
            + _project(c, "vision_config", _VISION, shared)
            + 1,
        }
    )


def safety_checker(c: Section) -> Network:
    """Stable Diffusion's safety checker: the vision encoder and the concepts that it compares pictures with."""
    shared = c.integer("projection_dim", default=512)
    concepts = Tally(_CONCEPTS * shared + _CONCEPTS)
    seen = catalogue.tower(c, "vision_config", "clip_vision_model")
    return Network({"vision": seen, "projection": _project(c, "vision_config", _VISION, shared), "concepts": concepts})


def _projection(c: Section) -> Tally:
    if not c.architecture.endswith("WithProjection"):
        return Tally()
    return linear(c.integer("hidden_size"), c.integer("projection_dim", default=512))


def _project(c: Section, name: str, defaults: dict[str, int], shared: int) -> Tally:
    return linear(c.section(name).integer("hidden_size", default=defaults["hidden_size"]), shared)


FAMILIES = (
    Family(
        ("clip_text_model",),
        text,
        ("CLIPTextModel", "CLIPTextModelWithProjection"),
        ("EMBEDDING",),
        _TEXT,
        ignores=frozenset(("projection_dim",)),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("clip_vision_model",),
        vision,
        capabilities=("VISION",),
        defaults=_VISION,
        classes=("CLIPVisionModel", "CLIPVisionModelWithProjection"),
        ignores=frozenset(("projection_dim", "vocab_size")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        ("clip",),
        both,
        capabilities=("EMBEDDING", "VISION"),
        classes=("CLIPModel",),
        ignores=frozenset(("text_config_dict", "vision_config_dict")),
        assumes={"tie_word_embeddings": (True,)},
    ),
    Family(
        (),
        safety_checker,
        ("StableDiffusionSafetyChecker",),
        ignores=frozenset(("text_config", "text_config_dict", "vision_config_dict")),
        assumes={"tie_word_embeddings": (True,)},
        parts=("clip", "clip_vision_model"),
    ),
)
