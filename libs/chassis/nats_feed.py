"""Feeds: the messages of one stream of a bucket in the order of their sequences, each through one short-lived consumer.

Decides how much the server may send at once, and when a feed cannot be trusted any more. Must not know what messages
mean.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header

# The server says that it has nothing at this interval; two that are missing mean that it has lost us.
IDLE_HEARTBEAT_SECONDS = 5.0
_PATIENCE_SECONDS = 2.5 * IDLE_HEARTBEAT_SECONDS
# The server forgets the consumer of a feed that went away after this time.
_INACTIVE_SECONDS = 60.0
# How long one request for messages stands, and how much it may bring. nats-server cuts a client off that has 64 MB
# waiting (max_pending): the batches of all mirrors of a service together stay far below that.
_REQUEST_SECONDS = 30.0
_BATCH_MESSAGES = 500
_BATCH_BYTES = 4 << 20
# Subject, headers and protocol of the largest message there may be.
_OVERHEAD_BYTES = 64 << 10
# The status of a message that is none: https://docs.nats.io/nats-concepts/jetstream/consumers, ADR-37 of
# nats-architecture-and-design.
_IDLE, _TIMEOUT, _NOTHING, _CONFLICT = "100", "408", "404", "409"
# A request that ended because what it asked for was delivered as far as it fits.
_REQUEST_ENDED = ("batch completed", "message size exceeds maxbytes")


class FeedLost(Exception):
    """The server or the connection has failed this feed, or somebody asked for another one."""


@dataclass(frozen=True)
class Delivered:
    """One message and where it stands: in its stream, in time (nanoseconds), and before how many others."""

    message: Msg
    sequence: int
    time_ns: int
    pending: int


# Makes the consumer of a feed, given its stream and settings, and says how many messages there are. Raises FeedLost, or
# as nats-py does.
MakeConsumer = Callable[[Client, str, ConsumerConfig], Awaitable[int]]


async def make_consumer(client: Client, stream: str, config: ConsumerConfig) -> int:
    """Make a consumer by oneself."""
    info = await client.jsm().add_consumer(stream, config)
    return (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)


def feed_consumer(name: str, filter: str, after: int) -> ConsumerConfig:
    """Settings of the consumer of a feed, which begins behind a sequence, 0 for everything that is stored."""
    config = ConsumerConfig(
        name=name,
        filter_subject=filter,
        ack_policy=AckPolicy.NONE,
        max_deliver=1,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=_INACTIVE_SECONDS,
    )
    # A bucket stores one message per key, so that all of them are the latest of each.
    if after:
        config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, after + 1
    return config


@dataclass(frozen=True)
class Api:
    """How JetStream is reached: under which prefix it answers, and how consumers are made."""

    prefix: str = "$JS.API"
    make: MakeConsumer = make_consumer


class Feed:
    """Opened once, read until FeedLost, closed.

    Asks for messages batch by batch: what waits for a slow reader waits in the stream, and not in the server's memory
    for the connection.
    """

    def __init__(self, client: Client, stream: str, filter: str, api: Api) -> None:
        self._client = client
        self._api = api
        self._stream = stream
        self._filter = filter
        self._inbox = client.new_inbox()
        self._name = self._inbox.rpartition(".")[2]
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._next_place = 1
        # Messages that the present request may still bring, and how many requests there were.
        self._requested = 0
        self._requests = 0
        self._subscription: Subscription | None = None

    def interrupt(self) -> None:
        """Have whoever reads get FeedLost after the messages that have arrived."""
        self._arrived.put_nowait(None)

    async def open(self, after: int) -> int:
        """Begin behind a sequence, 0 for everything that is stored; returns how many messages there are."""
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._arrived.put)
        return await self._api.make(self._client, self._stream, feed_consumer(self._name, self._filter, after))

    async def close(self) -> None:
        """Stop listening. The server forgets the consumer by itself."""
        if self._subscription and not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def next(self, patience_seconds: float) -> Delivered | None:
        """The next message, or None when the server says that it has no more at present.

        Raises FeedLost, also when the patience ends without either.
        """
        while True:
            if not self._requested:
                await self._request()
            message = await self._receive(patience_seconds)
            status = _status(message)
            if status is None:
                self._requested -= 1
                return self._placed(message)
            if message.subject != self._reply:
                continue
            if status == _IDLE:
                return None
            description = str((message.headers or {}).get("Description", ""))
            ended = status in (_TIMEOUT, _NOTHING) or description.lower().startswith(_REQUEST_ENDED)
            if not ended or self._has_lost(message):
                raise FeedLost(f"{status} {description}" if not ended else "messages are missing")
            self._requested = 0

    @property
    def _reply(self) -> str:
        # Another one for each request: the end of the last is told after its messages, when the next is under way.
        return f"{self._inbox}.{self._requests}"

    async def _request(self) -> None:
        self._requested = _BATCH_MESSAGES
        self._requests += 1
        request = {
            "batch": _BATCH_MESSAGES,
            # The server never ends a request that one message alone exceeds by anything but a refusal.
            "max_bytes": max(_BATCH_BYTES, self._client.max_payload + _OVERHEAD_BYTES),
            "expires": int(_REQUEST_SECONDS * 1e9),
            "idle_heartbeat": int(IDLE_HEARTBEAT_SECONDS * 1e9),
        }
        subject = f"{self._api.prefix}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._reply)

    def _has_lost(self, message: Msg) -> bool:
        """Whether the server has sent more of the request than has come."""
        undelivered = (message.headers or {}).get("Nats-Pending-Messages")
        return undelivered is not None and int(undelivered) != self._requested

    async def _receive(self, patience_seconds: float) -> Msg:
        if not self._arrived.empty():
            message = self._arrived.get_nowait()
        else:
            try:
                async with asyncio.timeout(min(patience_seconds, _PATIENCE_SECONDS)):
                    message = await self._arrived.get()
            except TimeoutError:
                raise FeedLost("the server is silent" if patience_seconds > _PATIENCE_SECONDS else "") from None
        if message is None:
            raise FeedLost
        return message

    def _placed(self, message: Msg) -> Delivered:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>, or the same
        # behind a domain and an account: ADR-15 of nats-architecture-and-design.
        tokens = message.reply.split(".")
        sequence, place, time_ns, pending = map(int, tokens[5:9] if len(tokens) == 9 else tokens[7:11])
        if place != self._next_place:
            raise FeedLost("messages are missing")
        self._next_place += 1
        return Delivered(message, sequence, time_ns, pending)


def _status(message: Msg) -> str | None:
    return str(message.headers.get(Header.STATUS) or "") or None if message.headers else None
