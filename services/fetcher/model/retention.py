"""How long the files of deleted models stay that were to outlive them.

Counts the time during which a fetcher ran, by a clock that nobody sets. Must not know where the files are.
"""

import asyncio
import time

from services.fetcher.model.roots import Roots

# How often the time that has passed is written down, at the least: a crash loses what was not.
_COUNT_SECONDS = 3600.0
# Of the time to live, by how much something may stay too long.
_SHARE = 0.05
_SOONEST_SECONDS = 0.1


async def expire_reserved(roots: Roots, limit_seconds: float) -> None:
    """Remove what has been reserved for longer than the limit, until cancelled. A limit of 0 keeps it for ever."""
    if not limit_seconds:
        return
    counted_at = time.monotonic()
    while True:
        await asyncio.sleep(max(_SOONEST_SECONDS, min(_COUNT_SECONDS, limit_seconds * _SHARE)))
        now = time.monotonic()
        await roots.age_reserved(now - counted_at, limit_seconds)
        counted_at = now
