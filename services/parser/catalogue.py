"""The catalogue of architecture families: one module of services.parser.families per page, found by name.

Decides which page describes a configuration. Adding a page touches nothing here.
"""

import importlib
import pkgutil
from functools import cache

from services.parser import families
from services.parser.harmless import unknown_keys
from services.parser.network import Family, Network
from services.parser.section import Section, Undescribed
from services.parser.tally import Tally, uncached

NO_CLASS = "no class is stated"


def family_of(c: Section) -> Family | None:
    """The page for a configuration: by its class when that stands alone, else by its model type."""
    by_class, by_type = _pages()
    return by_class.get(c.architecture) or by_type.get(c.model_type)


def family_of_class(class_name: str) -> Family | None:
    """The page that describes a class of which no model type is known."""
    by_class, by_type = _pages()
    return by_class.get(class_name) or next((page for page in by_type.values() if page.describes(class_name)), None)


def tower(c: Section, name: str, model_type: str, architecture: str = "TowerModel") -> Tally:
    """An encoder inside c, in the section called name; it keeps no cache."""
    return uncached(describe(_inner(c, name, model_type, architecture), model_type, architecture).total)


def describe(c: Section, model_type: str = "", architecture: str = "") -> Network:
    """The network that c configures.

    model_type is that of a part whose section does not state one; architecture is the class that the enclosing
    model builds of it, which decides the head. Raises Undescribed when no page knows it or something needed is missing.
    """
    class_name = c.architecture
    stated = {"model_type": c.model_type or model_type}
    if architecture:
        stated["architectures"] = [architecture]  # type: ignore[assignment]
    c = c.merged(stated)
    family = family_of(c)
    if family is None:
        raise Undescribed(f"no description of model type {c.model_type!r}")
    # A page may have another one describe the same section, and a section inside may name the class of the whole.
    pages = (family, *c.reading.pages.get("", ()))
    if class_name and c.path not in c.reading.pages and not any(page.describes(class_name) for page in pages):
        c.doubt(f"the page of {c.model_type or class_name!r} does not describe the class {class_name[:100]}")
    c.reading.pages.setdefault(c.path, []).append(family)
    return family.describe(c)


def doubts_about(c: Section, architecture: str = "") -> list[str]:
    """Why the network of c, which was described, may be another than the page's; none when the count is proven.

    A count is proven when its class is one that the page lists and each key is one that the page reads or that changes
    nothing. architecture is the class that builds it, where that is stated elsewhere.
    """
    family = family_of(c.merged({"architectures": [architecture]}) if architecture else c)
    doubts = list(c.reading.doubts)
    stated = architecture or c.architecture
    if not stated:
        doubts.append(NO_CLASS)
    elif family is not None and family.model_types and c.model_type not in ("", *family.model_types):
        doubts.append(f"the class {stated[:100]} is not one of model type {c.model_type[:100]!r}")
    elif family is not None and architecture and not family.describes(architecture):
        doubts.append(f"no page describes the class {architecture[:100]}")
    elif len(c.items("architectures")) > 1:
        doubts.append("several classes are stated")
    remote = _remote_class(c)
    if family is not None and remote and not family.describes(remote):
        doubts.append(f"the code that comes with it has a class {remote[:100]}, which no page describes")
    unknown = unknown_keys(c.values, c.reading)
    if unknown:
        doubts.append(f"keys that may change the count are not known: {', '.join(unknown)[:300]}")
    return doubts


def _remote_class(c: Section) -> str:
    """The class of the code that comes with a model, of the one that is stated when there are several."""
    classes = [str(value).rpartition(".")[2] for key, value in c.section("auto_map").values.items() if "Model" in key]
    return c.architecture if c.architecture in classes else next(iter(classes), "")


def language_part(c: Section, name: str, model_type: str, architecture: str = "TextForCausalLM") -> Network:
    """The language model inside c, in the section called name, of model_type unless that states its own.

    Whether its head is tied is stated by c, or else by the section.
    """
    section = _inner(c, name, model_type, architecture)
    if section.flag("tie_word_embeddings") and not c.flag("tie_word_embeddings"):
        c.doubt("the whole and its language model state different heads")
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
