"""Errors named by what the caller does next. Every adapter turns the exceptions of its library into one of these."""

from collections.abc import Mapping

from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line


class ServiceError(Exception):
    """Base of all errors that carry a machine-readable reason and a sentence for a person.

    The word of `reason` is that of google.rpc.ErrorInfo on the wire and that of a condition of the object.
    """

    def __init__(self, reason: Reason, message: str, metadata: Mapping[str, str] | None = None) -> None:
        # Adapters quote what a stranger has said, and whoever stores or shows it should not have to think of that.
        message = one_line(message)
        super().__init__(message)
        # A word that is none is a defect where it is raised, not something to be guessed at by whoever reads it.
        self.reason = Reason(reason)
        self.message = message
        self.metadata = dict(metadata or {})


class Invalid(ServiceError):
    """Nothing helps until the input changes: stop."""


class Missing(ServiceError):
    """Something that should exist does not, or may not be seen: look again later."""


class Conflict(ServiceError):
    """What was acted upon has changed meanwhile: look again now."""


class Unavailable(ServiceError):
    """The other side is away or busy: try again, not before retry_after_seconds when that is given."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        retry_after_seconds: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason, message, metadata)
        self.retry_after_seconds = retry_after_seconds


class Corrupt(ServiceError):
    """Bytes are not what they should be: discard them and fetch them again."""
