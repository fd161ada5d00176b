"""Brings one artifact into a store: the whole way from a manifest to a committed directory.

Decides which of two ways to the bytes comes first, and whether the other can help when it fails; and whether bytes that
are here already may be the model's. Must not publish the artifact, nor decide whether a failure is tried again.
"""

import functools
import os
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from libs.artifact.manifest import Manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from services.fetcher.store.ingest import Ingest
from services.fetcher.store.scopes import Claimant
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.engine import download
from services.fetcher.transfer.limits import Limits, limits_for
from services.fetcher.transfer.origin import Origin, Streams
from services.fetcher.transfer.progress import Progress, ProgressCallback
from services.fetcher.transfer.proving import proves
from services.fetcher.transfer.sharing import Sharing
from services.fetcher.transfer.streaming import stream

_log = structlog.get_logger()

_READ_BYTES = 1 << 20
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
    claimant: Claimant,
    progress: ProgressCallback | None = None,
    limits: Limits = _LIMITS,
    damaged: Collection[str] = (),
    streams: Streams | None = None,
    sharing: Sharing | None = None,
    egress: Rule = ANYWHERE,
) -> None:
    """Return when the store holds the artifact and the claimant may have it: at once when nothing is to be done.

    What another scope has brought is believed to be the claimant's as well once ranges of each file have come from its
    own origin and matched; where they do not, all of it is fetched from there beside what is held. damaged names the
    files that Store.check or Store.scrub has found wrong: only they are fetched, the others are taken over, and the
    repaired artifact replaces the damaged one in one step. Waits while the same artifact is being fetched already in
    the claimant's scope. streams is a second way to files of the origin: what one way cannot bring comes over the
    other. sharing holds what the node's transfers have in common; without it this one is alone. egress is what the
    model may reach. Blocks; raises what Store.ingest, download, proves and Store.commit raise. progress is called in
    this thread, at most once a second.
    """
    digest, sharing = manifest.digest, sharing or Sharing()
    while True:
        entitled = store.may_share(digest, claimant)
        held = store.holds(digest) and not damaged
        if held and (entitled or _prove(store, manifest, origin, stop, claimant, limits, sharing, egress)):
            store.grant(digest, claimant)
            return
        with store.ingest(manifest, stop, claimant) as ingest:
            if ingest is not None:
                if entitled and store.holds(digest):
                    _take_over(ingest, store.artifact_path(digest), frozenset(damaged), store.changed(digest), stop)
                arguments = (stop, progress or _ignore, limits, store.contents(manifest, claimant), sharing)
                http = functools.partial(download, ingest, origin, *arguments, egress)
                if streams is None:
                    http()
                else:
                    _fetch(ingest, http, streams, functools.partial(stream, ingest, streams, *arguments))
                store.commit(ingest, claimant, repairs=bool(damaged))
                return
        # Another thread has committed it meanwhile: in this scope or in another one.
        damaged = ()


def _prove(
    store: Store,
    manifest: Manifest,
    origin: Origin,
    stop: StopFlag,
    claimant: Claimant,
    limits: Limits,
    sharing: Sharing,
    egress: Rule,
) -> bool:
    """Whether the claimant's origin has what is held. One whose ranges have not matched is not asked for others."""
    digest = manifest.digest
    with store.kept(digest):
        if store.is_refuted(digest, claimant) or not store.is_whole(digest):
            return False
        proven = proves(manifest.files, store.artifact_path(digest), origin, stop, limits, sharing, egress)
    if not proven:
        store.refute(digest, claimant)
    _log.info("possession_compared", digest=digest, source=origin.name, proven=proven)
    return proven


def _take_over(
    ingest: Ingest, artifact: Path, damaged: Collection[str], changed: Collection[str], stop: StopFlag
) -> None:
    """Take what is not damaged into the artifact that is to replace it; what was only changed is read before."""
    scratch = memoryview(bytearray(_READ_BYTES))
    for index, file in enumerate(ingest.manifest.files):
        if file.path in changed:
            ingest.adopt_verified(index, artifact / file.path, scratch, stop.check)
        elif file.path not in damaged:
            ingest.adopt(index, artifact / file.path)


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
