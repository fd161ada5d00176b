"""Maira: radiology reports from DINOv2 and a language model."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import linear


def maira2(c: Section) -> Network:
    """Maira 2: DINOv2, a projector of some depth, Vicuna or Phi."""
    language = catalogue.language_part(c, "text_config", "llama")
    tower = catalogue.tower(c, "vision_config", "dinov2")
    seen = c.section("vision_config").integer("hidden_size", default=768)
    width = c.section("text_config").integer("hidden_size", default=4096)
    depth = c.integer("projector_n_layers", default=4)
    projector = linear(seen, width, bias=True) + max(depth - 1, 0) * linear(width, width, bias=True)
    return Network(
        {**language.parts, "vision_tower": tower, "projector": projector},
        exact=False,
        why="Maira's projector is only named in its configuration",
    )


FAMILIES = (Family(("maira2",), maira2, capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT")),)
