"""What a check says of one thing that is not as it should be."""

from dataclasses import dataclass


class NotChecked(Exception):
    """A check could not be made. The message says why, and it is no finding."""


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the audit: which check found it, where, and a sentence about what is wrong."""

    check: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.message}"
