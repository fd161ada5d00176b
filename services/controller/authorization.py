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
from collections import OrderedDict
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
# A session lives no longer than this without another look at its token, which is not valid any more once the Pod or its
# node is gone.
_SESSION_SECONDS = 600
# Tokens that were refused a short time ago are refused again without asking.
_REMEMBERED_REFUSALS = 1000
_REFUSAL_SECONDS = 30.0
_TOKEN_BYTES = 16 << 10
# Our clock may be behind or ahead of the API server's.
_CLOCK_SECONDS = 300.0
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
        # Digests of refused tokens and until when, by the monotonic clock.
        self._refused: OrderedDict[bytes, tuple[float, Refusal]] = OrderedDict()

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
        if why := why_not_reviewed(token, self._user, time.time()):
            return Refusal(why)
        digest = hashlib.sha256(token.encode()).digest()
        until, refusal = self._refused.get(digest, (0.0, None))
        if refusal and time.monotonic() < until:
            return refusal
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._kube.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]
        judgement = self._judge(status)
        if isinstance(judgement, Refusal):
            self._refused[digest] = time.monotonic() + _REFUSAL_SECONDS, judgement
            while len(self._refused) > _REMEMBERED_REFUSALS:
                self._refused.popitem(last=False)
        return judgement

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
        # Spread, so that a fleet that came at once does not come back at once.
        expiry = int(time.time() + _SESSION_SECONDS * (1 - random.random() / 4))
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


def why_not_reviewed(token: str, user: str, now: float) -> str:
    """Why a token cannot be one of user's, by what stands in it; empty if it may be, which only a review can say.

    So whoever sends junk costs the API server nothing. Times are in seconds since the epoch.
    """
    if not token:
        return "no token was shown"
    if len(token) > _TOKEN_BYTES:
        return "the token is too long"
    try:
        claims = _claims(token.encode())
        audiences, expiry, subject = claims["aud"], float(claims["exp"]), claims["sub"]
        bound = claims["kubernetes.io"]["pod"]["name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the token is not that of a Pod"
    if subject != user:
        return f"{str(subject)[:253]} is not {user}"
    if AUDIENCE not in audiences or not bound:
        return "the token is not valid for this server"
    return "the token has expired" if expiry < now - _CLOCK_SECONDS else ""


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _claims(token: bytes) -> dict[str, Any]:
    _, payload, _ = token.decode().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if not isinstance(claims, dict):
        raise TypeError("the claims are no object")
    return claims
