"""Makes consumers for the status service, which may not make its own: one that it made could deliver anywhere.

A consumer made here delivers only to who asks for its messages, and begins where the request says.
"""

import asyncio
import re

import nats.errors
import nats.js.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, ServiceError, Unavailable
from libs.chassis.nats_feed import feed_consumer, make_consumer
from libs.model.problems import problem_of
from ome.fetch.v1.fetch_pb2 import FollowReply, FollowRequest

# Replicas share the work.
_QUEUE = "ome-gateway"
# Where the server waits for the answer to a request from another account. Any other place could be anybody's.
_FOREIGN_REPLY = "_R_."
_NAME = re.compile("[A-Za-z0-9]{1,64}")
_PARALLEL = 8
_log = structlog.get_logger()


class Followers:
    """Answers the status service in the fleet's account."""

    def __init__(self, ome: Client) -> None:
        self._ome = ome
        self._working = asyncio.Semaphore(_PARALLEL)

    async def open(self) -> None:
        """Answer from now on."""
        await self._ome.subscribe(names.follow_subject("*", "*"), queue=_QUEUE, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        if not message.reply.startswith(_FOREIGN_REPLY):
            return
        _, _, bucket, name = message.subject.split(".")
        try:
            async with self._working:
                reply = FollowReply(pending=await self._follow(bucket, name, message.data))
        except ServiceError as error:
            _log.warning("follower_refused", bucket=bucket, message=error.message)
            reply = FollowReply(problem=problem_of(error, "gateway"))
        await message.respond(reply.SerializeToString())

    async def _follow(self, bucket: str, name: str, request: bytes) -> int:
        if bucket not in names.REPORTED_BUCKETS or not _NAME.fullmatch(name):
            raise Invalid(Reason.INVALID_PARAMETER, f"{bucket} is not to be followed under this name")
        try:
            after = FollowRequest.FromString(request).after
        except DecodeError as error:
            raise Invalid(Reason.INVALID_PARAMETER, "the message cannot be read") from error
        try:
            return await make_consumer(self._ome, f"KV_{bucket}", feed_consumer(name, f"$KV.{bucket}.>", after))
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"no consumer of {bucket}: {type(error).__name__}") from error
