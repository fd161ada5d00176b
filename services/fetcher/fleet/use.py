"""Asks the controller, by the gateway, which Pods use what on this node. Must not decide what follows from it."""

from collections.abc import Sequence
from typing import Protocol

from libs.artifact.names import USE
from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.model.problems import error_of
from ome.fetch.v1.fetch_pb2 import Use, UseQuestion, UseReply, UseRequest
from services.fetcher.fleet.gateway import Gateway, NobodyListens

# What the gateway takes at once.
MOST_QUESTIONS = 256


class Told(Protocol):
    """What the gateway has said of itself with the assignments."""

    @property
    def tells_use(self) -> bool: ...

    def reread(self) -> None:
        """Ask again."""
        ...


class UseClient:
    """The controller is the only one who knows of Pods: a node is told of its own, and believes nobody else."""

    def __init__(self, gateway: Gateway, told: Told) -> None:
        self._gateway = gateway
        self._told = told
        # Whether the last question was answered, with a refusal perhaps.
        self._answered = False

    @property
    def tells(self) -> bool:
        """Whether the gateway answers such questions at all, by what it has said itself."""
        return self._told.tells_use or self._answered

    async def ask(self, questions: Sequence[UseQuestion]) -> list[Use]:
        """One answer for each question. Raises Unavailable when there are none, and what the controller says then."""
        try:
            return await self._ask(questions)
        except NobodyListens:
            # The controller may have been rolled back to a version that knows nothing of Pods, which only it can say.
            self._told.reread()
            raise
        finally:
            if self._answered and not self._told.tells_use:
                # Since it was last heard, the controller has become one that knows of Pods.
                self._told.reread()

    async def _ask(self, questions: Sequence[UseQuestion]) -> list[Use]:
        uses: list[Use] = []
        for start in range(0, len(questions), MOST_QUESTIONS):
            asked = questions[start : start + MOST_QUESTIONS]
            self._answered = False
            reply = await self._gateway.ask(USE, UseRequest(questions=asked), UseReply)
            self._answered = True
            if reply.HasField("problem"):
                raise error_of(reply.problem)
            if len(reply.uses) != len(asked):
                raise Unavailable(Reason.UNAVAILABLE, "the controller has not answered all questions about Pods")
            uses += reply.uses
        return uses
