"""Facts about an artifact, asked for once for the whole fleet: the first node that needs them asks, the others wait.

Sharing saves the parser work and is never needed: when NATS does not answer, a node asks for itself.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from libs.artifact.names import FACTS, facts_key
from libs.chassis.errors import Conflict, Invalid, ServiceError
from libs.model.problems import error_of, problem_of
from ome.fetch.v1.fetch_pb2 import FactsReply, FactsRequest, SharedFacts
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.fleet.gateway import Gateway

# Longer than an answer of the parser may take; after that whoever waits asks instead.
_CLAIM_SECONDS = 30.0
# A parse takes milliseconds; a fleet that waits for a claimer that died must not keep NATS busy with the question.
_LOOK_AGAIN_SECONDS = 0.05
_LOOK_AGAIN_MAX_SECONDS = 2.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Facts:
    """Facts about an artifact, and the key that holds them; empty when it is not certain that one does."""

    facts: ModelFacts
    key: str = ""


class FactsExchange:
    """What the nodes of the fleet know about artifacts."""

    def __init__(self, gateway: Gateway, node: str, version: str, claim_seconds: float = _CLAIM_SECONDS) -> None:
        """claim_seconds is how long another node's claim is waited for, counted from when it is seen."""
        self._claim_seconds = claim_seconds
        self._gateway = gateway
        self._node = node
        self._version = version

    def key(self, digest: str, schema_path: str) -> str:
        """Where the facts about an artifact are, if they were made by the rules of this version."""
        return facts_key(digest, schema_path, self._version)

    async def get(self, digest: str, schema_path: str, parse: Callable[[], Awaitable[ModelFacts]]) -> Facts:
        """The facts about an artifact, from whoever asked first, or by parse. Raises what parse raises."""
        key = self.key(digest, schema_path)
        subject = FactsRequest(digest=digest, schema_path=schema_path, version=self._version)
        try:
            known = await self._known_or_claimed(subject)
        except ServiceError as error:
            _log.info("facts_not_shared", digest=digest, reason=error.reason)
            return Facts(await parse())
        if known.HasField("problem"):
            raise error_of(known.problem)
        if known.HasField("facts"):
            return Facts(known.facts, key)
        try:
            answer = SharedFacts(facts=await parse())
        except Invalid as error:
            await self._tell(subject, SharedFacts(problem=problem_of(error, "fetcher")))
            raise
        except ServiceError:
            # The others need not wait until the claim runs out.
            await self._tell(subject, SharedFacts())
            raise
        return Facts(answer.facts, key if await self._tell(subject, answer) else "")

    async def _known_or_claimed(self, subject: FactsRequest) -> SharedFacts:
        """What is known, or an empty record once it is ours to find out."""
        pause = _LOOK_AGAIN_SECONDS
        claim_seen, waiting_since = -1, 0.0
        while True:
            reply = await self._gateway.get(FACTS, subject, FactsReply)
            revision, known = reply.revision, reply.facts
            if known.HasField("facts") or known.HasField("problem"):
                return known
            if revision != claim_seen:
                # By our own clock, from when we saw it: the claimer's may be set to another year.
                claim_seen, waiting_since = revision, time.monotonic()
            age = time.monotonic() - waiting_since
            if known.claimed_by not in ("", self._node) and age < self._claim_seconds:
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, _LOOK_AGAIN_MAX_SECONDS)
                continue
            try:
                await self._say(subject, SharedFacts(claimed_by=self._node), revision)
            except Conflict:
                continue
            return SharedFacts()

    async def _tell(self, subject: FactsRequest, answer: SharedFacts) -> bool:
        try:
            await self._say(subject, answer)
        except ServiceError as error:
            # The claim expires, and the next node asks.
            _log.info("facts_not_shared", digest=subject.digest, reason=error.reason)
            return False
        return True

    async def _say(self, subject: FactsRequest, record: SharedFacts, revision: int = 0) -> None:
        request = FactsRequest(facts=record, revision=revision)
        request.MergeFrom(subject)
        await self._gateway.get(FACTS, request, FactsReply)
