"""Reads every held artifact slowly, again and again: a flipped bit on a disk shows in no size.

Must not repair anything: what is found damaged is noted, and the models that hold it are looked at.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from libs.chassis.errors import ServiceError
from services.fetcher import metrics
from services.fetcher.model.roots import Roots
from services.fetcher.stop import StopFlag, Stopped

# A fetcher that is restarted often makes a pass all the same.
_FIRST_PASS_SECONDS = 600.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Reading:
    """What was found when an artifact was read: how much it is, and which files are not what they should be."""

    bytes: int
    damaged: tuple[str, ...]


async def scrub_artifacts(
    roots: Roots, interval_seconds: float, bytes_per_second: float, on_damage: Callable[[str], None]
) -> None:
    """Make one pass after another until cancelled; on_damage gets the digest of each artifact that is found damaged."""
    stop = StopFlag()
    with ThreadPoolExecutor(1, thread_name_prefix="scrub") as executor:
        try:
            await asyncio.sleep(min(interval_seconds, _FIRST_PASS_SECONDS))
            while True:
                if bytes_per_second:
                    await _pass(roots, executor, stop, bytes_per_second, on_damage)
                await asyncio.sleep(interval_seconds)
        finally:
            # The thread looks at the flag once per buffer, so leaving the executor does not take long.
            stop.set()


async def read_artifact(
    roots: Roots,
    executor: ThreadPoolExecutor,
    stop: StopFlag,
    root: str,
    digest: str,
    bytes_per_second: float | None,
) -> Reading:
    """Read and hash an artifact once; what is damaged is noted in its root. Raises Stopped, ServiceError or OSError."""
    loop = asyncio.get_running_loop()
    try:
        store = roots.store(root)
        size = (await roots.run(store.manifest, digest)).size_bytes
        damaged = await loop.run_in_executor(executor, store.scrub, digest, stop, bytes_per_second)
    except (ServiceError, OSError):
        metrics.SCRUBS.labels(result="Skipped").inc()
        raise
    metrics.SCRUBS.labels(result="Damaged" if damaged else "Ok").inc()
    metrics.VERIFIED_BYTES.inc(size)
    if damaged:
        _log.error("artifact_damaged", root=root, digest=digest, files=damaged[:10])
        try:
            await roots.note_damage(root, digest, damaged)
        except ServiceError as error:
            # It is known to this process all the same.
            _log.warning("damage_unrecorded", root=root, digest=digest, reason=error.reason, message=error.message)
    return Reading(size, damaged)


async def _pass(
    roots: Roots,
    executor: ThreadPoolExecutor,
    stop: StopFlag,
    bytes_per_second: float,
    on_damage: Callable[[str], None],
) -> None:
    for root, digest in await roots.published_artifacts():
        try:
            reading = await read_artifact(roots, executor, stop, root, digest, bytes_per_second)
        except Stopped:
            return
        except (ServiceError, OSError) as error:
            # Unpublished meanwhile, or unreadable, which the model's own loop reports.
            _log.info("scrub_skipped", root=root, digest=digest, error=str(error))
            on_damage(digest)
            continue
        if reading.damaged:
            on_damage(digest)
