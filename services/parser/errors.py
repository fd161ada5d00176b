"""Why a model directory could not be parsed: the closed list of reasons that callers see."""

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason

NO_CONFIG = Reason.NO_CONFIG
# Files are missing or damaged, and those that are there yield no facts.
INCOMPLETE = Reason.INCOMPLETE
PARSE_FAILED = Reason.PARSE_FAILED
INVALID_LISTING = Reason.INVALID_LISTING
# Where a directory is read from a disk rather than sent.
FORBIDDEN = Reason.FORBIDDEN


class ParseError(InvalidValue):
    """The directory, as sent, yields no facts. reason is one of the words above."""


class TooLarge(ParseError):
    """The directory is larger than the limits of the service; the directory may be fine."""

    def __init__(self, message: str) -> None:
        super().__init__(PARSE_FAILED, message)


class CutOff(ParseError):
    """A file is shorter than it says itself; problem goes on with the sentence that its name begins."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(PARSE_FAILED, f"{path}: {problem}")
        self.problem = problem


def malformed(path: str, problem: str) -> ParseError:
    """An error about the content of one file."""
    return ParseError(PARSE_FAILED, f"{path}: {problem}")
