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
from libs.chassis.errors import Corrupt, ServiceError, Unavailable
from services.fetcher.transfer.addresses import AddressError, split_url
from services.fetcher.transfer.codings import can_undo, coding_of, coding_of_whole
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.ranges import ContentRange, parse_content_range
from services.fetcher.transfer.refusals import NOT_ALLOWED, NOT_FOUND, RATE_LIMITED, Said, refusal_of
from services.fetcher.transfer.retry import asked_pause_seconds, backoff_seconds

_REDIRECTS = (301, 302, 303, 307, 308)
# An answer that a token or a signed address has expired comes as any of these; object stores say 400 too.
_REFUSALS = (400, 401, 403, 404, 410)
_PASSING = (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529)


@dataclass(frozen=True)
class Asked:
    """A request, as far as its answer depends on it. `origin` and `file` are names that a person knows.

    `redirected` says that the location came from a remembered redirect. `refusals` and `redirects` count the answers of
    these kinds in a row before this one.
    """

    origin: str
    file: str
    location: Location
    size: int
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
class ReadWhole:
    """Ask for the whole file: the answer is a range of something else than the file. `why` says of what."""

    why: str


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


Verdict = Body | ReadWhole | Follow | Renew | Retry | Restart | GiveUp

CHANGED = Restart(Reason.SOURCE_CHANGED, "has changed at the origin since it was listed")
SHORTER = Restart(Reason.SOURCE_CHANGED, "is shorter at the origin than it was when it was listed")
LONGER = Restart(Reason.SOURCE_CHANGED, "is longer at the origin than it was when it was listed")
RESIZED = Restart(Reason.SOURCE_CHANGED, "has another size at the origin than it had when it was listed")
MISMATCH = Restart(Reason.CHECKSUM_MISMATCH, "does not match its checksum")


def judge(asked: Asked, status: int, headers: Mapping[str, str], said: Said, now: datetime, limits: Limits) -> Verdict:
    """What to do about an answer. `headers` have lower-case names, `said` is in the body of one without content.

    `now` serves an answer that has no date.
    """
    if asked.redirected and said.message:
        # Where a source leads is not the model's author's to read; a store's own code of the table tells nothing else.
        said = Said(said.code if refusal_of(said.code) else "")
    if (status == 206 or (status == 200 and _is_part(headers))) and asked.large and not asked.whole:
        return _coded(asked, coding_of(headers)) or Body.RANGE
    if status == 200:
        length = headers.get("content-length", "")
        coding = coding_of_whole(headers, int(length) if length.isdecimal() else None, asked.size)
        if coding and not can_undo(coding):
            return _coded(asked, coding) or Body.WHOLE
        return Body.WHOLE if asked.large else Body.SMALL
    if status in _REDIRECTS:
        return _redirect(asked, headers.get("location", ""), limits)
    if status == 416:
        return SHORTER
    if status == 412:
        # The condition names the content that was listed: to ask for it again cannot help.
        return GiveUp(Corrupt(CHANGED.reason, f"{asked.subject} {CHANGED.what}"))
    slow_down = status == 429 or refusal_of(said.code) is RATE_LIMITED
    if slow_down or status in _PASSING:
        reason = RATE_LIMITED.reason if slow_down else Reason.UNAVAILABLE
        return Retry(f"the answer is {said.behind(status)}", reason, asked_pause_seconds(headers, now))
    if status in _REFUSALS:
        return _refused(asked, status, said)
    return _given_up(asked, status, said)


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


def _is_part(headers: Mapping[str, str]) -> bool:
    """Whether an answer says that it carries a part of a file. ModelScope's does, with the status of a whole one."""
    carried = parse_content_range(headers.get("content-range", ""))
    return carried is not None and carried.total is not None and carried.end - carried.start < carried.total


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


def _refused(asked: Asked, status: int, said: Said) -> Verdict:
    if asked.redirected and asked.refusals < 2:
        # A signed address has expired: the origin gives a new one.
        return Renew(again=False)
    if asked.refusals < 1:
        return Renew(again=True)
    return _given_up(asked, status, said)


def _given_up(asked: Asked, status: int, said: Said) -> GiveUp:
    known = refusal_of(said.code) or {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND, 410: NOT_FOUND}.get(status)
    if known:
        anonymous = not any(asked.location.secrets())
        return GiveUp(known.error(asked.subject, said.behind(status), anonymous=anonymous))
    what = "the origin does not understand the request" if status == 400 else "the origin does not send the file"
    return GiveUp(Unavailable(Reason.UNAVAILABLE, f"{asked.subject}: {what} ({said.behind(status)})"))


def _coded(asked: Asked, coding: str) -> ReadWhole | GiveUp | None:
    if not coding:
        return None
    if can_undo(coding):
        return ReadWhole(f"a range came with Content-Encoding {coding}")
    return GiveUp(
        Unavailable(
            Reason.UNAVAILABLE,
            f"{asked.subject} comes with Content-Encoding {coding}, although none was asked for: have the proxy or "
            "the origin send it as it is stored, or gzip at the most",
        )
    )
