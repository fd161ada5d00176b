"""Asks a service, one of whose replicas answers.

Owns the exceptions of nats-py on this path. Must not ask again once the time is over: whoever asks knows what for.
"""

import asyncio
from typing import TypeVar

import nats.errors
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable

# NATS gives a question to any of those that share a subject, and one of them may hang until it is killed.
AGAIN_SECONDS = 1.5

R = TypeVar("R", bound=Message)


async def ask(
    client: Client,
    subject: str,
    request: Message,
    reply: type[R],
    timeout_seconds: float,
    again_seconds: float | None = AGAIN_SECONDS,
    unanswered: str = "no controller answers",
) -> R:
    """The first answer, whatever it says. Raises Unavailable when there is none in time.

    While there is none the question is sent again after again_seconds, and then each time after twice as long, perhaps
    to another replica; None is for what costs too much to be worked on twice. unanswered begins the sentence of the
    error.
    """
    try:
        message = await first_answer(client, subject, request.SerializeToString(), timeout_seconds, again_seconds)
        return reply.FromString(message.data)
    except (TimeoutError, nats.errors.Error, DecodeError) as error:
        raise Unavailable(Reason.UNAVAILABLE, f"{unanswered}: {type(error).__name__}") from error


async def first_answer(
    client: Client, subject: str, payload: bytes, timeout_seconds: float, again_seconds: float | None
) -> Msg:
    """The first message that comes in answer, as for ask. Raises an error of nats-py, or TimeoutError."""
    now = asyncio.get_running_loop().time
    end = now() + timeout_seconds
    asked: set[asyncio.Task[Msg]] = set()
    try:
        while True:
            left = max(end - now(), 0)
            asked.add(asyncio.create_task(client.request(subject, payload, timeout=left)))
            answered, _ = await asyncio.wait(asked, timeout=again_seconds, return_when=asyncio.FIRST_COMPLETED)
            if answered:
                return answered.pop().result()
            # All may be slow rather than one of them hang: what is asked twice takes them twice the time.
            again_seconds = again_seconds and 2 * again_seconds
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
