"""Asks the gateway, which reads and writes the fleet's stored state on behalf of this node.

Owns the exceptions of nats-py on this path. Must not go on once the time is over: whoever asks knows what for.
"""

from typing import Any, TypeVar, cast

import nats.errors
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client

from libs.artifact.names import CREDENTIALS, MANIFEST, RECALL, SNAPSHOT, USE, node_subject
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_asking import first_answer
from libs.model.problems import error_of

# Longer than the gateway waits for whom it asks in its turn.
_TIMEOUT_SECONDS = 6.0
# One of the gateways may hang, and another one answers the same. What is written is not sent twice.
_READING = frozenset({SNAPSHOT, RECALL, MANIFEST, CREDENTIALS, USE})
_AGAIN_SECONDS = 3.0

R = TypeVar("R", bound=Message)


class NobodyListens(Unavailable):
    """No gateway takes such questions: none runs, or those that do are of a version that does not know them."""


class Gateway:
    """Request and reply on the node's own subjects, which is how the gateway knows who asks."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node

    async def ask(self, verb: str, request: Message, reply: type[R], timeout_seconds: float = _TIMEOUT_SECONDS) -> R:
        """The answer, whatever it says. Raises Unavailable when there is none, NobodyListens when nobody was asked."""
        try:
            message = await first_answer(
                self._client,
                node_subject(self._node, verb),
                request.SerializeToString(),
                timeout_seconds,
                _AGAIN_SECONDS if verb in _READING else None,
            )
            return reply.FromString(message.data)
        except nats.errors.NoRespondersError as error:
            raise NobodyListens(Reason.UNAVAILABLE, f"no gateway listens ({verb})") from error
        except (TimeoutError, nats.errors.Error, DecodeError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"no gateway answers ({verb}): {type(error).__name__}") from error

    async def get(self, verb: str, request: Message, reply: type[R], timeout_seconds: float = _TIMEOUT_SECONDS) -> R:
        """The answer. Raises the error that it tells of, or Unavailable."""
        answer: Any = await self.ask(verb, request, reply, timeout_seconds)
        if answer.HasField("problem"):
            raise error_of(answer.problem)
        return cast("R", answer)

    async def tell(self, verb: str, message: Message, model_uid: str = "") -> None:
        """Say something that nobody answers. Raises Unavailable when it cannot even be sent."""
        try:
            await self._client.publish(node_subject(self._node, verb, model_uid), message.SerializeToString())
        except nats.errors.Error as error:
            raise Unavailable(Reason.UNAVAILABLE, f"NATS does not take what is said: {type(error).__name__}") from error
