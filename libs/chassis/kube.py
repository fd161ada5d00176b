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

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_REQUEST_TIMEOUT_SECONDS = 30
# The API server ends a watch after this time, and a bookmark tells where the next one begins.
_WATCH_SECONDS = 300
_PAGE_SIZE = 500
_RETRY_SECONDS = 0.5
_LEASE_SECONDS = 30
_LEASE_RENEW_SECONDS = 10
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
        content_type: str = "application/json",
    ) -> Object:
        """Send one request and return the JSON of the answer.

        Raises Missing (404, 403), Conflict (409), Expired (410), Invalid (400, 422) or Unavailable (429, 5xx, no
        answer). Not retried here: the reconcile that asked owns the retry.
        """
        response = await self._send(method, path, body, query, content_type, _REQUEST_TIMEOUT_SECONDS)
        try:
            payload = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(method, path, error) from error
        finally:
            response.release()
        if response.status >= 300:
            raise _error(method, path, response.status, payload, response.headers.get("Retry-After"))
        result: Object = json.loads(payload) if payload else {}
        return result

    @asynccontextmanager
    async def watch(self, path: str, resource_version: str) -> AsyncIterator[AsyncIterator[Object]]:
        """Open a watch from a resource version and yield its events, bookmarks included, as they come."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": _WATCH_SECONDS,
        }
        response = await self._send("GET", path, None, query, "application/json", _WATCH_SECONDS + 30)
        try:
            if response.status >= 300:
                raise _error("WATCH", path, response.status, await response.read(), None)
            yield _events(path, response)
        finally:
            response.close()

    async def _send(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None, content_type: str, seconds: float
    ) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=seconds,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(method, path, error) from error
        return response


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
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
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
    """

    def __init__(self, path: str, check: str, health: Health) -> None:
        self.path = path
        self.objects: dict[tuple[str, str], Object] = {}
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
        while True:
            try:
                version = await self._list(client, on_change)
                self._synced.set()
                self._health.ok(self._check)
                await self._watch(client, version, on_change)
            except Expired:
                _log.info("watch_expired", path=self.path)
            except ServiceError as error:
                _log.warning("watch_failed", path=self.path, reason=error.reason, message=error.message)
                self._health.fail(self._check, error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self, client: KubeClient, on_change: Callable[[Object | None, Object | None], None]) -> str:
        listed: dict[tuple[str, str], Object] = {}
        query: dict[str, Any] = {"limit": _PAGE_SIZE}
        while True:
            page = await client.request("GET", self.path, query=query)
            for item in page["items"]:
                listed[_key(item)] = item
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
            async with client.watch(self.path, version) as events:
                async for event in events:
                    item = event["object"]
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] == "BOOKMARK":
                        continue
                    if event["type"] == "DELETED":
                        before = self.objects.pop(_key(item), None)
                        on_change(before or item, None)
                    else:
                        self._store(_key(item), item, on_change)

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


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Leadership:
    """Holds a Lease so that one replica of several acts. The others wait and take over when it is not renewed.

    Follows the protocol of client-go's leaderelection: a Lease is free when its holder has not renewed it, by our own
    clock, for as long as it lasts.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str) -> None:
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._seen = ("", 0.0)
        self._held: Object | None = None
        self._renewed = 0.0
        self._leading = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether we hold the Lease now; false as soon as another might think that it has expired."""
        return self._leading.is_set() and time.monotonic() - self._renewed < _LEASE_SECONDS

    async def acquired(self) -> None:
        """Wait until we lead."""
        await self._leading.wait()

    async def run(self, on_change: Callable[[bool], None]) -> None:
        """Acquire the Lease and renew it until cancelled, then give it up; on_change hears when leading changes."""
        try:
            while True:
                await self._step(on_change)
                await asyncio.sleep(_LEASE_RENEW_SECONDS)
        finally:
            if self._leading.is_set():
                await asyncio.shield(self._release())

    async def _step(self, on_change: Callable[[bool], None]) -> None:
        try:
            held = await self._try_hold()
        except ServiceError as error:
            _log.warning("lease_failed", lease=self._name, reason=error.reason, message=error.message)
            # Without an answer we lead on until the Lease would have expired.
            held = self.leading
        if held == self._leading.is_set():
            return
        if held:
            self._leading.set()
        else:
            self._leading.clear()
        _log.info("leadership_changed", lease=self._name, leading=held)
        on_change(held)

    async def _try_hold(self) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = {"holderIdentity": self._identity, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}
        started = time.monotonic()
        try:
            # What we wrote last is still there unless somebody took the Lease, which the write then finds out.
            lease = self._held or await self._client.request("GET", f"{self._path}/{self._name}")
        except Missing as error:
            if error.reason != "NotFound":
                raise
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": {**ours, "acquireTime": now, "leaseTransitions": 0},
            }
            return await self._write("POST", self._path, body, started)
        spec = lease.setdefault("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder != self._identity:
            mark = f"{holder}/{spec.get('renewTime')}"
            if self._seen[0] != mark:
                self._seen = (mark, started)
            if holder and started - self._seen[1] < (spec.get("leaseDurationSeconds") or _LEASE_SECONDS):
                return False
            spec.update(acquireTime=now, leaseTransitions=(spec.get("leaseTransitions") or 0) + 1)
        spec.update(ours)
        return await self._write("PUT", f"{self._path}/{self._name}", lease, started)

    async def _write(self, method: str, path: str, body: Object, started: float) -> bool:
        self._held = None
        try:
            self._held = await self._client.request(method, path, body)
        except Conflict:
            return False
        self._renewed = started
        return True

    async def _release(self) -> None:
        patch = {"spec": {"holderIdentity": ""}}
        try:
            await self._client.request("PATCH", f"{self._path}/{self._name}", patch, content_type=MERGE_PATCH)
        except ServiceError as error:
            _log.info("lease_not_released", lease=self._name, reason=error.reason)
        self._leading.clear()
