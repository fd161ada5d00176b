"""How the demo and the tests call StatusService: as an account that may read models and nodes, with its token."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from libs.model.kinds import GROUP_VERSION, KINDS
from ome.status.v1.status_pb2_grpc import StatusServiceStub

NAMESPACE, READER = "default", "ome-reader"
AUDIENCE = "ome-status"
# As long as somebody may leave a cluster of `make up` running over a day's work.
_TOKEN_LIFETIME = "12h"
_READING = ["get", "list", "watch"]
_AUTHORIZATION = "rbac.authorization.k8s.io"


def reader_manifest() -> str:
    """The account and its rights, for `kubectl apply`."""
    models = {"apiGroups": [GROUP_VERSION.partition("/")[0]], "resources": [kind.plural for kind in KINDS]}
    rules = [{**models, "verbs": _READING}, {"apiGroups": [""], "resources": ["nodes"], "verbs": _READING}]
    account = {"kind": "ServiceAccount", "name": READER, "namespace": NAMESPACE}
    role = {"apiGroup": _AUTHORIZATION, "kind": "ClusterRole", "name": READER}
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER, "namespace": NAMESPACE}},
        {
            "apiVersion": f"{_AUTHORIZATION}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": READER},
            "rules": rules,
        },
        {
            "apiVersion": f"{_AUTHORIZATION}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": READER},
            "roleRef": role,
            "subjects": [account],
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def reader_token(kubectl: Callable[..., str]) -> str:
    """A token of the account, which is made if it is missing; kubectl takes arguments and `input`."""
    kubectl("apply", "-f", "-", input=reader_manifest())
    lifetime = f"--duration={_TOKEN_LIFETIME}"
    return kubectl("create", "token", READER, "-n", NAMESPACE, f"--audience={AUDIENCE}", lifetime).strip()


@contextmanager
def status_stub(address: str, authority: Path, token: str) -> Iterator[StatusServiceStub]:
    """A client that knows the service by its certificate authority and shows a token with every call."""
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    # A certificate names the Service and not its Pods.
    options = [("grpc.ssl_target_name_override", "ome-status.ome.svc")]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield StatusServiceStub(grpc.intercept_channel(channel, _Bearer(token)))


def authorization(token: str) -> tuple[str, str]:
    """The metadata of a call that shows a token.

    grpc's own access_token_call_credentials are not used: closing a channel that has them may block the whole process
    for ever (github.com/grpc/grpc/pull/42247).
    """
    return "authorization", f"Bearer {token}"


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Shows a token with every call."""

    def __init__(self, token: str) -> None:
        self._metadata = (authorization(token),)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request)
