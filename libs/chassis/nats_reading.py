"""Reads many keys of a bucket in one go: one question to the server, an answer for each key, and one that ends them.

Needs nats-server 2.11. Must not know what the buckets hold.
"""

import asyncio
import json
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_client import MARKER_HEADERS

# What the message behind the last one says, and the only one where nothing matches: ADR-31 of
# nats-architecture-and-design. By the same status, another description says that a value could not be read.
_END, _NOTHING = "204", ("404", "No Results")


@dataclass(frozen=True)
class Page:
    """Values by key, keys that were deleted, up to which sequence they were read, and whether more are behind that."""

    values: dict[str, bytes]
    gone: list[str]
    sequence: int
    more: bool


async def read_page(
    client: Client, bucket: str, keys: str, after: int, most_bytes: int, timeout_seconds: float
) -> Page:
    """The values of the keys that match a filter and were written behind a sequence, the oldest first.

    Ends behind the value that reaches `most_bytes`. A key that is written while pages are read comes again on a later
    one. Raises Unavailable, also when more keys match than the server looks up at a time, or when we may not ask.
    """
    prefix, answers = f"$KV.{bucket}.", _Answers()
    inbox = client.new_inbox()
    request = {"multi_last": [prefix + keys], "seq": after + 1, "max_bytes": most_bytes}
    try:
        subscription = await client.subscribe(inbox, cb=answers.take)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.KV_{bucket}", json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(timeout_seconds):
                end = await answers.end
        finally:
            await subscription.unsubscribe()
    except (TimeoutError, nats.errors.Error) as error:
        raise Unavailable(Reason.UNAVAILABLE, f"NATS did not answer for {bucket}: {type(error).__name__}") from error
    status, headers = _status(end), end.headers or {}
    if (status, headers.get(Header.DESCRIPTION)) == _NOTHING:
        return Page({}, [], after, more=False)
    if status != _END:
        raise Unavailable(Reason.UNAVAILABLE, f"NATS does not list {bucket}: {status}")
    values: dict[str, bytes] = {}
    gone: list[str] = []
    for message in answers.messages:
        stored = message.headers or {}
        key = stored.get("Nats-Subject", "").removeprefix(prefix)
        if MARKER_HEADERS.isdisjoint(stored):
            values[key] = message.data
        else:
            gone.append(key)
    return Page(
        values, gone, int(headers.get("Nats-Last-Sequence", after)), int(headers.get("Nats-Num-Pending", 0)) > 0
    )


class _Answers:
    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.end: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def take(self, message: Msg) -> None:
        if _status(message) is None:
            self.messages.append(message)
        elif not self.end.done():
            self.end.set_result(message)


def _status(message: Msg) -> str | None:
    # A stored message has no status.
    return str((message.headers or {}).get(Header.STATUS) or "") or None
