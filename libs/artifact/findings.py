"""What may be odd or wrong about a model's files: the closed list of words that warnings and the condition Whole have.

The list is that of ome.model.v1.Finding, which documents each word; a test holds the two against each other. It is here
a second time because this library needs the standard library alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# What is said stays readable where people look, and small where machines keep it.
MAX_FILES = 10
MAX_MESSAGE = 1000
_SHOWN = 3
_MAX_NAME = 200


class Finding(StrEnum):
    """A finding in CamelCase, as reasons of events spell it."""

    MISSING_SHARDS = "MissingShards"
    MISSING_FILES = "MissingFiles"
    MISSING_PART = "MissingPart"
    POINTER_FILE = "PointerFile"
    ERROR_PAGE = "ErrorPage"
    EMPTY_FILE = "EmptyFile"
    TRUNCATED_FILE = "TruncatedFile"
    NO_WEIGHTS = "NoWeights"
    OTHER_FORMAT = "OtherFormat"
    EXTRA_SHARDS = "ExtraShards"
    NO_TOKENIZER = "NoTokenizer"
    VARIANT_CHOSEN = "VariantChosen"
    SEVERAL_VARIANTS = "SeveralVariants"
    FILES_LEFT_OUT = "FilesLeftOut"
    PICKLED_WEIGHTS = "PickledWeights"
    UNKNOWN_WEIGHTS = "UnknownWeights"
    ODD_FILE = "OddFile"


@dataclass(frozen=True)
class Remark:
    """One finding: a sentence for a person, without its full stop, and the files that it is about, some of many."""

    finding: Finding
    message: str
    files: tuple[str, ...] = ()


def remark(finding: Finding, message: str, files: Sequence[str] = ()) -> Remark:
    """A remark within its bounds."""
    message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    return Remark(finding, message, tuple(file[:_MAX_NAME] for file in files[:MAX_FILES]))


def shown(files: Sequence[str], count: int = 0) -> str:
    """Some names for a sentence, and how many there are beside them; count where files are not all of them."""
    named, count = ", ".join(file[:_MAX_NAME] for file in files[:_SHOWN]), count or len(files)
    return f"{named} and {count - _SHOWN:,} more" if count > _SHOWN else named
