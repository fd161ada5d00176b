"""Tokens by which a watch goes on where an earlier one ended: this replica's name, the last change, what is watched.

A token of another replica, of an earlier life of this one or of another watch says nothing here. Pure.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from ome.status.v1.status_pb2 import WatchModelsRequest

_MOST_CHARACTERS = 256


@dataclass(frozen=True)
class Tokens:
    """life is different for each process that serves."""

    life: str

    def token(self, number: int, request: WatchModelsRequest) -> str:
        """The token after the change of a number. Empty for a number below zero, after which nothing can go on."""
        if number < 0:
            return ""
        return base64.urlsafe_b64encode(f"{self._watch(request)}.{number}".encode()).decode()

    def number(self, request: WatchModelsRequest) -> int | None:
        """The number of the change after which a request wants to go on; None if its token does not say that here."""
        if not request.resume_token or len(request.resume_token) > _MOST_CHARACTERS:
            return None
        try:
            watch, _, number = base64.urlsafe_b64decode(request.resume_token.encode()).decode().partition(".")
        except (binascii.Error, ValueError):
            return None
        is_ours = hmac.compare_digest(watch.encode(), self._watch(request).encode())
        return int(number) if is_ours and number.isascii() and number.isdecimal() else None

    def _watch(self, request: WatchModelsRequest) -> str:
        watched = f"{self.life}/{request.kind}/{request.namespace}/{request.name}"
        return hashlib.sha256(watched.encode()).hexdigest()[:32]
