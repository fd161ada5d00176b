"""The way that an SDK's connections take for the sake of one source, and what stood in it. Pure: the gate makes it."""

from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, ServiceError, Unavailable
from services.fetcher.transfer.egress import Rule


class Passage:
    """The way of one source's clients. It is open as long as somebody holds it."""

    def __init__(self, rule: Rule, url: str) -> None:
        self.rule = rule
        # The address of a proxy with what lets one pass: never shown.
        self.url = url
        self._refusal = ""
        self._trouble = ""

    def problem(self, name: str) -> ServiceError | None:
        """What stood in the way of the last connection, which clients only tell as a proxy's refusal."""
        if self._refusal:
            return Missing(Reason.EGRESS_REFUSED, f"{name}: {self._refusal}")
        return Unavailable(Reason.UNAVAILABLE, f"{name}: {self._trouble}") if self._trouble else None

    def note(self, refusal: str = "", trouble: str = "") -> None:
        """How the last attempt to connect has ended."""
        self._refusal, self._trouble = refusal, trouble
