"""VILA: a SigLIP tower whose neighbouring patches are joined, and any language model."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import linear, norm


def vila(c: Section) -> Network:
    """VILA 1.5: a SigLIP tower, neighbouring patches joined, any language model."""
    llm, v = c.section("llm_cfg"), c.section("vision_tower_cfg")
    language = catalogue.language_part(c, "llm_cfg", "llama")
    tower = catalogue.tower(c, "vision_tower_cfg", "siglip_vision_model")
    joined, width = 4 * v.integer("hidden_size"), llm.integer("hidden_size")
    projector = norm(joined, bias=True) + linear(joined, width, bias=True) + linear(width, width, bias=True)
    return Network(
        {**language.parts, "vision_tower": tower, "projector": projector},
        exact=False,
        why="VILA's files lie in folders of their own and its projector is only named",
    )


FAMILIES = (
    Family((), vila, architectures=("LlavaLlamaModel",), capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT")),
)
