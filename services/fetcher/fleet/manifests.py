"""The fleet's manifests, in the object store of NATS: written by the fetcher that listed a source, read by all others.

Owns the exceptions of nats-py on this path. Must not trust what it reads: the digest names the content.
"""

import asyncio
from collections import OrderedDict

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta, ObjectMetaOptions
from nats.js.object_store import ObjectStore

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest
from libs.artifact.names import MANIFESTS_BUCKET
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Missing, Unavailable
from services.fetcher.fleet.manifest_codec import decode_manifest, encode_manifest

# Half of nats-server's default max_payload: fewer round trips than the library's 128 KiB.
_CHUNK_BYTES = 512 << 10
# A manifest of 50,000 files is 7 MB.
_TIMEOUT_SECONDS = 30
# Files of the manifests of models that come just now, some 300 bytes each; one that is on disk is read from there.
_REMEMBERED_FILES = 20_000


class Manifests:
    """Reads and writes manifests by digest. Equal digests mean equal content, so nothing is ever overwritten."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._objects: ObjectStore | None = None
        self._recent: OrderedDict[str, Manifest] = OrderedDict()

    async def get(self, digest: str) -> Manifest:
        """The manifest of a digest. Raises Missing, Unavailable, or Corrupt when it is not what its name says."""
        if digest in self._recent:
            return self._recent[digest]
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                store = await self._store()
                data = (await store.get(digest)).data or b""
        except nats.js.errors.NotFoundError as error:
            raise Missing(
                Reason.NOT_FOUND, f"the manifest {digest} is not in the object store {MANIFESTS_BUCKET}"
            ) from error
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise _unavailable("read", digest, error) from error
        try:
            manifest = decode_manifest(data)
        except (DecodeError, InvalidValue) as error:
            raise Corrupt(Reason.INVALID_LISTING, f"the manifest {digest} cannot be used: {error}") from error
        if manifest.digest != digest:
            raise Corrupt(Reason.CHECKSUM_MISMATCH, f"the manifest stored as {digest} is that of {manifest.digest}")
        self._remember(manifest)
        return manifest

    async def put(self, manifest: Manifest) -> None:
        """Store a manifest under its digest; idempotent. Raises Unavailable."""
        digest = manifest.digest
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                store = await self._store()
                if not await _exists(store, digest):
                    meta = ObjectMeta(name=digest, options=ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES))
                    await store.put(digest, encode_manifest(manifest), meta)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise _unavailable("write", digest, error) from error
        self._remember(manifest)

    async def _store(self) -> ObjectStore:
        if self._objects is None:
            self._objects = await self._js.object_store(MANIFESTS_BUCKET)
        return self._objects

    def _remember(self, manifest: Manifest) -> None:
        self._recent[manifest.digest] = manifest
        while sum(len(each.files) for each in self._recent.values()) > _REMEMBERED_FILES:
            self._recent.popitem(last=False)


async def _exists(store: ObjectStore, digest: str) -> bool:
    try:
        await store.get_info(digest)
    except nats.js.errors.NotFoundError:
        return False
    return True


def _unavailable(verb: str, digest: str, error: Exception) -> Unavailable:
    return Unavailable(
        Reason.UNAVAILABLE, f"the fetcher cannot {verb} the manifest {digest} in NATS: {type(error).__name__}"
    )
