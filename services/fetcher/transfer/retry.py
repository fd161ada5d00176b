"""How long to wait before the next attempt, and what an origin's headers say about it: pure arithmetic."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# draft-ietf-httpapi-ratelimit-headers, as the Hugging Face Hub sends it: RateLimit: "api";r=0;t=55
_RATE_LIMIT = re.compile(r"\br=(?P<left>\d+)\s*;\s*t=(?P<seconds>\d+)")


def backoff_seconds(attempt: int, initial: float, cap: float, jitter: float) -> float:
    """Exponential backoff with full jitter: uniform between 0 and the bound.

    attempt counts from 1; jitter is in [0, 1). Full jitter spreads a fleet that fails together best (Brooker,
    "Exponential Backoff And Jitter", AWS 2015).
    """
    return float(min(cap, initial * 2 ** min(attempt - 1, 30)) * jitter)


def asked_pause_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The pause that Retry-After (seconds or a date, RFC 9110 10.2.3) or an exhausted RateLimit asks for, else None.

    headers have lower-case names.
    """
    retry_after = headers.get("retry-after", "").strip()
    if retry_after.isdecimal():
        return float(retry_after)
    if retry_after:
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        return max((moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds(), 0.0)
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return float(limit["seconds"]) if limit and limit["left"] == "0" else None
