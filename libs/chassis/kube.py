"""The Kubernetes API for the services that may use it: requests, mirrors of collections, and a leader's Lease.

The only file that imports kubernetes, and the one place where its exceptions end. Objects are plain JSON here: which
kinds there are and what their fields mean is for the services.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from libs.chassis.errors import Conflict, Invalid, Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.settings import SettingsError

Object = dict[str, Any]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
# What to accept for an answer without spec and status; to be formatted with PartialObjectMetadata or its List.
METADATA_ONLY = "application/json;as={};g=meta.k8s.io;v=v1"

_REQUEST_TIMEOUT_SECONDS = 30
# The API server ends a watch after this time, and a bookmark tells where the next one begins. Bookmarks come about
# every minute: a longer silence means a connection that died without a word.
_WATCH_SECONDS = 3000
_WATCH_SILENCE_SECONDS = 180
_PAGE_SIZE = 500
_RETRY_SECONDS = 0.5
_LEASE_SECONDS = 15.0
# A process that is asked to end has other things to finish.
_RELEASE_SECONDS = 2.0
_log = structlog.get_logger()


class Expired(Conflict):
    """The resource version is too old (HTTP 410): list again."""


class KubeClient:
    """Requests to the API server as the Pod's ServiceAccount."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """Send one request and return the JSON of the answer.

        Raises Missing (404, 403), Conflict (409), Expired (410), Invalid (400, 422) or Unavailable (429, 5xx, no
        answer). Not retried here: the reconcile that asked owns the retry.
        """
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)
        response = await self._send(method, path, body, query, content_type, accept, timeout)
        try:
            payload = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(method, path, error) from error
        finally:
            response.release()
        if response.status >= 300:
            raise _error(method, path, response.status, payload, response.headers.get("Retry-After"))
        try:
            result: Object = json.loads(payload) if payload else {}
        except ValueError as error:
            raise _unreachable(method, path, error) from error
        return result

    @asynccontextmanager
    async def watch(
        self, path: str, resource_version: str, query: Mapping[str, Any] | None = None, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """Open a watch from a resource version and yield its events, bookmarks included, as they come."""
        query = {
            **(query or {}),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": _WATCH_SECONDS,
        }
        timeout = aiohttp.ClientTimeout(connect=_REQUEST_TIMEOUT_SECONDS, sock_read=_WATCH_SILENCE_SECONDS)
        response = await self._send("GET", path, None, query, JSON, accept, timeout)
        try:
            if response.status >= 300:
                raise await _refused(path, response)
            yield _events(path, response)
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any] | None,
        content_type: str,
        accept: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(method, path, error) from error
        return response


async def _refused(path: str, response: aiohttp.ClientResponse) -> ServiceError:
    try:
        return _error("WATCH", path, response.status, await response.read(), response.headers.get("Retry-After"))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        return _unreachable("WATCH", path, error)


async def _events(path: str, response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    pending = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _error("WATCH", path, status.get("code", 500), json.dumps(status).encode(), None)
                yield event
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise _unreachable("WATCH", path, error) from error


def _unreachable(method: str, path: str, error: BaseException) -> Unavailable:
    return Unavailable("Unavailable", f"{method} {path}: the API server does not answer ({type(error).__name__})")


def _error(method: str, path: str, status: int, payload: bytes, retry_after: str | None) -> ServiceError:
    try:
        said = json.loads(payload).get("message", "")
    except (ValueError, AttributeError):
        said = ""
    message = f"{method} {path}: {status} {said}".rstrip()
    match status:
        case 404:
            return Missing("NotFound", message)
        case 401 | 403:
            return Missing("Forbidden", message)
        case 409:
            return Conflict("Conflict", message)
        case 410:
            return Expired("Conflict", message)
        case 429:
            return Unavailable(
                "RateLimited", message, float(retry_after) if retry_after and retry_after.isdigit() else None
            )
        case status if status >= 500:
            return Unavailable("Unavailable", message)
        case _:
            return Invalid("InvalidRequest", message)


@asynccontextmanager
async def connect_kube(service_account_dir: Path, environ: Mapping[str, str]) -> AsyncIterator[KubeClient]:
    """Connect as the Pod's ServiceAccount: its token (read again as it is rotated) and CA are in service_account_dir,
    the server's address in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.

    Raises SettingsError when one of them is missing.
    """
    configuration = Configuration()
    loader = InClusterConfigLoader(
        token_filename=str(service_account_dir / "token"),
        cert_filename=str(service_account_dir / "ca.crt"),
        environ=environ,
    )
    try:
        loader.load_and_set(configuration)
    except ConfigException as error:
        raise SettingsError([f"the Pod's ServiceAccount cannot be used: {error}"]) from error
    async with ApiClient(configuration) as client:
        yield KubeClient(client)


class Reflector:
    """A copy of one collection of the API, kept current by a list and a watch.

    Lists again when the server has forgotten our resource version, and whenever the watch fails for another reason.
    query may hold selectors; with metadata_only the objects have nothing else, and of that no bookkeeping. project
    makes of an object what is kept of it: metadata.name, namespace, uid and resourceVersion at least.
    """

    def __init__(
        self,
        path: str,
        check: str,
        health: Health,
        query: Mapping[str, str] | None = None,
        metadata_only: bool = False,
        project: Callable[[Object], Object] | None = None,
    ) -> None:
        self.path = path
        self.objects: dict[tuple[str, str], Object] = {}
        self._query = dict(query or {})
        self._metadata_only = metadata_only
        self._project = project
        # An answer to a write that is older than the latest deletion may be about the object that was deleted.
        self._deleted_version = 0
        self._check = check
        self._health = health
        self._synced = asyncio.Event()
        health.declare(check, f"{path} has not been listed yet")

    async def synced(self) -> None:
        """Wait until the collection has been listed once."""
        await self._synced.wait()

    async def run(self, client: KubeClient, on_change: Callable[[Object | None, Object | None], None]) -> None:
        """Keep the copy current until cancelled.

        on_change gets the object before and after each change; None stands for an object that does not exist.
        """
        interrupted = False
        while True:
            try:
                version = await self._list(client, on_change)
                interrupted = False
                self._synced.set()
                self._health.ok(self._check)
                await self._watch(client, version, on_change)
            except Expired:
                _log.info("watch_expired", path=self.path)
            except ServiceError as error:
                if not interrupted:
                    # Once for an outage: the health check tells the rest.
                    _log.warning("watch_failed", path=self.path, reason=error.reason, message=error.message)
                interrupted = True
                self._health.fail(self._check, error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    def absorb(self, written: Object, on_change: Callable[[Object | None, Object | None], None]) -> None:
        """Take the answer to a write for what it is, so that nothing is written again before the watch repeats it."""
        known = _key(written) in self.objects
        if not self._is_older(written) if known else _version(written) > self._deleted_version:
            self._store(_key(written), self._kept(written), on_change)

    async def _list(self, client: KubeClient, on_change: Callable[[Object | None, Object | None], None]) -> str:
        listed: dict[tuple[str, str], Object] = {}
        query: dict[str, Any] = {**self._query, "limit": _PAGE_SIZE}
        accept = self._accept("PartialObjectMetadataList")
        while True:
            page = await client.request("GET", self.path, query=query, accept=accept)
            for item in page["items"]:
                listed[_key(item)] = self._kept(item)
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        for key in set(self.objects) - set(listed):
            on_change(self.objects.pop(key), None)
        for key, item in listed.items():
            self._store(key, item, on_change)
        version: str = page["metadata"]["resourceVersion"]
        return version

    async def _watch(
        self, client: KubeClient, version: str, on_change: Callable[[Object | None, Object | None], None]
    ) -> None:
        while True:
            opened = time.monotonic()
            async with client.watch(self.path, version, self._query, self._accept("PartialObjectMetadata")) as events:
                async for event in events:
                    item = event["object"]
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] == "BOOKMARK":
                        continue
                    if event["type"] == "DELETED":
                        self._deleted_version = _version(item)
                        before = self.objects.pop(_key(item), None)
                        on_change(before or self._kept(item), None)
                    elif not self._is_older(item):
                        self._store(_key(item), self._kept(item), on_change)
            if time.monotonic() - opened < _RETRY_SECONDS:
                # Something in between ends every watch at once: the API server need not bear that without a pause.
                await asyncio.sleep(_RETRY_SECONDS)

    def _store(
        self,
        key: tuple[str, str],
        item: Object,
        on_change: Callable[[Object | None, Object | None], None],
    ) -> None:
        before = self.objects.get(key)
        if before and before["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
            return
        self.objects[key] = item
        on_change(before, item)

    def _kept(self, item: Object) -> Object:
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


class Leadership:
    """Holds a Lease so that one replica of several acts. The others wait and take over when it is not renewed.

    The Lease is watched, and asked for only when it is free or its holder has not renewed it for as long as it lasts,
    by our own clock, as clocks of machines differ. A holder that could not renew stops leading before another begins.
    """

    def __init__(
        self, client: KubeClient, namespace: str, name: str, identity: str, lease_seconds: float = _LEASE_SECONDS
    ) -> None:
        """identity is one that no other running process has, such as the name of the Pod."""
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._key = (namespace, name)
        self._identity = identity
        self._lease_seconds = lease_seconds
        # Whether the Lease can be followed is no matter of the process' health: the others lead meanwhile.
        self._lease = Reflector(self._path, "lease", Health(), {"fieldSelector": f"metadata.name={name}"})
        self._changed = asyncio.Event()
        self._seen_at = 0.0
        self._leads_until = 0.0
        self._led = False
        self._complaint = ""

    @property
    def leading(self) -> bool:
        """Whether we hold the Lease now; false well before another may think that it has expired."""
        return time.monotonic() < self._leads_until

    async def run(self, on_change: Callable[[bool], None]) -> None:
        """Hold the Lease whenever it can be had until cancelled, then give it up; on_change hears of each change."""
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._lease.run(self._client, self._lease_changed))
            try:
                await self._lease.synced()
                while True:
                    await self._wait(await self._step(on_change))
            finally:
                following.cancel()
                await asyncio.shield(self._release(on_change))

    async def _step(self, on_change: Callable[[bool], None]) -> float:
        """Renew or acquire the Lease where that is due; returns after how many seconds to look again."""
        now = time.monotonic()
        if not self.leading:
            # A process that was stopped finds its term over: what was left undone since then must be looked at again.
            self._lead_until(0.0, on_change)
        lease = self._lease.objects.get(self._key)
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
        remaining = self._seen_at + self._lease_seconds - now
        if lease and holder not in ("", self._identity) and remaining > 0:
            self._lead_until(0.0, on_change)
            return remaining
        try:
            self._lease.absorb(await self._claim(lease, holder), self._lease_changed)
        except Conflict:
            # Another was faster, or our copy is old: the watch brings the Lease as it is now.
            return self._lease_seconds / 10
        except ServiceError as error:
            if error.message != self._complaint:
                # Once for an outage: without the Lease nothing is written, and nothing else would say why.
                _log.warning("lease_not_taken", lease=self._key[1], reason=error.reason, message=error.message)
            self._complaint = error.message
            return self._lease_seconds / 10
        self._complaint = ""
        # Counted from before the request: the server may have taken it at any time since.
        self._lead_until(now + self._lease_seconds * 2 / 3, on_change)
        return self._lease_seconds / 3

    async def _claim(self, lease: Object | None, holder: str) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict((lease or {}).get("spec") or {})
        if holder != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": self._identity, "renewTime": now}
        spec["leaseDurationSeconds"] = max(1, round(self._lease_seconds))
        if lease is not None:
            return await self._client.request("PUT", f"{self._path}/{self._key[1]}", {**lease, "spec": spec})
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._key[1]},
            "spec": spec,
        }
        return await self._client.request("POST", self._path, body)

    async def _release(self, on_change: Callable[[bool], None]) -> None:
        lease = self._lease.objects.get(self._key)
        held = self.leading
        self._lead_until(0.0, on_change)
        if not lease or not held:
            return
        body = {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._client.request("PUT", f"{self._path}/{self._key[1]}", body)
        except (ServiceError, TimeoutError) as error:
            # The Lease runs out by itself; the other replica only waits a little longer.
            _log.info("lease_not_released", lease=self._key[1], error=f"{type(error).__name__}: {error}")

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _lease_changed(self, before: Object | None, after: Object | None) -> None:
        self._seen_at = time.monotonic()
        if not after or (after.get("spec") or {}).get("holderIdentity") != self._identity:
            self._changed.set()

    def _lead_until(self, deadline: float, on_change: Callable[[bool], None]) -> None:
        self._leads_until = deadline
        led, self._led = self._led, self.leading
        if led != self._led:
            _log.info("leadership_changed", lease=self._key[1], leading=self._led)
            on_change(self._led)
