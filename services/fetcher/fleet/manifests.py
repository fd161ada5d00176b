"""The fleet's manifests, in the object store of NATS: written by the resolver that listed a source, read by all nodes.

Owns the exceptions of nats-py on this path. Must not trust what it reads: the digest names the content.
"""

import asyncio
from collections import OrderedDict

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta, ObjectMetaOptions
from nats.js.object_store import ObjectStore

from libs.artifact.manifest import Manifest
from libs.artifact.names import MANIFEST, MANIFESTS_BUCKET
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Unavailable
from libs.model.manifest_codec import checked_manifest, encode_manifest
from ome.fetch.v1.fetch_pb2 import ManifestPart, ManifestRequest
from services.fetcher.fleet.gateway import Gateway

# Half of nats-server's default max_payload: fewer round trips than the library's 128 KiB.
_CHUNK_BYTES = 512 << 10
# A manifest of 50,000 files is 7 MB.
_TIMEOUT_SECONDS = 30
_MOST_BYTES = 256 << 20
# Files of the manifests of models that come just now, some 300 bytes each; one that is on disk is read from there.
_REMEMBERED_FILES = 20_000


class Manifests:
    """Reads manifests by digest, from the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._recent: OrderedDict[str, Manifest] = OrderedDict()

    async def get(self, digest: str) -> Manifest:
        """The manifest of a digest. Raises Missing, Unavailable, or Corrupt when it is not what its name says."""
        if digest in self._recent:
            return self._recent[digest]
        manifest = checked_manifest(digest, await self._read(digest))
        self._remember(manifest)
        return manifest

    async def _read(self, digest: str) -> bytes:
        data = bytearray()
        while True:
            request = ManifestRequest(digest=digest, offset=len(data))
            part = await self._gateway.get(MANIFEST, request, ManifestPart, _TIMEOUT_SECONDS)
            data += part.data
            if len(data) >= part.total_bytes or not part.data:
                return bytes(data)
            if part.total_bytes > _MOST_BYTES:
                raise Corrupt(Reason.INVALID_LISTING, f"the manifest {digest} has {part.total_bytes} bytes")

    def _remember(self, manifest: Manifest) -> None:
        self._recent[manifest.digest] = manifest
        while sum(len(each.files) for each in self._recent.values()) > _REMEMBERED_FILES:
            self._recent.popitem(last=False)


class ManifestStore:
    """Writes manifests. Equal digests mean equal content: nothing is overwritten but what is not what its name says."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._objects: ObjectStore | None = None

    async def put(self, manifest: Manifest) -> None:
        """Store a manifest under its digest; idempotent. Raises Unavailable."""
        digest = manifest.digest
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                if self._objects is None:
                    self._objects = await self._js.object_store(MANIFESTS_BUCKET)
                if not await _holds(self._objects, digest):
                    meta = ObjectMeta(name=digest, options=ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES))
                    await self._objects.put(digest, encode_manifest(manifest), meta)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS did not take a manifest: {type(error).__name__}") from error


async def _holds(store: ObjectStore, digest: str) -> bool:
    """Whether what is stored under a digest is what the digest names."""
    try:
        data = (await store.get(digest)).data or b""
        checked_manifest(digest, data)
    except (nats.js.errors.NotFoundError, nats.js.errors.BadObjectMetaError, nats.js.errors.DigestMismatchError):
        return False
    except Corrupt:
        return False
    return True
