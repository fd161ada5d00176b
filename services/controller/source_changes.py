"""Hears from the status service that a hub has announced a change, and has the models that follow it look at once.

Whoever says so is believed no further than that: a listing tells what there is, and listings has its own pace for them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact import names
from ome.fetch.v1 import fetch_pb2

# As the status service reads them out of an event.
_REPOSITORY_CHARACTERS, _MOST_REVISIONS = 200, 64
# Of the time: each announcement costs a look at all models.
_SHARE = 0.1
# What waits to be looked at; an announcement has some hundred bytes.
_PENDING_BYTES = 1 << 20


class SourceChangesServer:
    """Answers on every replica: also one that does not lead yet remembers what was announced."""

    def __init__(self, changed: Callable[[str, Sequence[str]], int]) -> None:
        """changed gets a repository and what has changed of it, and returns how many models follow that."""
        self._changed = changed

    async def serve(self, client: Client) -> None:
        """Answer from now on."""
        await client.subscribe(names.SOURCE_CHANGED_SUBJECT, cb=self._answer, pending_bytes_limit=_PENDING_BYTES)

    async def _answer(self, message: Msg) -> None:
        try:
            said = fetch_pb2.SourceChanged.FromString(message.data)
        except DecodeError:
            return
        too_much = len(said.repository) > _REPOSITORY_CHARACTERS or len(said.revisions) > _MOST_REVISIONS
        if too_much or not message.reply:
            return
        started = time.monotonic()
        models = self._changed(said.repository, said.revisions)
        spent = time.monotonic() - started
        await message.respond(fetch_pb2.SourceChangedReply(models=models).SerializeToString())
        # Whoever announces without end, as a status service that was taken over may, keeps nothing else waiting.
        await asyncio.sleep(spent * (1 / _SHARE - 1))
