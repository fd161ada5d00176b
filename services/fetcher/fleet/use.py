"""Asks the controller, by the gateway, which Pods use what on this node. Must not decide what follows from it."""

from collections.abc import Sequence

from libs.artifact.names import USE
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from ome.fetch.v1.fetch_pb2 import Use, UseQuestion, UseReply, UseRequest
from services.fetcher.fleet.gateway import Gateway

# What the gateway takes at once.
MOST_QUESTIONS = 256


class UseClient:
    """The controller is the only one who knows of Pods: a node is told of its own, and believes nobody else."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def ask(self, questions: Sequence[UseQuestion]) -> list[Use]:
        """One answer for each question. Raises Unavailable when there are none, and what the controller says then."""
        uses: list[Use] = []
        for start in range(0, len(questions), MOST_QUESTIONS):
            asked = questions[start : start + MOST_QUESTIONS]
            reply = await self._gateway.get(USE, UseRequest(questions=asked), UseReply)
            if len(reply.uses) != len(asked):
                raise Unavailable(Reason.UNAVAILABLE, "the controller has not answered all questions about Pods")
            uses += reply.uses
        return uses
