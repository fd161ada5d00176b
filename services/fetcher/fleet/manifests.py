"""The fleet's manifests, in the object store of NATS: written by the resolver that listed a source, read by all nodes.

Owns the exceptions of nats-py on this path. Must not trust what it reads: the digest names the content.
"""

import asyncio
import contextlib
import json
import math
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator

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
# Of the bytes of each namespace: other resolvers store as well.
_COUNT_SECONDS = 10.0
# Entries that are asked for together: one after the other, thousands would take longer than storing may.
_AT_A_TIME = 64
# Name of ADR-20 of nats-architecture-and-design.
_ENTRIES = f"$O.{MANIFESTS_BUCKET}.M.>"
_STREAM = f"OBJ_{MANIFESTS_BUCKET}"
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
    """Writes manifests. Equal digests mean equal content: nothing is overwritten but what is not what its name says.

    Each is described by the namespace that it was first stored for, and counts to its share.
    """

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._objects: ObjectStore | None = None
        self._shares = _Shares(js)

    async def put(self, manifest: Manifest, namespace: str = "") -> None:
        """Store a manifest under its digest for a model of a namespace; idempotent.

        Raises Unavailable, also when this is more than the share of the namespace. Models without one have no share:
        who may write these may fill the store.
        """
        digest = manifest.digest
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                if self._objects is None:
                    self._objects = await self._js.object_store(MANIFESTS_BUCKET)
                if not await _holds(self._js, self._objects, digest):
                    data = encode_manifest(manifest)
                    if namespace:
                        await self._shares.check(namespace, len(data))
                    options = ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES)
                    await self._objects.put(digest, data, ObjectMeta(digest, namespace or None, options=options))
                    self._shares.add(namespace, len(data))
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS did not take a manifest: {type(error).__name__}") from error


class _Shares:
    """How much of the store the manifests of each namespace take, by what is stored.

    A namespace may take as much as it leaves free: one that stores without end gets half, two get a third each, and
    there is always as much left for the next. What other resolvers have stored is counted a few seconds late.
    """

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bytes: Counter[str] = Counter()
        self._free = 0
        self._counted_at = -math.inf
        self._counting = asyncio.Lock()

    async def check(self, namespace: str, size: int) -> None:
        """Raise Unavailable if a namespace may not store so many bytes more."""
        # Whoever waited for another one to count goes by that.
        async with self._counting:
            if time.monotonic() - self._counted_at > _COUNT_SECONDS or not self._permits(namespace, size):
                await self._count()
        if self._permits(namespace, size):
            return
        raise Unavailable(
            Reason.UNAVAILABLE,
            f"the lists of files of models in the namespace {namespace} would take "
            f"{_mebibytes(self._bytes[namespace] + size)}, more than their share of what holds them: delete models "
            "there, or name one model in storageUri; lists that no model uses any more go within two hours. The "
            "operator can permit more by nats.bucketBytes in the values of the controller's chart",
        )

    def add(self, namespace: str, size: int) -> None:
        """Count what was stored."""
        self._bytes[namespace] += size
        self._free -= size

    def _permits(self, namespace: str, size: int) -> bool:
        return self._bytes[namespace] + size <= self._free - size

    async def _count(self) -> None:
        # With the names of all entries, of which each is asked for then. The library's own listing never ends when an
        # entry is malformed.
        info = await self._js.stream_info(_STREAM, subjects_filter=_ENTRIES)
        # A store without a bound is one from before there was one.
        bound = info.config.max_bytes or 0
        subjects, found = list(info.state.subjects or ()), Counter[str]()
        for start in range(0, len(subjects), _AT_A_TIME):
            for entry in await asyncio.gather(*map(self._entry, subjects[start : start + _AT_A_TIME])):
                with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                    described = json.loads(entry)
                    found[str(described.get("description") or "")] += int(described.get("size") or 0)
        self._free = bound - info.state.bytes if bound > 0 else sys.maxsize
        self._bytes = found
        self._counted_at = time.monotonic()

    async def _entry(self, subject: str) -> bytes:
        """What describes an object; empty if it has gone."""
        try:
            return (await self._js.get_msg(_STREAM, subject=subject)).data or b""
        except nats.js.errors.NotFoundError:
            return b""


async def _messages(js: JetStreamContext, subject: str) -> AsyncGenerator[bytes, None]:
    """What is stored under a subject, one request for each message.

    The library reads through a consumer. A resolver may make none: whoever makes one says where it delivers.
    """
    sequence = 0
    while True:
        try:
            message = await js.get_msg(_STREAM, sequence + 1, subject, next=True)
        except nats.js.errors.NotFoundError:
            return
        sequence = message.seq or sys.maxsize
        yield message.data or b""


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


async def _holds(js: JetStreamContext, store: ObjectStore, digest: str) -> bool:
    """Whether what is stored under a digest is what the digest names."""
    data = bytearray()
    try:
        info = await store.get_info(digest)
        async with contextlib.aclosing(_messages(js, f"$O.{MANIFESTS_BUCKET}.C.{info.nuid}")) as parts:
            async for part in parts:
                data += part
                if len(data) > _MOST_BYTES:
                    return False
        checked_manifest(digest, bytes(data))
    except (nats.js.errors.NotFoundError, nats.js.errors.BadObjectMetaError, Corrupt):
        return False
    return True
