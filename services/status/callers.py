"""Who calls StatusService: the bearer token of a call, reviewed by the API server, and remembered for a short time.

Decides whom to believe and how often to ask. What a caller may see is decided in access.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, Unavailable
from libs.chassis.kube import KubeClient, Object
from services.status.allowances import Rate, Remembered

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
# A Pod or an account that is gone is believed for no longer than this.
_ACCEPTED_SECONDS, _REFUSED_SECONDS, _WELCOME_SECONDS = 60.0, 30.0, 3600.0
_REMEMBERED = 10_000
_TOKEN_BYTES = 16 << 10
_PARALLEL = 16
# Tokens that the API server refused, per address: whoever forges them gets no more of its time.
_REFUSALS_PER_SECOND, _REFUSALS_AT_ONCE = 0.5, 10
# Our clock may be behind the API server's.
_CLOCK_SECONDS = 300.0


class Unauthenticated(Invalid):
    """The call shows no token, or one that is not valid here."""

    grpc_code = grpc.StatusCode.UNAUTHENTICATED.value[0]


class TooMany(Unavailable):
    """A caller asks for more than its share."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


@dataclass(frozen=True)
class Caller:
    """Whom a token belongs to, as the API server says and as a SubjectAccessReview wants it."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Callers(Protocol):
    """Says who calls."""

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """Who makes a call with this metadata, from this address (as gRPC writes it)."""
        ...


class Anyone:
    """Tells callers apart by their addresses only, where something else keeps strangers away."""

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """Whoever has this address."""
        return Caller(address_of(peer))


class TokenCallers:
    """Believes tokens that the API server believes."""

    def __init__(self, kube: KubeClient, audience: str) -> None:
        """audience is what tokens must be meant for; if empty, they are those of the API server itself."""
        self._kube = kube
        self._audience = audience
        self._known: Remembered[bytes, Caller | str] = Remembered(_REMEMBERED)
        # Tokens that were valid once are looked at again whatever else their address has shown.
        self._welcome: Remembered[bytes, bool] = Remembered(_REMEMBERED)
        self._refusals: Rate[str] = Rate(_REFUSALS_PER_SECOND, _REFUSALS_AT_ONCE, _REMEMBERED)
        self._reviewing = asyncio.Semaphore(_PARALLEL)

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """Who makes a call.

        Raises Unauthenticated; TooMany when this address has shown many tokens that are not valid; Unavailable when the
        API server does not answer.
        """
        token = bearer_token(metadata)
        if why := why_not_reviewed(token, self._audience, time.time()):
            raise _refused(why)
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key, time.monotonic())
        if known is None:
            address = address_of(peer)
            async with self._reviewing:
                # Another call may have had it reviewed, or this address may have shown junk, while we waited.
                known = self._known.get(key, time.monotonic())
                if known is None:
                    if not self._welcome.get(key, time.monotonic()):
                        self._require_credit(address)
                    known = await self._review(token)
                    self._remember(key, address, known)
        if isinstance(known, str):
            raise _refused(known)
        return known

    def _remember(self, key: bytes, address: str, known: Caller | str) -> None:
        now = time.monotonic()
        if isinstance(known, Caller):
            self._known.put(key, known, now + _ACCEPTED_SECONDS)
            self._welcome.put(key, True, now + _WELCOME_SECONDS)
        else:
            self._known.put(key, known, now + _REFUSED_SECONDS)
            self._refusals.take(address, now)

    def _require_credit(self, address: str) -> None:
        wait = self._refusals.wait_seconds(address, time.monotonic())
        if wait:
            raise TooMany(Reason.RATE_LIMITED, "this address has shown too many tokens that are not valid", wait)

    async def _review(self, token: str) -> Caller | str:
        spec: Object = {"token": token} | ({"audiences": [self._audience]} if self._audience else {})
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        status = (await ask(self._kube, REVIEWS, body))["status"]
        if not status.get("authenticated"):
            return "the token is not valid"
        if self._audience and self._audience not in (status.get("audiences") or ()):
            return f"the token is not meant for {self._audience}"
        user = status.get("user") or {}
        extra = {key: tuple(values or ()) for key, values in (user.get("extra") or {}).items()}
        return Caller(
            str(user.get("username", "")),
            str(user.get("uid", "")),
            tuple(user.get("groups") or ()),
            tuple(sorted(extra.items())),
        )


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(Reason.FORBIDDEN, f"{why}; send one in the metadata `authorization: Bearer <token>`")


async def ask(kube: KubeClient, path: str, review: Object) -> Object:
    """Have the API server review something. Raises Unavailable."""
    try:
        return await kube.request("POST", path, review)
    except (Missing, Invalid) as error:
        # It is our request that was refused, and no caller can do anything about that.
        raise Unavailable(Reason.UNAVAILABLE, f"callers cannot be reviewed: {error.message}") from error


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token of a call; empty if there is none, or more than one."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return ""
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def why_not_reviewed(token: str, audience: str, now: float) -> str:
    """Why a token cannot be valid, by what stands in it; empty if it may be, which only a review can say.

    Junk costs the API server nothing then. now is in seconds since the epoch. Without an audience of our own a token
    may have any form.
    """
    if not token:
        return "the call shows no token"
    if len(token) > _TOKEN_BYTES:
        return "the token is too long"
    if not audience:
        return ""
    try:
        _, payload, signature = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        audiences, expiry = claims["aud"], float(claims["exp"])
        is_ours = audience in ([audiences] if isinstance(audiences, str) else audiences)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the token is none of a ServiceAccount"
    if not is_ours or not signature:
        return f"the token is not meant for {audience}"
    return "the token has expired" if expiry < now - _CLOCK_SECONDS else ""


def address_of(peer: str) -> str:
    """The host of a peer as gRPC writes it, such as "ipv4:10.0.0.1:50312"."""
    return peer.rpartition(":")[0]
