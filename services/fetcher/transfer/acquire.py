"""Brings one artifact into a store: the whole way from a manifest to a committed directory.

Must not publish it, nor decide whether a failure is tried again.
"""

from collections.abc import Collection

from libs.artifact.manifest import Manifest
from services.fetcher.store.artifacts import Store, content_of
from services.fetcher.transfer.engine import download
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Origin
from services.fetcher.transfer.progress import Progress, ProgressCallback
from services.fetcher.transfer.stop import StopFlag

_LIMITS = Limits()


def acquire(
    store: Store,
    manifest: Manifest,
    origin: Origin,
    stop: StopFlag,
    progress: ProgressCallback | None = None,
    limits: Limits = _LIMITS,
    damaged: Collection[str] = (),
) -> None:
    """Return when the store holds the artifact: at once when it does and nothing is damaged.

    damaged names the files that Store.check or Store.scrub has found wrong: only they are fetched, the others are taken
    over, and the repaired artifact replaces the damaged one in one step. Waits while the same artifact is being fetched
    already. Blocks; raises what Store.ingest, download and Store.commit raise. progress is called in this thread, at
    most once a second.
    """
    digest = manifest.digest
    if store.holds(digest) and not damaged:
        return
    with store.ingest(manifest, stop) as ingest:
        if ingest is None:
            return
        copies = {}
        held = store.contents()
        for index, file in enumerate(manifest.files):
            if store.holds(digest) and file.path not in damaged:
                ingest.adopt(index, store.artifact_path(digest) / file.path)
            elif content_of(file) in held:
                copies[index] = held[content_of(file)]
        download(ingest, origin, stop, progress or _ignore, limits, copies)
        store.commit(ingest)


def _ignore(_: Progress) -> None:
    return None
