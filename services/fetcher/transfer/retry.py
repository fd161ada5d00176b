"""How long to wait before the next attempt, and what an origin's headers say about it: pure arithmetic."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# draft-ietf-httpapi-ratelimit-headers, as the Hugging Face Hub sends it: RateLimit: "api";r=0;t=55
_RATE_LIMIT = re.compile(r"\br=(?P<left>\d+)\s*;\s*t=(?P<seconds>\d+)")

# Longer than any limit that is known; a clock that is set to another year must not stop a model for that year.
_LONGEST_PAUSE_SECONDS = 86400.0


def backoff_seconds(attempt: int, initial: float, cap: float, jitter: float) -> float:
    """Exponential backoff with full jitter: uniform between 0 and the bound.

    attempt counts from 1; jitter is in [0, 1). Full jitter spreads a fleet that fails together best (Brooker,
    "Exponential Backoff And Jitter", AWS 2015).
    """
    return float(min(cap, initial * 2 ** min(attempt - 1, 30)) * jitter)


def asked_pause_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The pause that Retry-After (seconds or a date, RFC 9110 10.2.3) or an exhausted RateLimit asks for, else None.

    headers have lower-case names. A date is taken relative to the answer's own Date, as our clock and the origin's need
    not agree; now serves where there is none. A day is the longest pause, whatever was asked for.
    """
    retry_after = headers.get("retry-after", "").strip()
    if retry_after.isdecimal():
        return min(float(retry_after), _LONGEST_PAUSE_SECONDS)
    if retry_after:
        moment = _date(retry_after)
        if moment is None:
            return None
        pause = (moment - (_date(headers.get("date", "")) or now)).total_seconds()
        return min(max(pause, 0.0), _LONGEST_PAUSE_SECONDS)
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return min(float(limit["seconds"]), _LONGEST_PAUSE_SECONDS) if limit and limit["left"] == "0" else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
