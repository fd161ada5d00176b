"""Asks the controller for a model's secret. Must not keep, log or forward what it gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client

from libs.artifact.names import credentials_subject
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.model.problems import error_of
from ome.fetch.v1.fetch_pb2 import CredentialsReply, CredentialsRequest, Problem

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


class CredentialsClient:
    """Request and reply on the node's own subject, which is how the controller knows who asks."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._subject = credentials_subject(node)

    async def get(self, model_uid: str) -> Credentials:
        """The credentials of a model as they are now. Raises Unavailable when no controller answers."""
        request = CredentialsRequest(model_uid=model_uid).SerializeToString()
        try:
            message = await self._client.request(self._subject, request, timeout=_TIMEOUT_SECONDS)
            reply = CredentialsReply.FromString(message.data)
        except (TimeoutError, nats.errors.Error, DecodeError) as error:
            raise Unavailable(
                Reason.UNAVAILABLE, f"no controller answers the request for the model's secret: {type(error).__name__}"
            ) from error
        return Credentials(
            reply.secret_version, dict(reply.values), reply.problem if reply.HasField("problem") else None
        )
