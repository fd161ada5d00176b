"""The harness' own way to the Kubernetes API: plain JSON over aiohttp, and mirrors that watches keep current.

The generated client turns every object into models and back, which a kubelet that must react within milliseconds has no
use for. Owns retries of the watch; whoever calls `request` owns those of the request.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tools.localcluster.certificates import KeyPair

Object = dict[str, Any]
Key = tuple[str, str]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason


class ApiUnreachable(Exception):
    """There was no answer; whether the request was carried out is unknown."""


class Kube:
    """A connection to the API server; at most one per event loop is needed."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> Object:
        """One request; raises ApiError or ApiUnreachable."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if body is not None else {}
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=data,
                headers=headers,
                params=query,
                timeout=aiohttp.ClientTimeout(total=30),
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{method} {path}: {error}") from error
        answer = _decode(text)
        if response.status >= 400:
            raise ApiError(response.status, answer.get("reason", ""), answer.get("message", text[:500]))
        return answer

    async def get(self, path: str, **query: str) -> Object:
        return await self.request("GET", path, None, **query)

    async def apply(self, path: str, body: Object) -> Object:
        """Server-side apply under the harness' name; wins every conflict."""
        return await self.request(
            "PATCH", path, body, content_type=APPLY_PATCH, fieldManager="localcluster", force="true"
        )

    async def watch(self, path: str, resource_version: str, **query: str) -> AsyncGenerator[Object, None]:
        """Events after `resource_version` until the server ends the stream; raises ApiError(410) when it is too old."""
        parameters = {**query, "watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with self._session.get(self._url + path, params=parameters, timeout=timeout) as response:
                if response.status != 200:
                    raise ApiError(response.status, "", await response.text())
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"watch {path}: {error}") from error


def _decode(text: str) -> Object:
    try:
        answer = json.loads(text)
    except ValueError:
        return {"message": text[:500]}
    return answer if isinstance(answer, dict) else {"message": text[:500]}


@asynccontextmanager
async def connected_kube(url: str, authority: Path, client: KeyPair) -> AsyncIterator[Kube]:
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(client.certificate, client.key)
    # Every Pod may be writing its status and asking for a token at once; and one event can be as large as etcd's
    # largest object.
    connector = aiohttp.TCPConnector(ssl=context, limit=100)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**21) as session:
        yield Kube(session, url)


class Mirror:
    """What a collection holds now, by (namespace, name). `on_change` hears of each key whose object changed or went."""

    def __init__(self, kube: Kube, path: str, on_change: Callable[[Key], None], **query: str) -> None:
        self._kube = kube
        self._path = path
        self._query = query
        self._on_change = on_change
        self._objects: dict[Key, Object] = {}
        self._listed = asyncio.Event()

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    async def synced(self) -> None:
        await self._listed.wait()

    async def run(self) -> None:
        """List and watch until cancelled, through restarts of the API server."""
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                async for event in self._kube.watch(self._path, version, **self._query):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._store(event["object"], deleted=event["type"] == "DELETED")
            except ApiError:
                # Expired (410) above all: what was missed can only be learnt by listing again.
                version = None
                await asyncio.sleep(0.05)
            except ApiUnreachable:
                await asyncio.sleep(0.05)

    async def _list(self) -> str:
        answer = await self._kube.get(self._path, **self._query)
        found = {key_of(item): item for item in answer["items"]}
        for key in self._objects.keys() - found.keys():
            self._store(self._objects[key], deleted=True)
        for item in found.values():
            self._store(item, deleted=False)
        self._listed.set()
        return str(answer["metadata"]["resourceVersion"])

    def _store(self, item: Object, *, deleted: bool) -> None:
        key = key_of(item)
        if deleted:
            self._objects.pop(key, None)
        else:
            self._objects[key] = item
        self._on_change(key)


def key_of(item: Mapping[str, Any]) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


async def until_reachable(attempt: Callable[[], Awaitable[Object]]) -> Object:
    """Repeat a request while the API server does not answer; a refusal ends it."""
    delay = 0.02
    while True:
        try:
            return await attempt()
        except ApiUnreachable:
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.5)
