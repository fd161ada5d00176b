"""Asks the gateway for the consumers by which buckets are followed.

Whoever makes a consumer says where it delivers, and JetStream delivers anywhere: so this service may not make any.
"""

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js import api

from libs.artifact.names import FOREIGN_API, follow_subject
from libs.chassis.nats_feed import Api, FeedLost
from ome.fetch.v1.fetch_pb2 import FollowReply, FollowRequest

_ANSWER_SECONDS = 5.0


async def ask_for_consumer(client: Client, stream: str, config: api.ConsumerConfig) -> int:
    """Have the consumer of a feed made. Raises FeedLost, or as nats-py does."""
    after = (config.opt_start_seq or 1) - 1
    subject = follow_subject(stream.removeprefix("KV_"), config.name or "")
    answer = await client.request(subject, FollowRequest(after=after).SerializeToString(), timeout=_ANSWER_SECONDS)
    try:
        reply = FollowReply.FromString(answer.data)
    except DecodeError as error:
        raise FeedLost("the gateway's answer cannot be read") from error
    if reply.HasField("problem"):
        raise FeedLost(reply.problem.message)
    return reply.pending


# JetStream as this account imports it.
API = Api(FOREIGN_API, ask_for_consumer)
