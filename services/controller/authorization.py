"""Answers the NATS server when a fetcher connects: which node is it, and what may it do?

A fetcher shows the token of its Pod's ServiceAccount; the API server says whose it is and on which node the Pod runs.
So a new node needs no credentials of its own. The protocol is NATS' auth callout
(https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout, ADR-26).
"""

import base64
import hashlib
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.chassis.errors import ServiceError
from libs.chassis.kube import KubeClient, Object
from libs.chassis.settings import SettingsError
from services.controller.permissions import Permissions, node_permissions

SUBJECT = "$SYS.REQ.USER.AUTH"
AUDIENCE = "nats"
_QUEUE = "ome-authorization"
# A subscription answers one request after the other; after a restart of NATS the whole fleet asks at once, and NATS
# waits two seconds for each answer.
_PARALLEL = 16
# https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
_NODE_NAME_CLAIM = "authentication.kubernetes.io/node-name"
# A connection outlives the token that it was opened with by no more than this, as the Pod's own token would.
_CONNECTION_SECONDS = 3600
_log = structlog.get_logger()


@dataclass(frozen=True)
class Refusal:
    """Why a connection is not let in."""

    why: str


class Authorizer:
    """Decides about connections of fetchers."""

    def __init__(self, kube: KubeClient, seed_file: Path, account: str, service_account: str) -> None:
        """service_account is "<namespace>:<name>", the only one whose tokens are taken.

        Raises SettingsError when the seed file cannot be used.
        """
        self._kube = kube
        self._issuer = _read_seed(seed_file)
        self._account = account
        self._user = f"system:serviceaccount:{service_account}"

    async def serve(self, client: Client) -> None:
        """Answer from now on; replicas share the work."""
        for _ in range(_PARALLEL):
            await client.subscribe(SUBJECT, queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        try:
            request = _claims(message.data)["nats"]
            user, server = request["user_nkey"], request["server_id"]["id"]
            token = request.get("connect_opts", {}).get("auth_token", "")
        except (ValueError, KeyError, TypeError) as error:
            _log.error("authorization_request_malformed", error=str(error))
            return
        try:
            node = await self._node_of(token)
        except ServiceError as error:
            # No answer makes the server refuse after a moment, and the fetcher tries again.
            _log.warning("authorization_unavailable", reason=error.reason, message=error.message)
            return
        if isinstance(node, Refusal):
            _log.warning("connection_refused", why=node.why)
            answer = {"error": node.why}
        else:
            answer = {"jwt": self._user_token(user, node, node_permissions(node))}
        response = {"aud": server, "nats": {**answer, "type": "authorization_response", "version": 2}}
        await message.respond(self._sign({**response, "sub": user}).encode())

    async def _node_of(self, token: str) -> str | Refusal:
        if not token:
            return Refusal("no token was shown")
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._kube.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]
        return self._judge(status)

    def _judge(self, status: Object) -> str | Refusal:
        if not status.get("authenticated") or AUDIENCE not in status.get("audiences", ()):
            return Refusal("the token is not valid for this server")
        user = status.get("user", {})
        if user.get("username") != self._user:
            return Refusal(f"{user.get('username')} is not {self._user}")
        nodes = (user.get("extra") or {}).get(_NODE_NAME_CLAIM) or []
        if len(nodes) != 1:
            return Refusal("the token is not bound to a Pod on a node")
        return str(nodes[0])

    def _user_token(self, user: str, node: str, permissions: Permissions) -> str:
        nats = {
            "pub": {"allow": list(permissions.publish)},
            "sub": {"allow": list(permissions.subscribe)},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "type": "user",
            "version": 2,
        }
        # Spread, so that a fleet that came at once does not come back at once; a fetcher reconnects with a new token.
        expiry = int(time.time() + _CONNECTION_SECONDS * (1 + random.random() / 4))
        return self._sign({"aud": self._account, "sub": user, "name": node, "exp": expiry, "nats": nats})

    def _sign(self, claims: dict[str, Any]) -> str:
        """A JWT as NATS writes it: Ed25519 over header and claims, the id a hash of the claims."""
        claims = {**claims, "iss": self._issuer.public_key.decode(), "iat": int(time.time())}
        digest = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = f"{_encode(header)}.{_encode(claims)}"
        signature: bytes = self._issuer.sign(signed.encode())
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _read_seed(path: Path) -> nkeys.KeyPair:
    try:
        return nkeys.from_seed(bytearray(path.read_bytes().strip()))
    except OSError as error:
        raise SettingsError([f"the issuer's seed cannot be read: {error}"]) from error
    except nkeys.NkeysError as error:
        raise SettingsError([f"{path} holds no NATS account seed (SA…)"]) from error


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _claims(token: bytes) -> dict[str, Any]:
    _, payload, _ = token.decode().split(".")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
