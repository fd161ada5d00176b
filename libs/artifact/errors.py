"""The error of every pure value here: what was given, what is wrong with it, what to write instead."""

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line


class InvalidValue(ValueError):
    """A value that a user or an origin supplied cannot be used as it stands."""

    def __init__(self, reason: Reason, message: str) -> None:
        # It quotes the value, which may be anything.
        message = one_line(message)
        super().__init__(message)
        # A word that is none is a defect where it is raised, not something to be guessed at by whoever reads it.
        self.reason = Reason(reason)
        self.message = message
