"""What a description of an architecture yields, and the heads that classes put on top of a backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.parser.section import Section
from services.parser.tally import Tally, embedding, linear


@dataclass(frozen=True)
class Network:
    """A whole network by its parts."""

    parts: Mapping[str, Tally]
    # Layers that predict further tokens: stored with the model, not part of its count.
    prediction: int = 0
    # Whether the count follows from the configuration alone; if not, why is the sentence for a person.
    exact: bool = True
    why: str = ""
    # For publishers who write "8x7B": the number of experts, and the size of the model with one of them.
    experts: tuple[int, int] | None = None

    @property
    def total(self) -> Tally:
        """All parts together."""
        return sum(self.parts.values(), start=Tally())


Describe = Callable[[Section], Network]


@dataclass(frozen=True)
class Family:
    """One page of the catalogue: which configurations it describes, and how."""

    model_types: tuple[str, ...]
    describe: Describe
    # Classes that decide even where the model type says something else or nothing.
    architectures: tuple[str, ...] = ()
    # What the family can do where class names and sections do not tell.
    capabilities: tuple[str, ...] = ()
    # What the library assumes where a section inside another model's configuration is silent. A configuration of its
    # own that is silent on such things is not described: that would be a guess.
    defaults: Mapping[str, int] = field(default_factory=dict)
    # The classes whose parameters the page counts exactly. A configuration for another class is estimated by it.
    classes: tuple[str, ...] = ()
    # Keys that these classes read for something that has no parameters, or not at all.
    ignores: frozenset[str] = frozenset()
    # Keys that the page does not read, with the values that it takes for granted.
    assumes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    # Model types that sections inside may state, beside the page's own, where the page reads these itself.
    parts: tuple[str, ...] = ()

    def describes(self, class_name: str) -> bool:
        """Whether the page counts the parameters of a class."""
        return class_name in self.classes or class_name in self.architectures


DECODER = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")
ENCODER = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")


def classes(heads: tuple[str, ...], *stems: str) -> tuple[str, ...]:
    """Names of classes, by the stems of their models and the heads on these."""
    return tuple(stem + head for stem in stems for head in heads)


def with_head(c: Section, width: int, tied: bool, vocabulary: int | None = None, bias: bool = False) -> Tally:
    """What the class of c puts on a backbone of the given width: nothing, a language head or a classifier."""
    architecture = c.architecture
    if architecture.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return linear(width, labels(c), bias=architecture.endswith("ForTokenClassification"))
    if architecture.endswith("ForRewardModel"):
        return linear(width, 1)
    if architecture.endswith("Model") and not architecture.endswith("LMHeadModel"):
        return Tally()
    entries = c.integer("vocab_size") if vocabulary is None else vocabulary
    return Tally(entries if bias else 0) if tied else linear(width, entries, bias)


def labels(c: Section) -> int:
    """Number of classes of a classifier; the library's default is two."""
    return c.stated_integer("num_labels") or len(c.section("id2label").values) or len(c.items("id2label")) or 2


def decoder(
    c: Section,
    layers: Tally,
    width: int,
    *,
    tied: bool = False,
    norms: int = 1,
    vocabulary: int | None = None,
    prediction: int = 0,
) -> Network:
    """A decoder of token embeddings, layers, a final norm of norms × width, and the head of its class.

    tied is the library's default for configurations that do not state tie_word_embeddings.
    """
    entries = c.integer("vocab_size") if vocabulary is None else vocabulary
    head = with_head(c, width, c.flag("tie_word_embeddings", default=tied), entries)
    parts = {"embeddings": embedding(entries, width), "layers": layers + norms * width, "head": head}
    return Network(parts, prediction)
