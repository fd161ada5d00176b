"""Reads the keys of a bucket below a prefix by one question, piece by piece.

nats-server answers it since 2.11 ("batched direct get", ADR-31 of nats-architecture-and-design). Owns the exceptions of
nats-py on this path. Must not know what the buckets hold.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.chassis.nats_client import MARKER_HEADERS

# As many keys as the server gives at the most.
_MOST_KEYS = 1024
_STATUS = str(api.Header.STATUS.value)
_SUBJECT, _SEQUENCE, _PENDING = "Nats-Subject", "Nats-Sequence", "Nats-Num-Pending"
_END, _NOTHING = "204", "404"


@dataclass(frozen=True)
class Piece:
    """Keys and their values in the order in which they were written; up to which revision, and whether there are more.

    Keys that were deleted are not among them.
    """

    values: tuple[tuple[str, bytes], ...]
    revision: int
    more: bool


async def read_below(
    client: Client, bucket: str, prefix: str, after: int, most_bytes: int, timeout_seconds: float
) -> Piece:
    """The values of the keys `<prefix>.…` that were written after a revision, of about most_bytes together.

    Raises Unavailable when the server does not answer in time, or says that there are more than 1,024 such keys.
    """
    below = f"$KV.{bucket}."
    question = {
        "multi_last": [f"{below}{prefix}.>"],
        "seq": after + 1,
        "batch": _MOST_KEYS,
        "max_bytes": most_bytes,
    }
    values: list[tuple[str, bytes]] = []
    revision = after
    ended: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def heard(message: Msg) -> None:
        nonlocal revision
        headers = message.headers or {}
        if _STATUS in headers:
            if not ended.done():
                ended.set_result(headers)
            return
        revision = int(headers[_SEQUENCE])
        if not MARKER_HEADERS & headers.keys():
            values.append((headers[_SUBJECT].removeprefix(below), message.data))

    try:
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=heard)
        try:
            async with asyncio.timeout(timeout_seconds):
                await client.publish(f"$JS.API.DIRECT.GET.KV_{bucket}", json.dumps(question).encode(), reply=inbox)
                headers = await ended
        finally:
            await subscription.unsubscribe()
    except (TimeoutError, nats.errors.Error) as error:
        raise Unavailable(
            Reason.UNAVAILABLE, f"NATS did not answer for {bucket}/{prefix}: {type(error).__name__}"
        ) from error
    if headers[_STATUS] not in (_END, _NOTHING):
        said = headers.get(api.Header.DESCRIPTION, "")
        raise Unavailable(Reason.UNAVAILABLE, f"NATS does not read {bucket}/{prefix}: {headers[_STATUS]} {said}")
    return Piece(tuple(values), revision, headers[_STATUS] == _END and int(headers.get(_PENDING, "0")) > 0)
