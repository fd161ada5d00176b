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
        self._bytes = 0
        self._most_bytes: int | None = None
        self._excess = ""

    def problem(self, name: str) -> ServiceError | None:
        """What stood in the way of the last connection, which clients only tell as a proxy's refusal."""
        if self._excess:
            return Unavailable(Reason.UNAVAILABLE, f"{name}: {self._excess}")
        if self._refusal:
            return Missing(Reason.EGRESS_REFUSED, f"{name}: {self._refusal}")
        return Unavailable(Reason.UNAVAILABLE, f"{name}: {self._trouble}") if self._trouble else None

    def note(self, refusal: str = "", trouble: str = "") -> None:
        """How the last attempt to connect has ended."""
        self._refusal, self._trouble = refusal, trouble

    def limit(self, most_bytes: int) -> None:
        """Let so many more bytes come this way, as for a listing: clients read an answer to its end, or its last page.

        Those that come behind them end the connection.
        """
        self._bytes, self._most_bytes = 0, most_bytes

    def take(self, count: int) -> bool:
        """Whether so many bytes that have come may be passed on. Connections that are open at one time count about."""
        self._bytes += count
        if self._most_bytes is None or self._bytes <= self._most_bytes:
            return True
        self._excess = f"the store says more than {self._most_bytes >> 20} MiB when it is listed"
        return False
