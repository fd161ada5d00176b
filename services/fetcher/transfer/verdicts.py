"""What an answer of an origin means for a transfer, and what follows from a failure. Pure.

Status, headers and counts go in; a verdict comes out: take the body, follow, ask again, wait and retry, start the file
again, or give up with an error for the caller. The engine carries it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from urllib.parse import urljoin

from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from services.fetcher.transfer.addresses import AddressError, split_url
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.ranges import ContentRange, parse_content_range
from services.fetcher.transfer.retry import asked_pause_seconds, backoff_seconds

_REDIRECTS = (301, 302, 303, 307, 308)
# An answer that a token or a signed address has expired comes as any of these; object stores say 400 too.
_REFUSALS = (400, 401, 403, 404, 410)
_PASSING = (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529)
# X-Error-Code of the Hugging Face Hub, which answers 401 for what does not exist and 403 for much else.
_ERROR_CODES = {
    "GatedRepo": Reason.GATED,
    "RepoNotFound": Reason.NOT_FOUND,
    "RevisionNotFound": Reason.NOT_FOUND,
    "EntryNotFound": Reason.NOT_FOUND,
}


@dataclass(frozen=True)
class Asked:
    """A request, as far as its answer depends on it. `origin` and `file` are names that a person knows.

    `redirected` says that the location came from a remembered redirect. `refusals` and `redirects` count the answers of
    these kinds in a row before this one.
    """

    origin: str
    file: str
    location: Location
    large: bool = True
    whole: bool = False
    redirected: bool = False
    refusals: int = 0
    redirects: int = 0

    @property
    def subject(self) -> str:
        """What an error is about."""
        return f"{self.origin}: {self.file}"


class Body(Enum):
    """The answer has what was asked for: a range of a large file, all of a large file, all of a small one."""

    RANGE = "range"
    WHOLE = "whole"
    SMALL = "small"


@dataclass(frozen=True)
class Follow:
    """Ask at another place, also for the rest of the file."""

    location: Location


@dataclass(frozen=True)
class Renew:
    """Ask the origin anew where the file is, and to renew what can expire if `again` is set."""

    again: bool


@dataclass(frozen=True)
class Retry:
    """Ask for the same bytes later: not before `pause_seconds` have passed, if the origin asks for a pause."""

    why: str
    reason: Reason = Reason.UNAVAILABLE
    pause_seconds: float | None = None


@dataclass(frozen=True)
class Restart:
    """What has come of the file is wrong as a whole: fetch it from its first byte. `what` continues its name."""

    reason: Reason
    what: str


@dataclass(frozen=True)
class GiveUp:
    """Nothing that the engine can do helps."""

    error: ServiceError


Verdict = Body | Follow | Renew | Retry | Restart | GiveUp

CHANGED = Restart(Reason.SOURCE_CHANGED, "has changed at the origin since it was listed")
SHORTER = Restart(Reason.SOURCE_CHANGED, "is shorter at the origin than it was when it was listed")
LONGER = Restart(Reason.SOURCE_CHANGED, "is longer at the origin than it was when it was listed")
RESIZED = Restart(Reason.SOURCE_CHANGED, "has another size at the origin than it had when it was listed")
MISMATCH = Restart(Reason.CHECKSUM_MISMATCH, "does not match its checksum")


def judge(asked: Asked, status: int, headers: Mapping[str, str], now: datetime, limits: Limits) -> Verdict:
    """What to do about an answer. `headers` have lower-case names; `now` serves an answer that has no date."""
    if status == 206 and asked.large and not asked.whole:
        return Body.RANGE
    if status == 200:
        return Body.WHOLE if asked.large else Body.SMALL
    if status in _REDIRECTS:
        return _redirect(asked, headers.get("location", ""), limits)
    if status == 416:
        return SHORTER
    if status == 412:
        # The condition names the content that was listed: to ask for it again cannot help.
        return GiveUp(Corrupt(CHANGED.reason, f"{asked.subject} {CHANGED.what}"))
    if status in _REFUSALS:
        return _refused(asked, status, headers)
    if status in _PASSING:
        reason = Reason.RATE_LIMITED if status == 429 else Reason.UNAVAILABLE
        return Retry(f"the answer is HTTP {status}", reason, asked_pause_seconds(headers, now))
    return GiveUp(
        Unavailable(Reason.UNAVAILABLE, f"{asked.origin}: the answer to a request for {asked.file} is HTTP {status}")
    )


def judge_range(
    start: int, end: int, size: int, headers: Mapping[str, str], length: int | None
) -> ContentRange | Retry | Restart:
    """What a 206 carries of [start, end) of a file of so many bytes; `length` is its body's, None if it is not said.

    The range may be shorter than asked for, but begins where it should.
    """
    carried = parse_content_range(headers.get("content-range", ""))
    if carried is None or carried.start != start or carried.end > end:
        return Retry(f"asked for bytes from {start} to {end}, the answer is about others")
    if length is not None and length != carried.end - carried.start:
        return Retry(f"an answer of {carried.end - carried.start} bytes says that it has {length}")
    return carried if carried.total in (None, size) else CHANGED


def next_attempt(subject: str, retry: Retry, attempts: int, limits: Limits, jitter: float) -> float | GiveUp:
    """How many seconds to wait after so many attempts in a row, or that there is no further one.

    `jitter` is in [0, 1). A pause that is longer than the engine waits is handed to the caller.
    """
    pause, message = retry.pause_seconds, f"{subject}: {retry.why}"
    if pause is not None and pause > limits.longest_wait_seconds:
        return GiveUp(Unavailable(retry.reason, f"{message}; it asks to wait {pause:.0f} seconds", pause))
    if attempts >= limits.attempts:
        return GiveUp(Unavailable(retry.reason, f"{message}; given up after {attempts} attempts in a row", pause))
    delay = backoff_seconds(attempts, limits.backoff_initial_seconds, limits.backoff_cap_seconds, jitter)
    return (pause or 0.0) + delay


def next_start(subject: str, restart: Restart, restarts: int, limits: Limits) -> GiveUp | None:
    """Whether a file that is about to be fetched anew, for the so manieth time, is given up instead."""
    if restarts <= limits.corrupt_attempts:
        return None
    return GiveUp(Corrupt(restart.reason, f"{subject} {restart.what}; fetched {restarts} times"))


def _redirect(asked: Asked, target: str, limits: Limits) -> Verdict:
    if not target:
        return Retry("a redirect does not say where to")
    if asked.redirects >= limits.redirects:
        return GiveUp(Unavailable(Reason.UNAVAILABLE, f"{asked.subject} is redirected in circles"))
    before = split_url(asked.location.url)[0]
    try:
        url = urljoin(asked.location.url, target)
        after = split_url(url)[0]
    except AddressError as error:
        return Retry(f"a redirect is not followed: {error}")
    except ValueError:
        return Retry("a redirect leads to an address that cannot be understood")
    if before.scheme == "https" and after.scheme == "http":
        why = f"{asked.origin} redirects from https to http, which is not followed"
        return GiveUp(Unavailable(Reason.UNAVAILABLE, why))
    # Tokens belong to the host they were meant for.
    return Follow(Location(url, asked.location.headers if after == before else {}))


def _refused(asked: Asked, status: int, headers: Mapping[str, str]) -> Verdict:
    if asked.redirected and asked.refusals < 2:
        # A signed address has expired: the origin gives a new one.
        return Renew(again=False)
    if asked.refusals < 1:
        return Renew(again=True)
    if status == 400:
        return GiveUp(
            Unavailable(Reason.UNAVAILABLE, f"{asked.origin} does not understand a request for {asked.file} (HTTP 400)")
        )
    code = headers.get("x-error-code", "")
    reason = _ERROR_CODES.get(code, Reason.FORBIDDEN if status in (401, 403) else Reason.NOT_FOUND)
    what = {
        Reason.GATED: "is gated: accept its terms with the account that the token belongs to",
        Reason.NOT_FOUND: "does not exist at the origin",
        Reason.FORBIDDEN: "may not be read: check the token and its permissions",
    }[reason]
    return GiveUp(Missing(reason, f"{asked.subject} {what} (HTTP {status})"))
