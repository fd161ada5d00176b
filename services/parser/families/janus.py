"""Janus: Llama between a SigLIP tower that sees and a vector quantizer that draws, both named rather than described."""

from services.parser import catalogue
from services.parser.network import Family, Network
from services.parser.section import Section
from services.parser.tally import Tally, linear

# https://arxiv.org/abs/2410.13848: SigLIP-Large-Patch16-384 with its pooling head, and the VQ-16 tokenizer of LlamaGen.
_SIGLIP_LARGE = 316_150_000
_VQ16 = 71_880_000


def janus(c: Section) -> Network:
    """Janus and Janus-Pro."""
    language = catalogue.language_part(c, "language_config", "llama")
    width = c.section("language_config").integer("hidden_size", default=4096)
    codes = c.section("gen_vision_config").section("params").integer("image_token_size", default=16384)
    seen = c.section("aligner_config").section("params").integer("input_dim", default=1024)
    drawn = c.section("gen_aligner_config").section("params").integer("input_dim", default=8)
    head = linear(width, width, bias=True) + linear(width, codes, bias=True) + codes * drawn
    aligners = linear(seen, width, bias=True) + linear(drawn, width, bias=True) + 2 * linear(width, width, bias=True)
    return Network(
        {
            **language.parts,
            "towers": Tally(_SIGLIP_LARGE + _VQ16),
            "aligners": aligners,
            "image_head": head,
        },
        exact=False,
        why="the towers of Janus are named rather than described",
    )


FAMILIES = (
    Family(
        ("multi_modality",),
        janus,
        capabilities=("TEXT_GENERATION", "IMAGE_TEXT_TO_TEXT", "TEXT_TO_IMAGE"),
        classes=("MultiModalityCausalLM",),
    ),
)
