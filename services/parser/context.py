"""How many tokens a model takes: as its configuration states it, and as it can be served."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.parser.section import Section, Undescribed

# Where a model of several parts describes the part that reads tokens.
TEXT_SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder", "lm_config")

_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Their positions start behind the padding token, so the table has entries that no token gets.
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "mpnet", "camembert")
# Gemma 3 states the extended length and the factor that extended it.
_STATED_AFTER_SCALING = ("gemma3", "gemma3_text")


@dataclass(frozen=True)
class Context:
    """Lengths in tokens; zero when not stated."""

    stated: int = 0
    usable: int = 0


def text_sections(c: Section) -> Iterator[Section]:
    """The configuration itself, then its parts that may describe the language model."""
    yield c
    for name in TEXT_SECTIONS:
        if name not in c.values:
            continue
        section = c.section(name)
        if name == "thinker_config" and section.section("text_config"):
            section = section.section("text_config")
        if section:
            yield section


def context_of(c: Section) -> Context:
    """The context of a model.

    Usable follows what vLLM documents for --max-model-len: yarn multiplies the original length, linear and dynamic
    scaling the stated one, and llama3, longrope and multimodal rope state the scaled length already.
    """
    for section in text_sections(c):
        lengths = [length for name in _NAMES if (length := _length(section, name)) is not None]
        if lengths:
            shortest = min((length for length in lengths if length), default=lengths[0])
            return Context(lengths[0], _usable(c, section, shortest))
    return Context()


def _usable(c: Section, section: Section, length: int) -> int:
    scaling = section.section("rope_scaling", "rope_parameters")
    factor = scaling.number("factor")
    kind = scaling.text("rope_type", "type")
    if kind == "yarn" and factor:
        original = scaling.stated_integer("original_max_position_embeddings") or length
        return int(original * factor)
    if kind in ("linear", "dynamic") and factor and c.model_type not in _STATED_AFTER_SCALING:
        return int(length * factor)
    if c.model_type in _POSITIONS_BEHIND_PADDING:
        return max(length - section.integer("pad_token_id", default=1) - 1, 0)
    return length


def _length(section: Section, name: str) -> int | None:
    try:
        return section.stated_integer(name)
    except Undescribed:
        # -1 and 10^30 are how some tokenizers spell "no limit".
        return None
