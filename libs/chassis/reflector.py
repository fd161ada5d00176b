"""A copy of one collection of the Kubernetes API, kept current by a list and a watch.

Owns the retry of both. What a change means is for whoever is told of it.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError
from libs.chassis.health import Health
from libs.chassis.kube import JSON, METADATA_ONLY, Expired, KubeClient, Object

# Hears of an object before and after a change; None stands for an object that does not exist.
OnChange = Callable[[Object | None, Object | None], None]

_RETRY_SECONDS = 0.5
# How soon a kind is noticed that somebody installs.
_MISSING_RETRY_SECONDS = 10.0
_log = structlog.get_logger()


class Reflector:
    """A copy of one collection of the API, kept current by a list and a watch.

    Lists again when the server has forgotten our resource version, and whenever the watch fails for another reason.
    query may hold selectors; with metadata_only the objects have nothing else, and of that no bookkeeping. project
    makes of an object what is kept of it: metadata.name, namespace, uid and resourceVersion at least. One of which it
    makes None is as if it did not exist. An optional collection may be missing, and is empty then: kinds of others are
    installed and removed while we run.
    """

    def __init__(
        self,
        path: str,
        check: str,
        health: Health,
        query: Mapping[str, str] | None = None,
        metadata_only: bool = False,
        project: Callable[[Object], Object | None] | None = None,
        optional: bool = False,
    ) -> None:
        self.path = path
        self.objects: dict[tuple[str, str], Object] = {}
        self._query = dict(query or {})
        self._metadata_only = metadata_only
        self._project = project
        self._optional = optional
        # An answer to a write that is older than the latest deletion may be about the object that was deleted.
        self._deleted_version = 0
        self._check = check
        self._health = health
        self._synced = asyncio.Event()
        # The watch is open, as far as is known, and has told everything up to now.
        self.current = False
        health.declare(check, f"{path} has not been listed yet")

    async def synced(self) -> None:
        """Wait until the collection has been listed once."""
        await self._synced.wait()

    async def run(self, client: KubeClient, on_change: OnChange) -> None:
        """Keep the copy current until cancelled; on_change hears of each change."""
        interrupted = False
        while True:
            try:
                version = await self._list(client, on_change)
                interrupted = False
                self._synced.set()
                self.current = True
                self._health.ok(self._check)
                await self._watch(client, version, on_change)
            except Expired:
                self.current = False
                _log.info("watch_expired", path=self.path)
            except ServiceError as error:
                if self._optional and error.reason == Reason.NOT_FOUND:
                    self._be_missing(on_change)
                    await asyncio.sleep(_MISSING_RETRY_SECONDS)
                    continue
                if not interrupted:
                    # Once for an outage: the health check tells the rest.
                    _log.warning("watch_failed", path=self.path, reason=error.reason, message=error.message)
                interrupted = True
                self.current = False
                self._health.fail(self._check, error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    def absorb(self, written: Object, on_change: OnChange) -> None:
        """Take the answer to a write for what it is, so that nothing is written again before the watch repeats it."""
        known = _key(written) in self.objects
        if not self._is_older(written) if known else _version(written) > self._deleted_version:
            self._store(_key(written), self._kept(written), on_change)

    def _be_missing(self, on_change: OnChange) -> None:
        """The collection does not exist, which is as good as empty."""
        if not self._synced.is_set() or self.objects:
            _log.info("collection_missing", path=self.path)
        for key in set(self.objects):
            on_change(self.objects.pop(key), None)
        self._synced.set()
        self._health.ok(self._check)

    async def _list(self, client: KubeClient, on_change: OnChange) -> str:
        listed: dict[tuple[str, str], Object] = {}
        version = ""
        async for page in client.pages(self.path, self._query, self._accept("PartialObjectMetadataList")):
            for item in page["items"]:
                if kept := self._kept(item):
                    listed[_key(item)] = kept
            version = page["metadata"]["resourceVersion"]
        for key in set(self.objects) - set(listed):
            on_change(self.objects.pop(key), None)
        for key, item in listed.items():
            self._store(key, item, on_change)
        return version

    async def _watch(self, client: KubeClient, version: str, on_change: OnChange) -> None:
        loop = asyncio.get_running_loop()
        while True:
            opened = loop.time()
            async with client.watch(self.path, version, self._query, self._accept("PartialObjectMetadata")) as events:
                async for event in events:
                    item = event["object"]
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] == "BOOKMARK":
                        continue
                    if event["type"] == "DELETED":
                        self._deleted_version = _version(item)
                        if gone := self.objects.pop(_key(item), None) or self._kept(item):
                            on_change(gone, None)
                    elif not self._is_older(item):
                        self._store(_key(item), self._kept(item), on_change)
            if loop.time() - opened < _RETRY_SECONDS:
                # Something in between ends every watch at once: the API server need not bear that without a pause.
                await asyncio.sleep(_RETRY_SECONDS)

    def _store(self, key: tuple[str, str], item: Object | None, on_change: OnChange) -> None:
        before = self.objects.get(key)
        if item is None:
            if before:
                on_change(self.objects.pop(key), None)
            return
        if before and before["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
            return
        self.objects[key] = item
        on_change(before, item)

    def _kept(self, item: Object) -> Object | None:
        if self._metadata_only:
            # A fleet of nodes has megabytes of it.
            item["metadata"].pop("managedFields", None)
        return self._project(item) if self._project else item

    def _is_older(self, item: Object) -> bool:
        known = self.objects.get(_key(item))
        return known is not None and _version(item) < _version(known) and _uid(item) == _uid(known)

    def _accept(self, kind: str) -> str:
        return METADATA_ONLY.format(kind) if self._metadata_only else JSON


def _version(item: Object) -> int:
    # Comparable as numbers within one resource: KEP-5504, promised since Kubernetes 1.35 and true before.
    return int(item["metadata"]["resourceVersion"])


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
