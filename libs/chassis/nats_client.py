"""NATS for every service: one connection that never gives up, mirrors of key-value buckets, compare-and-set writes.

Owns the exceptions of nats-py on these paths. Must not know what the buckets hold.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import nats
import nats.errors
import nats.js.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from libs.chassis.errors import Conflict, Missing, Unavailable
from libs.chassis.health import Health

V = TypeVar("V")

CHECK = "nats"
_CONNECT_TIMEOUT_SECONDS = 5
_RECONNECT_WAIT_SECONDS = 0.25
# The server sends a heartbeat on an idle consumer at this interval; two missing ones mean that it has lost us.
_IDLE_HEARTBEAT_SECONDS = 5.0
# The server forgets the consumer of a mirror that went away after this time.
_CONSUMER_INACTIVE_SECONDS = 30.0
_REREAD_SECONDS = 300.0
_RETRY_SECONDS = 0.5
# JSStreamWrongLastSequenceErrF and JSStreamWrongLastSequenceConstantErr of nats-server's errors.json.
_WRONG_LAST_SEQUENCE = (10071, 10164)
# Of markers that a client and, since 2.11, the server leave where a key was.
_MARKER_HEADERS = {"KV-Operation", "Nats-Marker-Reason"}
_MARKER_TTL = "1h"
_EXPECTED = str(api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)
_log = structlog.get_logger()


class _PersistentClient(Client):
    """A client that reconnects after every error of the server.

    nats-py closes for good when the server refuses a connection. But a refusal passes: the one who answers for our
    identity may be away for a moment, as after a restart of the server.
    """

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))


@asynccontextmanager
async def connect_nats(
    url: str,
    health: Health,
    name: str,
    *,
    user: str = "",
    password_file: Path | None = None,
    token_file: Path | None = None,
    ca_file: Path | None = None,
    inbox_prefix: str = "_INBOX",
    on_reconnect: Callable[[], None] | None = None,
) -> AsyncIterator[Client]:
    """Connect, and stay connected until the block ends.

    Secrets are read from their files at every attempt, so that a rotated one is picked up. Waits for the first
    connection as long as it takes; the health check "nats" says why there is none.
    """
    health.declare(CHECK, "not connected yet")
    client = _PersistentClient()

    async def disconnected() -> None:
        health.fail(CHECK, "connection lost")

    async def reconnected() -> None:
        _log.info("nats_reconnected")
        health.ok(CHECK)
        if on_reconnect:
            on_reconnect()

    async def failed(error: Exception) -> None:
        # Permission denials reach us only here, so this must be visible.
        _log.warning("nats_error", error=f"{type(error).__name__}: {error}")

    options: dict[str, Any] = {
        "servers": [url],
        "name": name,
        "user": user or None,
        "password": (lambda: password_file.read_text().strip()) if password_file else None,
        "token": (lambda: token_file.read_text().strip()) if token_file else None,
        "tls": ssl.create_default_context(cafile=str(ca_file)) if ca_file else None,
        "inbox_prefix": inbox_prefix,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_WAIT_SECONDS,
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "disconnected_cb": disconnected,
        "reconnected_cb": reconnected,
        "error_cb": failed,
    }
    while True:
        try:
            await client.connect(**options)
            break
        except (TimeoutError, nats.errors.Error, OSError) as error:
            why = f"{type(error).__name__}: {error}"
            if health.failures.get(CHECK) != why:
                _log.warning("nats_unreachable", error=why)
            health.fail(CHECK, why)
            client = _PersistentClient()
            await asyncio.sleep(_RETRY_SECONDS)
    health.ok(CHECK)
    try:
        yield client
    finally:
        await client.close()


@dataclass(frozen=True)
class Entry(Generic[V]):
    """One value of a bucket and its revision, the sequence number that a compare-and-set names."""

    revision: int
    value: V


class Mirror(Generic[V]):
    """A copy of the keys of a bucket that match a filter, kept current by a push consumer of its own.

    Everything is read again at the start, after a reconnect, when heartbeats stay away or a message is missing, and
    every few minutes: a consumer can lag behind for seconds after a server restart. The consumer is created under a
    subject that holds its filter, which is what a server's permissions can be set on.
    """

    def __init__(
        self, bucket: str, decode: Callable[[bytes], V], filter: str = ">", reread_seconds: float = _REREAD_SECONDS
    ) -> None:
        self.bucket = bucket
        self.entries: dict[str, Entry[V]] = {}
        self._decode = decode
        self._prefix = f"$KV.{bucket}."
        self._filter = filter
        self._reread_seconds = reread_seconds
        self._synced = asyncio.Event()
        self._reread = asyncio.Event()

    async def synced(self) -> None:
        """Wait until the whole bucket has been read once."""
        await self._synced.wait()

    def reread(self) -> None:
        """Ask for everything to be read again, as after a reconnect."""
        self._reread.set()

    def get(self, key: str) -> V | None:
        """The value of a key, or None."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def revision(self, key: str) -> int:
        """The revision of a key; 0 when it has none, as put_if takes it."""
        entry = self.entries.get(key)
        return entry.revision if entry else 0

    def remember(self, key: str, revision: int, value: V | None) -> None:
        """Take note of a write of our own before its echo comes; value is None for a deletion."""
        if value is None:
            self.entries.pop(key, None)
        elif revision > self.revision(key):
            self.entries[key] = Entry(revision, value)

    async def run(self, client: Client, on_change: Callable[[str], None]) -> None:
        """Keep the copy current until cancelled; on_change is called for every key that is new, changed or gone."""
        while True:
            self._reread.clear()
            try:
                await self._follow(client, on_change)
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
                # The bucket may not exist yet, or the server may be away: what is known stays known meanwhile.
                _log.info("mirror_interrupted", bucket=self.bucket, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self, client: Client, on_change: Callable[[str], None]) -> None:
        messages: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=messages.put)
        try:
            info = await client.jsm().add_consumer(
                f"KV_{self.bucket}",
                api.ConsumerConfig(
                    name=inbox.rpartition(".")[2],
                    filter_subject=self._prefix + self._filter,
                    deliver_subject=inbox,
                    deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
                    ack_policy=api.AckPolicy.NONE,
                    max_deliver=1,
                    mem_storage=True,
                    num_replicas=1,
                    idle_heartbeat=_IDLE_HEARTBEAT_SECONDS,
                    inactive_threshold=_CONSUMER_INACTIVE_SECONDS,
                ),
            )
            await self._consume(messages, (info.num_pending or 0) + _delivered(info), on_change)
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()

    async def _consume(self, messages: "asyncio.Queue[Msg]", initial: int, on_change: Callable[[str], None]) -> None:
        stale = set(self.entries)
        expected = 1
        deadline = time.monotonic() + self._reread_seconds
        complete = False
        while True:
            if not complete and initial == 0:
                complete = True
                for key in stale:
                    del self.entries[key]
                    on_change(key)
                self._synced.set()
            message = await self._next(messages, deadline)
            if message is None:
                return
            if _place(message, expected) != expected:
                _log.warning("mirror_missed_messages", bucket=self.bucket)
                return
            if _is_heartbeat(message):
                continue
            metadata = message.metadata
            expected += 1
            key = message.subject.removeprefix(self._prefix)
            # A server that came back with an older store counts from there: what it has now is what there is.
            self._take(key, message, metadata.sequence.stream, on_change, anew=key in stale)
            stale.discard(key)
            if not complete:
                initial = metadata.num_pending

    async def _next(self, messages: "asyncio.Queue[Msg]", deadline: float) -> Msg | None:
        """The next message, or None when everything should be read again."""
        if not messages.empty() and not self._reread.is_set() and time.monotonic() < deadline:
            return messages.get_nowait()
        waiting = asyncio.ensure_future(messages.get())
        asked = asyncio.ensure_future(self._reread.wait())
        timeout = min(2.5 * _IDLE_HEARTBEAT_SECONDS, max(0.0, deadline - time.monotonic()))
        try:
            await asyncio.wait([waiting, asked], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() or not waiting.done():
                return None
            return waiting.result()
        finally:
            waiting.cancel()
            asked.cancel()

    def _take(self, key: str, message: Msg, revision: int, on_change: Callable[[str], None], anew: bool) -> None:
        known = self.entries.get(key)
        headers = message.headers or {}
        if _MARKER_HEADERS & set(headers):
            if known:
                del self.entries[key]
                on_change(key)
            return
        if known and (known.revision == revision if anew else known.revision >= revision):
            return
        try:
            value = self._decode(message.data)
        except DecodeError as error:
            # One malformed value must not blind us to the others: it counts as absent until it is written again.
            _log.error("mirror_value_malformed", bucket=self.bucket, key=key, error=str(error))
            if known:
                del self.entries[key]
                on_change(key)
            return
        self.entries[key] = Entry(revision, value)
        on_change(key)


def _is_heartbeat(message: Msg) -> bool:
    return bool(message.headers and message.headers.get(api.Header.STATUS))


def _place(message: Msg, expected: int) -> int:
    """Where a message stands among those of its consumer; a heartbeat stands after the last that was sent.

    So a message that is lost and has no successor shows as well.
    """
    if not _is_heartbeat(message):
        return int(message.metadata.sequence.consumer)
    return int((message.headers or {}).get(api.Header.LAST_CONSUMER, expected - 1)) + 1


def _delivered(info: api.ConsumerInfo) -> int:
    return info.delivered.consumer_seq if info.delivered else 0


async def put_if(js: JetStreamContext, bucket: str, key: str, value: bytes, last_revision: int | None) -> int:
    """Write a key and return its new revision.

    With last_revision the write happens only if that is still the key's revision, 0 meaning that the key has none;
    with None it happens in any case. Raises Conflict when the key has changed, Unavailable when there is no answer.
    """
    try:
        return await _publish(js, bucket, key, value, _expecting(last_revision))
    except Conflict:
        if last_revision != 0:
            raise
        # A marker may stand where the key was: then it still counts as having none.
        marker, present = await read_key(js, bucket, key)
        if present is not None:
            raise
    return await _publish(js, bucket, key, value, _expecting(marker))


def _expecting(revision: int | None) -> dict[str, str] | None:
    return None if revision is None else {_EXPECTED: str(revision)}


async def read_key(js: JetStreamContext, bucket: str, key: str) -> tuple[int, bytes | None]:
    """The revision of a key, as put_if takes it, and its value; None where it has none, 0 where it never had one.

    A deleted key has the revision of the marker that stands in its place. Raises Unavailable.
    """
    try:
        last = await js.get_last_msg(f"KV_{bucket}", f"$KV.{bucket}.{key}", direct=True)
    except nats.js.errors.NotFoundError:
        return 0, None
    except (TimeoutError, nats.errors.Error, nats.js.errors.Error) as error:
        raise Unavailable("Unavailable", f"NATS did not answer for {bucket}/{key}: {type(error).__name__}") from error
    is_marker = bool(_MARKER_HEADERS & set(last.headers or {}))
    return last.seq or 0, None if is_marker else last.data or b""


async def delete_key(js: JetStreamContext, bucket: str, key: str, last_revision: int | None = None) -> None:
    """Delete a key and its history, leaving a marker. Raises as put_if does."""
    headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": _MARKER_TTL}
    if last_revision is not None:
        headers[_EXPECTED] = str(last_revision)
    await _publish(js, bucket, key, b"", headers)


async def publish_once(js: JetStreamContext, subject: str, value: bytes, message_id: str) -> None:
    """Store a message in the stream of a subject; the server drops a repetition of message_id within its window.

    Raises Missing when no stream takes the subject, Unavailable when the server refuses or does not answer.
    """
    try:
        await _store(js, subject, value, {api.Header.MSG_ID: message_id})
    except nats.js.errors.APIError as error:
        raise Unavailable("Unavailable", f"NATS refused to take {subject}: {error.description}") from error


async def _publish(js: JetStreamContext, bucket: str, key: str, value: bytes, headers: dict[str, str] | None) -> int:
    try:
        return await _store(js, f"$KV.{bucket}.{key}", value, headers)
    except nats.js.errors.APIError as error:
        if error.err_code in _WRONG_LAST_SEQUENCE:
            raise Conflict("Conflict", f"{bucket}/{key} has changed meanwhile") from error
        raise Unavailable("Unavailable", f"NATS refused to write {bucket}/{key}: {error.description}") from error


async def _store(js: JetStreamContext, subject: str, value: bytes, headers: dict[str, str] | None) -> int:
    try:
        acknowledgement = await js.publish(subject, value, headers=headers)
    except nats.js.errors.APIError:
        raise
    except nats.js.errors.NoStreamResponseError as error:
        raise Missing("NotFound", f"no stream takes {subject}, or writing to it is not permitted") from error
    except (TimeoutError, nats.errors.Error, nats.js.errors.Error) as error:
        raise Unavailable("Unavailable", f"NATS did not acknowledge {subject}: {type(error).__name__}") from error
    return acknowledgement.seq
