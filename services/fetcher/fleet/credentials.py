"""Asks for a model's secret. Must not keep, log or forward what it gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nats.aio.client import Client

from libs.artifact.names import CREDENTIALS, LISTING_CREDENTIALS_SUBJECT
from libs.chassis.nats_asking import ask
from libs.model.problems import error_of
from libs.model.sources import source_digest
from ome.fetch.v1.fetch_pb2 import CredentialsReply, CredentialsRequest, Problem, Source
from services.fetcher.fleet.gateway import Gateway

_TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class Credentials:
    """What the controller has answered. version names it, and tells nothing of a value."""

    version: str = ""
    content: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    problem: Problem | None = None

    def values(self) -> Mapping[str, bytes]:
        """Keys and values of the model's Secret, as far as the backend uses them.

        Raises the error that the controller names when there are none, such as SecretNotFound.
        """
        if self.problem is not None:
            raise error_of(self.problem)
        return self.content


class CredentialsClient(Protocol):
    """Whoever can be asked for secrets."""

    async def get(self, model_uid: str, source: Source) -> Credentials:
        """The credentials of a model as they are now, for its source. Raises Unavailable when no controller answers."""
        ...


class NodeCredentials:
    """For a node, which gets the secrets of the models that it must hold."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def get(self, model_uid: str, source: Source) -> Credentials:
        """See CredentialsClient."""
        return _read(await self._gateway.ask(CREDENTIALS, _request(model_uid, source), CredentialsReply))


class ListingCredentials:
    """For a resolver, which gets the secrets of the models whose sources are to be listed."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, model_uid: str, source: Source) -> Credentials:
        """See CredentialsClient."""
        reply = await ask(
            self._client,
            LISTING_CREDENTIALS_SUBJECT,
            _request(model_uid, source),
            CredentialsReply,
            _TIMEOUT_SECONDS,
            unanswered="no controller answers the request for the model's secret",
        )
        return _read(reply)


def _request(model_uid: str, source: Source) -> CredentialsRequest:
    return CredentialsRequest(model_uid=model_uid, source_digest=source_digest(source))


def _read(reply: CredentialsReply) -> Credentials:
    problem = reply.problem if reply.HasField("problem") else None
    return Credentials(reply.secret_version, dict(reply.values), problem)
