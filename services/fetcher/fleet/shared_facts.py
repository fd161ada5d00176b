"""Facts about an artifact, asked for once for the whole fleet: the first node that needs them asks, the others wait.

Sharing saves the parser work and is never needed: when NATS does not answer, a node asks for itself.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from libs.artifact.names import FACTS_BUCKET, facts_key
from libs.chassis.errors import Conflict, Invalid, ServiceError
from libs.chassis.nats_client import put_if, read_key
from libs.model.problems import error_of, problem_of
from ome.fetch.v1.fetch_pb2 import SharedFacts
from ome.parser.v1.parser_pb2 import ModelFacts

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

    def __init__(self, js: JetStreamContext, node: str, version: str, claim_seconds: float = _CLAIM_SECONDS) -> None:
        """claim_seconds is how long another node's claim is waited for, counted from when it is seen."""
        self._claim_seconds = claim_seconds
        self._js = js
        self._node = node
        self._version = version

    async def get(self, digest: str, schema_path: str, parse: Callable[[], Awaitable[ModelFacts]]) -> Facts:
        """The facts about an artifact, from whoever asked first, or by parse. Raises what parse raises."""
        key = facts_key(digest, schema_path, self._version)
        try:
            known = await self._known_or_claimed(key)
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
            await self._tell(key, SharedFacts(problem=problem_of(error, "fetcher")))
            raise
        except ServiceError:
            # The others need not wait until the claim runs out.
            await self._tell(key, SharedFacts())
            raise
        return Facts(answer.facts, key if await self._tell(key, answer) else "")

    async def _known_or_claimed(self, key: str) -> SharedFacts:
        """What is known, or an empty record once it is ours to find out."""
        pause = _LOOK_AGAIN_SECONDS
        claim_seen, waiting_since = -1, 0.0
        while True:
            revision, known = await self._read(key)
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
            claim = SharedFacts(claimed_by=self._node)
            claim.claimed_at.FromMilliseconds(int(time.time() * 1000))
            try:
                await put_if(self._js, FACTS_BUCKET, key, claim.SerializeToString(), revision)
            except Conflict:
                continue
            return SharedFacts()

    async def _tell(self, key: str, answer: SharedFacts) -> bool:
        try:
            await put_if(self._js, FACTS_BUCKET, key, answer.SerializeToString(), None)
        except ServiceError as error:
            # The claim expires, and the next node asks.
            _log.info("facts_not_shared", key=key, reason=error.reason)
            return False
        return True

    async def _read(self, key: str) -> tuple[int, SharedFacts]:
        revision, value = await read_key(self._js, FACTS_BUCKET, key)
        try:
            return revision, SharedFacts.FromString(value or b"")
        except DecodeError:
            return revision, SharedFacts()
