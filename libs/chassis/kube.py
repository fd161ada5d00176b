"""The Kubernetes API over aiohttp: requests, listings in pages and watches, with plain JSON in and out.

Owns the connection, the identity that is shown, and what an answer means as an error. Which kinds there are and what
their fields mean is for the callers, as is every retry.
"""

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import structlog

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Invalid, Missing, ServiceError, Unavailable
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
_CONNECTIONS = 100
# The kubelet replaces a token when a fifth of its life is left, which is at least two minutes.
_TOKEN_SECONDS = 60.0
_log = structlog.get_logger()


class Expired(Conflict):
    """The resource version is too old (HTTP 410): list again."""


class KubeClient:
    """Requests to one API server. They are not retried here: the reconcile that asked owns the retry."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: Callable[[], str] | None = None) -> None:
        """`token` is asked for the bearer token of each request; without it the connection itself is the identity."""
        self._session = session
        self._url = url
        self._token = token

    def as_bearer(self, token: str) -> "KubeClient":
        """The same server, asked with the token of somebody else. Raises Invalid.

        Not where the connection itself is the identity: its certificate would count before the token.
        """
        if self._token is None:
            raise Invalid(Reason.FORBIDDEN, "this connection to the API server speaks for us, whatever token is shown")
        if not token or not token.isascii() or not token.isprintable():
            raise Invalid(Reason.FORBIDDEN, "there is no token to act with")
        return KubeClient(self._session, self._url, lambda: token)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        most_bytes: int | None = None,
    ) -> Object:
        """Send one request and return the JSON of the answer, of which no more than most_bytes are read.

        Raises Missing (404, 403), Conflict (409), Expired (410), Invalid (400, 422) or Unavailable (429, 5xx, no
        answer: then the request may have been carried out; or one that is too large).
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": accept, "Content-Type": content_type}
        if most_bytes is not None:
            # What is packed may be a thousand times as large, and is unpacked before anybody counts.
            headers["Accept-Encoding"] = "identity"
        payload = await self._exchange(method, path, query, headers, data, most_bytes)
        try:
            result: Object = json.loads(payload) if payload else {}
        except ValueError as error:
            raise _unreachable(method, path, error) from error
        return result

    async def get(
        self, path: str, query: Mapping[str, Any] | None = None, accept: str = JSON, most_bytes: int | None = None
    ) -> Object:
        """One object, or a whole collection at once; as `request` does."""
        return await self.request("GET", path, query=query, accept=accept, most_bytes=most_bytes)

    async def is_ready(self) -> bool:
        """Whether the server is there and says that it has started."""
        try:
            # The answer is a word and no JSON.
            await self._exchange("GET", "/readyz", None, {}, None)
        except ServiceError:
            return False
        return True

    async def pages(
        self, path: str, query: Mapping[str, Any] | None = None, accept: str = JSON
    ) -> AsyncIterator[Object]:
        """A collection, page by page; the last page's resourceVersion is the collection's, from which to watch.

        Raises as `request` does; Expired when the listing took longer than the server remembers its first page.
        """
        query = {**(query or {}), "limit": _PAGE_SIZE}
        while True:
            page = await self.get(path, query, accept)
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    @asynccontextmanager
    async def watch(
        self, path: str, resource_version: str, query: Mapping[str, Any] | None = None, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """Open a watch from a resource version and yield its events, bookmarks included, as they come.

        The events end when the server ends the watch. Raises as `request` does, both on opening and between events.
        """
        query = {
            **(query or {}),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": _WATCH_SECONDS,
        }
        timeout = aiohttp.ClientTimeout(connect=_REQUEST_TIMEOUT_SECONDS, sock_read=_WATCH_SILENCE_SECONDS)
        try:
            response = await self._send("GET", path, query, {"Accept": accept}, timeout)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable("WATCH", path, error) from error
        try:
            if response.status >= 300:
                raise await _refused(path, response)
            yield _events(path, response)
        finally:
            response.close()

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        headers: dict[str, str],
        data: bytes | None,
        most_bytes: int | None = None,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)
        try:
            async with await self._send(method, path, query, headers, timeout, data) as response:
                payload = await (
                    response.read() if most_bytes is None else _bounded(method, path, response, most_bytes)
                )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable(method, path, error) from error
        if response.status >= 300:
            raise _error(method, path, response.status, payload, response.headers.get("Retry-After"))
        return payload

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        if self._token:
            headers["Authorization"] = f"Bearer {self._token()}"
        return await self._session.request(
            method, self._url + path, params=query, data=data, headers=headers, timeout=timeout
        )


async def _bounded(method: str, path: str, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    payload = bytearray()
    async for chunk in response.content.iter_any():
        payload += chunk
        if len(payload) > most_bytes:
            # The connection, on which the rest is coming, is of no more use.
            response.close()
            raise Unavailable(Reason.UNAVAILABLE, f"{method} {path}: the answer has more than {most_bytes:,} bytes")
    return bytes(payload)


async def _refused(path: str, response: aiohttp.ClientResponse) -> ServiceError:
    try:
        return _error("WATCH", path, response.status, await response.read(), response.headers.get("Retry-After"))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        return _unreachable("WATCH", path, error)


async def _events(path: str, response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    pending = b""
    try:
        # By chunk and not by line: an event may be longer than a line of aiohttp's may be.
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
    return Unavailable(Reason.UNAVAILABLE, f"{method} {path}: the API server does not answer ({type(error).__name__})")


def _error(method: str, path: str, status: int, payload: bytes, retry_after: str | None) -> ServiceError:
    try:
        said = json.loads(payload).get("message", "")
    except (ValueError, AttributeError):
        said = ""
    message = f"{method} {path}: {status} {said}".rstrip()
    match status:
        case 404:
            return Missing(Reason.NOT_FOUND, message)
        case 401 | 403:
            return Missing(Reason.FORBIDDEN, message)
        case 409:
            return Conflict(Reason.CONFLICT, message)
        case 410:
            return Expired(Reason.CONFLICT, message)
        case 429:
            return Unavailable(
                Reason.RATE_LIMITED, message, float(retry_after) if retry_after and retry_after.isdigit() else None
            )
        case status if status >= 500:
            return Unavailable(Reason.UNAVAILABLE, message)
        case _:
            return Invalid(Reason.INVALID_REQUEST, message)


@asynccontextmanager
async def open_kube(
    url: str, trust: ssl.SSLContext, token: Callable[[], str] | None = None, proxy: str | None = None
) -> AsyncIterator[KubeClient]:
    """A client of the server at `url`, which `trust` verifies and may prove our identity to."""
    connector = aiohttp.TCPConnector(ssl=trust, limit=_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, proxy=proxy) as session:
        yield KubeClient(session, url, token)


def proxy_of_environment(host: str) -> str | None:
    """The proxy for HTTPS that the process' environment names for a host, None for a direct connection.

    By the rules of the standard library, but once for all requests: aiohttp's `trust_env` looks at each, and reads a
    `.netrc` for each as well.
    """
    proxies = getproxies_environment()
    return None if proxy_bypass(host, proxies) else proxies.get("https")


@asynccontextmanager
async def connect_kube(service_account_dir: Path, environ: Mapping[str, str]) -> AsyncIterator[KubeClient]:
    """Connect as the Pod's ServiceAccount: its token (read again as it is rotated) and CA are in service_account_dir,
    the server's address in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.

    Raises SettingsError with everything that is missing.
    """
    problems = []
    host, port = (environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        problems.append("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not tell where the API server is")
    token, trust = TokenFile(service_account_dir / "token"), None
    try:
        token()
    except ServiceError as error:
        problems.append(f"the Pod's ServiceAccount cannot be used: {error.message}")
    try:
        trust = ssl.create_default_context(cafile=str(service_account_dir / "ca.crt"))
    except OSError as error:
        problems.append(f"the Pod's ServiceAccount cannot be used: {service_account_dir / 'ca.crt'}: {error}")
    if problems or trust is None:
        raise SettingsError(problems)
    # An IPv6 address stands in brackets.
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    async with open_kube(url, trust, token, proxy_of_environment(host)) as client:
        yield client


class TokenFile:
    """The token in a file that is replaced from time to time."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at = 0.0

    def __call__(self) -> str:
        """The token, at most a minute old. Raises Unavailable when there has never been one."""
        now = self._clock()
        if not self._token or now - self._read_at >= _TOKEN_SECONDS:
            self._read_at = now
            try:
                self._token = self._path.read_text().strip() or self._token
            except (OSError, ValueError) as error:
                # The one that we have is good for a while, and the server says when it no longer is.
                _log.warning("token_not_read", path=str(self._path), error=str(error))
        if not self._token:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._path} holds no token")
        return self._token
