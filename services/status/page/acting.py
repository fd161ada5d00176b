"""Patches models as the person who looks at the page: with that person's own token, and never as the service.

Owns which token that is. What the patch says is decided in actions.
"""

from collections.abc import Mapping
from typing import Protocol

from starlette.datastructures import Headers

from libs.chassis.kube import MERGE_PATCH, KubeClient, Object
from libs.model.kinds import GROUP_VERSION, kind_numbered
from ome.model.v1.model_pb2 import ModelRef
from services.status.callers import bearer_token
from services.status.kube import Resource
from services.status.page.session import COOKIE, TrustedProxy


class Acts(Protocol):
    """Changes models on behalf of the one whose token is given."""

    async def patch(self, token: str, ref: ModelRef, patch: Object) -> None:
        """Merge a patch into a model. Raises ServiceError."""
        ...


class KubeActs:
    """Asks the API server."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def patch(self, token: str, ref: ModelRef, patch: Object) -> None:
        """Merge a patch into a model, as KubeClient.request raises."""
        kind = kind_numbered(ref.kind)
        path = Resource(GROUP_VERSION, kind.plural, kind.name).path(ref.name, ref.namespace)
        await self._kube.as_bearer(token).request("PATCH", path, patch, content_type=MERGE_PATCH)


def own_token(proxy: TrustedProxy, peer: str, headers: Headers, cookies: Mapping[str, str]) -> str:
    """The token by which a person is known; empty for one whom a proxy names, as there is none then."""
    if proxy.caller(peer, headers):
        return ""
    return bearer_token([("authorization", headers.get("authorization", ""))]) or cookies.get(COOKIE, "")
