"""The Kubernetes API: the one importer of the kubernetes package, whose exceptions end here.

Owns requests, their errors, and Informers: local copies of resources kept by list and watch. Objects are plain
documents, as the API server sends them. Must not know what is written or why.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from libs.chassis.errors import Conflict, Invalid, Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from services.status.metrics import API_REQUESTS

Object = dict[str, Any]

_REQUEST_TIMEOUT_SECONDS = 15
_PAGE_SIZE = 500
# The server ends a watch after this time; bookmarks arrive about every minute meanwhile, so that a longer silence
# means a connection that died without a word.
_WATCH_SECONDS = 3000
_WATCH_SILENCE_SECONDS = 180
_RETRY_INITIAL_SECONDS = 0.1
_RETRY_MAX_SECONDS = 5.0
_METADATA_ONLY = ";as={};g=meta.k8s.io;v=v1"
_log = structlog.get_logger()


@dataclass(frozen=True)
class Resource:
    """One collection of the API; group_version is "v1" for the core group."""

    group_version: str
    plural: str
    kind: str

    def path(self, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """The path of the collection, of one object in it, or of a subresource."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{scope}/{self.plural}", name, subresource) if part)


class _ExpiredError(Exception):
    """The resource version is too old for a watch (410): everything has to be listed again."""


class ApiServer:
    """Requests to the API server. Every method raises ServiceErrors only: Missing (404), Conflict (409), Invalid
    (400, 422) or Unavailable, which includes refused permissions, for those are granted without our doing."""

    def __init__(self, client: ApiClient, field_manager: str) -> None:
        self._client = client
        self._field_manager = field_manager

    async def apply(self, resource: Resource, body: Object, subresource: str = "", *, force: bool = False) -> Object:
        """Server-side apply body, which names the object in its metadata; with metadata.uid it never creates one."""
        metadata = body["metadata"]
        return await self._write(
            "PATCH",
            resource,
            resource.path(metadata["name"], metadata.get("namespace", ""), subresource),
            {"apiVersion": resource.group_version, "kind": resource.kind, **body},
            "application/apply-patch+yaml",
            {"fieldManager": self._field_manager, "force": str(force).lower()},
        )

    async def merge(self, resource: Resource, name: str, body: Object, namespace: str = "") -> Object:
        """JSON merge patch; the answer holds metadata only, as large objects are patched for their labels."""
        return await self._write(
            "PATCH",
            resource,
            resource.path(name, namespace),
            body,
            "application/merge-patch+json",
            {"fieldManager": self._field_manager},
            accept="application/json" + _METADATA_ONLY.format("PartialObjectMetadata"),
        )

    async def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """Create an object."""
        body = {"apiVersion": resource.group_version, "kind": resource.kind, **body}
        return await self._write("POST", resource, resource.path(namespace=namespace), body)

    async def replace(self, resource: Resource, body: Object) -> Object:
        """Replace an object; its metadata.resourceVersion says which one."""
        metadata = body["metadata"]
        path = resource.path(metadata["name"], metadata.get("namespace", ""))
        return await self._write("PUT", resource, path, body)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """Read one object."""
        return await self._write("GET", resource, resource.path(name, namespace))

    async def delete(self, resource: Resource, name: str, namespace: str, uid: str) -> None:
        """Delete the object that has this uid."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        await self._write("DELETE", resource, resource.path(name, namespace), body)

    async def list(
        self, resource: Resource, path: str, query: Mapping[str, str], accept: str
    ) -> tuple[list[Object], str]:
        """All objects of a collection, page by page, and the resource version that they stand for."""
        items: list[Object] = []
        query = {**query, "limit": str(_PAGE_SIZE)}
        while True:
            page = await self._write("GET", resource, path, query=query, accept=accept, verb="LIST")
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            query = {**query, "continue": token}

    async def watch(
        self, resource: Resource, path: str, query: Mapping[str, str], accept: str, opened: Callable[[], None]
    ) -> AsyncIterator[tuple[str, Object]]:
        """The events of a collection until the server ends the watch; opened is called when it has begun."""
        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        timeout = aiohttp.ClientTimeout(connect=_REQUEST_TIMEOUT_SECONDS, sock_read=_WATCH_SILENCE_SECONDS)
        with _translated(resource, "WATCH"):
            response = await self._call("GET", path, None, "", query, accept, timeout, stream=True)
        API_REQUESTS.labels("WATCH", resource.plural, response.status).inc()
        try:
            if response.status == 410:
                raise _ExpiredError
            if response.status != 200:
                raise _error(resource, response.status, await response.text(), response.headers)
            opened()
            with _translated(resource, "WATCH"):
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _watch_error(resource, event["object"])
                    yield event["type"], event["object"]
        finally:
            response.close()

    async def _write(
        self,
        method: str,
        resource: Resource,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
        verb: str = "",
    ) -> Object:
        with _translated(resource, verb or method):
            result: Object = await self._call(
                method, path, body, content_type, query or {}, accept, _REQUEST_TIMEOUT_SECONDS
            )
        API_REQUESTS.labels(verb or method, resource.plural, 200).inc()
        return result

    async def _call(
        self,
        method: str,
        path: str,
        body: Object | None,
        content_type: str,
        query: Mapping[str, str],
        accept: str,
        timeout: Any,
        stream: bool = False,
    ) -> Any:
        headers = {"Accept": accept}
        if content_type:
            headers["Content-Type"] = content_type
        return await self._client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not stream,
            _request_timeout=timeout,
        )


@asynccontextmanager
async def connect_api_server(
    host: str, port: int, service_account_dir: Path, field_manager: str
) -> AsyncIterator[ApiServer]:
    """Requests under the Pod's ServiceAccount, whose token is read again as it rotates."""
    configuration = Configuration()
    loader = InClusterConfigLoader(
        token_filename=str(service_account_dir / "token"),
        cert_filename=str(service_account_dir / "ca.crt"),
        environ={"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)},
    )
    loader.load_and_set(configuration)
    client = ApiClient(configuration)
    client.user_agent = field_manager
    async with client:
        yield ApiServer(client, field_manager)


class Informer:
    """A copy of one collection, kept by list and watch: bookmarks, resource versions, and a new list after a 410.

    objects maps (namespace, name) to the object. on_change gets an object before and after each change, either of
    which may be None, and is called for every object once at the start.
    """

    def __init__(
        self,
        api: ApiServer,
        resource: Resource,
        health: Health,
        on_change: Callable[[Object | None, Object | None], None],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self._api = api
        self._resource = resource
        self._health = health
        self._check = f"kubernetes {resource.plural}"
        self._on_change = on_change
        self._path = resource.path(namespace=namespace)
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._query = {name: value for name, value in selectors.items() if value}
        self._metadata_only = metadata_only
        self._synced = asyncio.Event()
        # An answer to a write that is older than the latest deletion may be about the object that was deleted.
        self._deleted_version = 0
        health.declare(self._check, "not listed yet")

    async def synced(self) -> None:
        """Wait until the collection has been listed once."""
        await self._synced.wait()

    def absorb(self, written: Object) -> None:
        """Take the answer to a write for what it is, so that nothing is written again before the watch repeats it."""
        if _key(written) in self.objects or _version(written) > self._deleted_version:
            self._put(written)

    async def run(self) -> None:
        """Keep the copy current until cancelled."""
        version = ""
        failures = 0

        def opened() -> None:
            nonlocal failures
            failures = 0
            self._health.ok(self._check)

        while True:
            try:
                if not version:
                    version = await self._list()
                    self._synced.set()
                async for seen in self._watch(version, opened):
                    version = seen
                # A server that shuts down ends every watch as soon as it begins.
                await asyncio.sleep(_RETRY_INITIAL_SECONDS)
            except _ExpiredError:
                version = ""
            except ServiceError as error:
                self._health.fail(self._check, f"{error.reason}: {error.message}")
                if not failures:
                    _log.warning("watch_interrupted", resource=self._resource.plural, error=error.message)
                await asyncio.sleep(_backoff_seconds(failures))
                failures += 1

    async def _list(self) -> str:
        accept = self._accept("PartialObjectMetadataList")
        items, version = await self._api.list(self._resource, self._path, self._query, accept)
        gone = self.objects.keys() - {_key(item) for item in items}
        for item in items:
            self._put(item)
        for key in gone:
            self._remove(key)
        return version

    async def _watch(self, version: str, opened: Callable[[], None]) -> AsyncIterator[str]:
        query = {**self._query, "resourceVersion": version}
        accept = self._accept("PartialObjectMetadata")
        async for kind, item in self._api.watch(self._resource, self._path, query, accept, opened):
            if kind in ("ADDED", "MODIFIED"):
                self._put(item)
            elif kind == "DELETED":
                self._deleted_version = _version(item)
                self._remove(_key(item))
            yield item["metadata"]["resourceVersion"]

    def _accept(self, kind: str) -> str:
        return "application/json" + (_METADATA_ONLY.format(kind) if self._metadata_only else "")

    def _put(self, item: Object) -> None:
        key = _key(item)
        known = self.objects.get(key)
        if known and _version(item) <= _version(known) and _uid(item) == _uid(known):
            return
        if self._metadata_only:
            # A fleet of nodes has megabytes of bookkeeping that nobody here reads.
            item["metadata"].pop("managedFields", None)
            item["metadata"].pop("annotations", None)
        # Items of a list of core resources carry neither; metadata-only ones carry another kind.
        item["apiVersion"], item["kind"] = self._resource.group_version, self._resource.kind
        self.objects[key] = item
        self._on_change(known, item)

    def _remove(self, key: tuple[str, str]) -> None:
        known = self.objects.pop(key, None)
        if known:
            self._on_change(known, None)


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(item: Object) -> int:
    # Comparable as numbers within one resource: KEP-5504, promised since Kubernetes 1.35 and true before.
    return int(item["metadata"]["resourceVersion"])


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _backoff_seconds(failures: int) -> float:
    return min(_RETRY_MAX_SECONDS, _RETRY_INITIAL_SECONDS * 2.0 ** min(failures, 10)) * (0.5 + random.random() / 2)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # StreamReader.readline refuses lines longer than its buffer; an object may be longer.
    rest: list[bytes] = []
    async for chunk in content.iter_any():
        *ends, last = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*rest, end))
            rest.clear()
            if line:
                yield line
        if last:
            rest.append(last)


@contextmanager
def _translated(resource: Resource, verb: str) -> Iterator[None]:
    """Turn what the client raises into ServiceErrors, and count the failed request."""
    try:
        yield
    except ApiException as error:
        API_REQUESTS.labels(verb, resource.plural, error.status).inc()
        if error.status == 410:
            raise _ExpiredError from error
        raise _error(resource, error.status, error.body or "", error.headers or {}) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        API_REQUESTS.labels(verb, resource.plural, 0).inc()
        text = str(error) or type(error).__name__
        raise Unavailable("Unavailable", f"the Kubernetes API cannot be reached: {text}") from error


def _error(resource: Resource, code: int, body: str, headers: Mapping[str, str]) -> ServiceError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200]
    message = f"{resource.plural}: {message or f'HTTP {code}'}"
    if code == 404:
        return Missing("NotFound", message)
    if code == 409:
        return Conflict("Conflict", message)
    if code in (400, 422):
        return Invalid("Internal", message)
    if code in (401, 403):
        return Unavailable("Forbidden", message)
    retry_after = headers.get("Retry-After", "")
    return Unavailable("Unavailable", message, float(retry_after) if retry_after.isdigit() else None)


def _watch_error(resource: Resource, status: Object) -> Exception:
    code = int(status.get("code") or 0)
    return _ExpiredError() if code == 410 else _error(resource, code, json.dumps(status), {})
