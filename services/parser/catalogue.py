"""The catalogue of architecture families: one module of services.parser.families per page, found by name.

Decides which page describes a configuration. Adding a page touches nothing here.
"""

import importlib
import pkgutil
from functools import cache

from services.parser import families
from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, uncached


def family_of(c: Section) -> Family | None:
    """The page for a configuration: by its class when that stands alone, else by its model type."""
    by_class, by_type = _pages()
    return by_class.get(c.architecture) or by_type.get(c.model_type)


def tower(c: Section, name: str, model_type: str, architecture: str = "TowerModel") -> Tally:
    """An encoder inside c, in the section called name; it keeps no cache."""
    return uncached(describe(_inner(c, name, model_type, architecture), model_type, architecture).total)


def describe(c: Section, model_type: str = "", architecture: str = "") -> Network:
    """The network that c configures.

    model_type is that of a part whose section does not state one; architecture is the class that the enclosing
    model builds of it, which decides the head. Raises Undescribed when no page knows it or something needed is missing.
    """
    stated = {"model_type": c.model_type or model_type}
    if architecture:
        stated["architectures"] = [architecture]  # type: ignore[assignment]
    c = c.merged(stated)
    family = family_of(c)
    if family is None:
        raise Undescribed(f"no description of model type {c.model_type!r}")
    return family.describe(c)


def language_part(c: Section, name: str, model_type: str, architecture: str = "TextForCausalLM") -> Network:
    """The language model inside c, in the section called name, of model_type unless that states its own.

    Whether its head is tied is stated by c, or else by the section.
    """
    section = _inner(c, name, model_type, architecture)
    if "tie_word_embeddings" in c:
        section = section.merged({"tie_word_embeddings": c.flag("tie_word_embeddings")})
    return describe(section, model_type, architecture)


def _inner(c: Section, name: str, model_type: str, architecture: str) -> Section:
    section = c.section(name)
    stated = {"model_type": section.model_type or model_type, "architectures": [architecture]}
    family = family_of(section.merged(stated))
    return section.with_defaults(family.defaults) if family else section


def known_model_types() -> frozenset[str]:
    """All model types that have a page."""
    return frozenset(_pages()[1])


def load() -> None:
    """Read every page now rather than with the first request."""
    _pages()


@cache
def _pages() -> tuple[dict[str, Family], dict[str, Family]]:
    by_class: dict[str, Family] = {}
    by_type: dict[str, Family] = {}
    for module in pkgutil.iter_modules(families.__path__):
        page = importlib.import_module(f"{families.__name__}.{module.name}")
        for family in page.FAMILIES:
            by_class.update(dict.fromkeys(family.architectures, family))
            by_type.update(dict.fromkeys(family.model_types, family))
    return by_class, by_type
