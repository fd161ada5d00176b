"""The harness' way to its own API server: the services' client under a client certificate, and the harness' name.

Owns no request of its own; what the kubelets do while the server is away is decided here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.kube import APPLY_PATCH, KubeClient, Object, open_kube
from libs.chassis.reflector import Reflector
from tools.localcluster.certificates import KeyPair

Key = tuple[str, str]


@asynccontextmanager
async def connected_kube(url: str, authority: Path, client: KeyPair) -> AsyncIterator[KubeClient]:
    """A client with the identity of a client certificate."""
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(client.certificate, client.key)
    async with open_kube(url, context) as kube:
        yield kube


async def apply(kube: KubeClient, path: str, body: Object) -> Object:
    """Server-side apply under the harness' name; wins every conflict."""
    return await kube.request("PATCH", path, body, {"fieldManager": "localcluster", "force": "true"}, APPLY_PATCH)


def reflect(path: str, **query: str) -> Reflector:
    """A copy of a collection. The harness has no health of its own to tell of: it goes on through restarts."""
    return Reflector(path, path, Health(), query)


def changed_key(before: Object | None, after: Object | None) -> Key:
    """Namespace and name of the object that a change is about."""
    metadata = (after or before or {})["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


async def until_reachable(attempt: Callable[[], Awaitable[Object]]) -> Object:
    """Repeat a request while the API server is away or busy; a refusal ends it."""
    delay = 0.02
    while True:
        try:
            return await attempt()
        except Unavailable:
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.5)
