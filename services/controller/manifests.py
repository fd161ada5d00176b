"""Reads stored manifests, and removes manifests and facts of artifacts that nothing names any more.

A branch that moves leaves a manifest behind each time, and nobody else may say that none of the fleet still needs it.
Owns the exceptions of nats-py on this path.
"""

import asyncio
import base64
from collections.abc import Callable

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext

from libs.artifact.digest import digest_directory, is_digest
from libs.artifact.manifest import Manifest
from libs.artifact.names import FACTS_BUCKET, MANIFESTS_BUCKET
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from libs.chassis.nats_client import delete_key
from libs.model.manifest_codec import checked_manifest

# Names of ADR-20 of nats-architecture-and-design.
_STREAM = f"OBJ_{MANIFESTS_BUCKET}"
_META_SUBJECT = f"$O.{MANIFESTS_BUCKET}.M.{{}}"
_CHUNK_SUBJECT = f"$O.{MANIFESTS_BUCKET}.C.{{}}"
_FACTS_PREFIX = f"$KV.{FACTS_BUCKET}."
_PASS_SECONDS = 3600.0
_log = structlog.get_logger()


async def read_manifest(js: JetStreamContext, digest: str, timeout_seconds: float) -> tuple[bytes, Manifest]:
    """A stored manifest, as bytes and checked against its digest.

    Raises Missing, Corrupt for what is not what the digest names, or Unavailable.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            store = await js.object_store(MANIFESTS_BUCKET)
            data = (await store.get(digest)).data or b""
            # A large one takes a while, and others wait for other answers.
            return data, await asyncio.to_thread(checked_manifest, digest, data)
    except nats.js.errors.NotFoundError as error:
        raise Missing(Reason.NOT_FOUND, f"the manifest {digest} is not in {MANIFESTS_BUCKET}") from error
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise Unavailable(Reason.UNAVAILABLE, f"NATS has no manifest for us: {type(error).__name__}") from error


class ManifestSweep:
    """Takes a manifest away that was found unreferenced in two passes, one after the other.

    A listing stores its manifest a moment before it is told of, which one pass alone could fall into. Should a manifest
    be missed after all, the node that misses it says NotFound, and the source is listed again.
    """

    def __init__(self, js: JetStreamContext, referenced: Callable[[], set[str]]) -> None:
        """referenced returns the digests of all artifacts that anything refers to."""
        self._js = js
        self._referenced = referenced
        self._unreferenced: set[str] = set()
        self._facts_unreferenced: set[str] = set()

    async def run(self, leading: Callable[[], bool]) -> None:
        """Sweep every hour while leading, until cancelled. What fails is left to the next pass."""
        while True:
            await asyncio.sleep(_PASS_SECONDS)
            if not leading():
                continue
            try:
                removed, facts = await self.sweep(), await self.sweep_facts()
            except Unavailable as error:
                _log.warning("manifests_not_swept", message=error.message)
                continue
            _log.info("manifests_swept", removed=len(removed), facts_removed=len(facts))

    async def sweep(self) -> set[str]:
        """Make one pass; the digests of the manifests that it has removed. Raises Unavailable."""
        try:
            stored = await self._stored()
            found = stored - self._referenced()
            removed = set()
            for digest in sorted(found & self._unreferenced):
                try:
                    await self._remove(digest)
                    removed.add(digest)
                except nats.js.errors.BadObjectMetaError:
                    # Written by somebody else: the others are not kept for its sake.
                    _log.warning("manifest_entry_malformed", digest=digest)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS cannot sweep the manifests: {type(error).__name__}") from error
        self._unreferenced = found - removed
        return removed

    async def sweep_facts(self) -> set[str]:
        """Make one pass over the facts; the keys that it has removed. Raises Unavailable.

        Facts that are missed after all are asked for again by the next node that fetches the artifact.
        """
        try:
            info = await self._js.stream_info(f"KV_{FACTS_BUCKET}", subjects_filter=f"{_FACTS_PREFIX}>")
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS cannot list the facts: {type(error).__name__}") from error
        stored = {subject.removeprefix(_FACTS_PREFIX) for subject in info.state.subjects or {}}
        referenced = {digest_directory(digest) for digest in self._referenced() if is_digest(digest)}
        found = {key for key in stored if key.partition(".")[0] not in referenced}
        removed = found & self._facts_unreferenced
        for key in sorted(removed):
            await delete_key(self._js, FACTS_BUCKET, key)
        self._facts_unreferenced = found - removed
        return removed

    async def _stored(self) -> set[str]:
        info = await self._js.stream_info(_STREAM, subjects_filter=_META_SUBJECT.format(">"))
        subjects = info.state.subjects or {}
        digests = set()
        for subject in subjects:
            try:
                digests.add(base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode())
            except ValueError:
                # Any fetcher may write here: what is no entry must not end the process.
                _log.warning("manifest_entry_malformed", subject=subject)
        return digests

    async def _remove(self, digest: str) -> None:
        """Remove the object and its entry; the library's own delete would leave an entry behind for ever."""
        objects = await self._js.object_store(MANIFESTS_BUCKET)
        chunks = (await objects.get_info(digest, show_deleted=True)).nuid
        entry = base64.urlsafe_b64encode(digest.encode()).decode()
        # The entry first: chunks without one are never read, an entry without chunks would be.
        await self._js.purge_stream(_STREAM, subject=_META_SUBJECT.format(entry))
        await self._js.purge_stream(_STREAM, subject=_CHUNK_SUBJECT.format(chunks))
