"""Answers what comes on a subject, each message in a task of its own, until cancelled.

Owns the end: a message that comes while a replica stops goes to another one, or is asked again. Must not decide how
many are worked on at a time, nor what the answer is.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

Answer = Callable[[Msg], Coroutine[Any, Any, None]]


async def answer_each(client: Client, subject: str, queue: str, answer: Answer) -> None:
    """Run answer for each message, sharing them with others of the queue; what is under way ends with a cancellation.

    An exception of answer ends all of it, and is raised.
    """
    async with asyncio.TaskGroup() as group:
        ending = False

        async def begin(message: Msg) -> None:
            # A group that ends takes no more tasks.
            if not ending:
                group.create_task(answer(message))

        subscription = await client.subscribe(subject, queue=queue, cb=begin)
        try:
            await asyncio.Event().wait()
        finally:
            ending = True
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
