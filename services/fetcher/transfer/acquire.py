"""Brings one artifact into a store: the whole way from a manifest to a committed directory.

Decides which of two ways to the bytes comes first, and whether the other can help when it fails. Must not publish the
artifact, nor decide whether a failure of both is tried again.
"""

import functools
import os
from collections.abc import Callable, Collection

import structlog

from libs.artifact.manifest import Manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from services.fetcher.store.ingest import Ingest
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.engine import download
from services.fetcher.transfer.limits import Limits, limits_for
from services.fetcher.transfer.origin import Origin, Streams
from services.fetcher.transfer.progress import Progress, ProgressCallback
from services.fetcher.transfer.sharing import Sharing
from services.fetcher.transfer.streaming import stream

_log = structlog.get_logger()

_LIMITS = limits_for(len(os.sched_getaffinity(0)))
# What may be wrong with one way and not with the other. A full disk is full for both; terms that nobody has accepted
# bind both; and who asks to slow down must not find the same request at another door.
_ONE_WAY = (
    Reason.CHECKSUM_MISMATCH,
    Reason.FORBIDDEN,
    Reason.NOT_FOUND,
    Reason.SOURCE_CHANGED,
    Reason.UNAVAILABLE,
)


def acquire(
    store: Store,
    manifest: Manifest,
    origin: Origin,
    stop: StopFlag,
    progress: ProgressCallback | None = None,
    limits: Limits = _LIMITS,
    damaged: Collection[str] = (),
    streams: Streams | None = None,
    sharing: Sharing | None = None,
    egress: Rule = ANYWHERE,
) -> None:
    """Return when the store holds the artifact: at once when it does and nothing is damaged.

    damaged names the files that Store.check or Store.scrub has found wrong: only they are fetched, the others are taken
    over, and the repaired artifact replaces the damaged one in one step. Waits while the same artifact is being fetched
    already. streams is a second way to files of the origin: what one way cannot bring comes over the other. sharing
    holds what the node's transfers have in common; without it this one is alone. egress is what the model may reach.
    Blocks; raises what Store.ingest, download and Store.commit raise. progress is called in this thread, at most once a
    second.
    """
    digest = manifest.digest
    if store.holds(digest) and not damaged:
        return
    with store.ingest(manifest, stop) as ingest:
        if ingest is None:
            return
        if store.holds(digest):
            artifact, wrong = store.artifact_path(digest), frozenset(damaged)
            for index, file in enumerate(manifest.files):
                if file.path not in wrong:
                    ingest.adopt(index, artifact / file.path)
        arguments = (stop, progress or _ignore, limits, store.contents(manifest), sharing or Sharing())
        http = functools.partial(download, ingest, origin, *arguments, egress)
        if streams is None:
            http()
        else:
            _fetch(ingest, http, streams, functools.partial(stream, ingest, streams, *arguments))
        store.commit(ingest)


def _fetch(
    ingest: Ingest, http: Callable[[], None], streams: Streams, read_streams: Callable[[], tuple[str, ...]]
) -> None:
    """Fetch by two ways, each in its turn for what the other leaves. Raises what http raises."""
    if streams.preferred:
        _stream(ingest, streams, read_streams)
        http()
        return
    try:
        http()
    except ServiceError as error:
        if error.reason not in _ONE_WAY:
            raise
        _log.warning("http_failed", other=streams.name, reason=error.reason, message=error.message)
        ingest.journal.reread()
        if not _stream(ingest, streams, read_streams):
            raise
        http()


def _stream(ingest: Ingest, streams: Streams, read_streams: Callable[[], tuple[str, ...]]) -> bool:
    """Bring what streams can; whether that was anything. Raises only what HTTP could not help with either."""
    before = len(ingest.done)
    wrong: tuple[str, ...] = ()
    try:
        wrong = read_streams()
    except ServiceError as error:
        if error.reason not in (*_ONE_WAY, Reason.GATED, Reason.RATE_LIMITED):
            raise
        _log.warning("streams_failed", source=streams.name, reason=error.reason, message=error.message)
    brought = len(ingest.done) - before
    if brought or wrong:
        _log.info("streams_read", source=streams.name, files=brought, wrong=wrong)
    # HTTP goes on where the streams ended.
    ingest.journal.reread()
    return brought > 0


def _ignore(_: Progress) -> None:
    return None
