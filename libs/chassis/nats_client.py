"""NATS for every service: one connection that never gives up, and compare-and-set writes. Mirrors are in nats_mirror.

Owns the exceptions of nats-py on these paths. Must not know what the buckets hold.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Missing, Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_pacing import PacedFlushes

CHECK = "nats"
_CONNECT_TIMEOUT_SECONDS = 5
_RECONNECT_WAIT_SECONDS = 0.25
_RETRY_SECONDS = 0.5
_CLOSE_SECONDS = 2.0
_LOOK_SECONDS = 0.05
# Begins the subjects of what is stored in buckets.
_STORED = "$KV."
# nats-py would notice after six minutes that nobody is there any more.
_PING_SECONDS = 15.0
# JSStreamWrongLastSequenceErrF and JSStreamWrongLastSequenceConstantErr of nats-server's errors.json.
_WRONG_LAST_SEQUENCE = (10071, 10164)
# Of markers that a client and, since 2.11, the server leave where a key was.
MARKER_HEADERS = frozenset({"KV-Operation", "Nats-Marker-Reason"})
# Markers disappear after this time; who was away for longer cannot tell from them what was deleted.
MARKER_SECONDS = 3600.0
_EXPECTED = str(api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value)
_log = structlog.get_logger()


class OrderedClient(Client):
    """A client whose flush() says that the server has taken all that was sent before, and fails without a connection.

    A cancellation reaches whoever publishes, also while much waits to be sent.

    Overrides private methods. Remove when nats-py writes a ping behind what waits, and not past it, does not call
    flushed what it keeps until it is connected again, and swallows no cancellation.
    """

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:
        """Wait until the server has taken what was sent. Raises an error of nats-py."""
        if not (self.is_connected or self.is_closed):
            raise nats.errors.ConnectionReconnectingError
        await super().flush(timeout)

    async def _send_ping(self, future: "asyncio.Future[bool] | None" = None) -> None:
        if self._transport and self._pending:
            self._transport.writelines(self._pending)
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        written = await super()._flush_pending(force_flush)
        if task and task.cancelling() > cancellations:
            raise asyncio.CancelledError
        return written


class _PersistentClient(OrderedClient):
    """A client that reconnects after every error of the server, and writes what is published closely together at once.

    nats-py closes for good when the server refuses a connection. But a refusal passes: the one who answers for our
    identity may be away for a moment, as after a restart of the server. And it writes as often as its loop turns, each
    message as a TLS record. From a server that has died without a word it parts as from one that listens, and an
    attempt to reconnect that got halfway stays open.

    Overrides private methods and calls others. Remove when nats-py has an option to reconnect after refusals, sends
    nothing when it closes without a connection, aborts a connection that is stale or half made, and can gather what it
    writes.
    """

    def __init__(self) -> None:
        super().__init__()
        # The server ended the last connection because its time was over.
        self.expired = False
        self._requests = 0

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            self.expired = "authentication expired" in err_msg.lower()
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))

    async def _process_op_err(self, e: Exception) -> None:
        if isinstance(e, nats.errors.StaleConnectionError):
            # nats-py says goodbye by TLS first, and asyncio waits half a minute for an answer from nobody.
            self.abort()
        await super()._process_op_err(e)

    async def _connect_to_server(self, s: Any) -> None:
        self.abort()
        await super()._connect_to_server(s)

    def abort(self) -> None:
        """Close the transport without a goodbye. Idempotent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _process_connect_init(self) -> None:
        # Wishes of before a reconnect stay: whoever waits for one is answered by the next flusher.
        if not isinstance(self._flush_queue, PacedFlushes):
            self._flush_queue = PacedFlushes(self._join_pending)
        await super()._process_connect_init()

    async def _request_new_style(
        self, subject: str, payload: bytes, timeout: float = 1, headers: dict[str, Any] | None = None
    ) -> Msg:
        # nats-py draws two random words for each request. All answers go to one inbox with a random name of its own,
        # in which a number tells one from the other.
        if self.is_draining_pubs:
            raise nats.errors.ConnectionDrainingError
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        self._requests += 1
        number, prefix = str(self._requests), bytes(self._resp_sub_prefix or b"").decode()
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._resp_map[number] = answer
        try:
            async with asyncio.timeout(timeout):
                if subject.startswith(_STORED):
                    # What nats-py keeps until it is connected would be stored after whoever wrote it was told that
                    # nobody has answered, and over what is newer.
                    await self._connected()
                await self.publish(subject, payload, reply=prefix + number, headers=headers)
                return await answer
        except TimeoutError as error:
            raise nats.errors.TimeoutError from error
        finally:
            self._resp_map.pop(number, None)

    async def _connected(self) -> None:
        while self.is_reconnecting:
            await asyncio.sleep(_LOOK_SECONDS)

    def _join_pending(self) -> None:
        # asyncio makes a TLS record of each piece, and the server reads, routes and answers record by record.
        if len(self._pending) > 1:
            self._pending = [b"".join(self._pending)]

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if not self.is_connected:
            # nats-py would send what waits to whoever is there, with or without a handshake.
            self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)


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
    check: str = CHECK,
    on_reconnect: Callable[[], None] | None = None,
    on_renewal: Callable[[], None] | None = None,
    ping_seconds: float = _PING_SECONDS,
) -> AsyncIterator[Client]:
    """Connect, and stay connected until the block ends.

    Secrets are read from their files at every attempt, so that a rotated one is picked up. Waits for the first
    connection as long as it takes; the health check says why there is none. With `tls://` or ca_file not a byte is sent
    before the handshake: a server, or whoever stands in its place, cannot talk us out of it.

    A server that answers no ping for two or three times ping_seconds is taken for lost, as after its machine has died.

    The server ends a session whose time is over; on_renewal is called instead of on_reconnect when that was the reason,
    as nothing can have been lost then but messages of a moment.
    """
    health.declare(check, "not connected yet")
    client = _PersistentClient()

    async def disconnected() -> None:
        if not client.expired:
            health.fail(check, "connection lost")

    async def reconnected() -> None:
        renewed, client.expired = client.expired, False
        _log.info("nats_session_renewed" if renewed else "nats_reconnected")
        health.ok(check)
        callback = on_renewal if renewed and on_renewal else on_reconnect
        if callback:
            callback()

    async def failed(error: Exception) -> None:
        # Permission denials reach us only here, so this must be visible.
        _log.warning("nats_error", error=f"{type(error).__name__}: {error}")
        if not client.is_connected:
            # Also after a session that was over and is not renewed.
            health.fail(check, f"connection lost: {error}")

    with_tls = ca_file is not None or url.startswith("tls://")
    options: dict[str, Any] = {
        "servers": [url],
        "name": name,
        "user": user or None,
        "password": (lambda: password_file.read_text().strip()) if password_file else None,
        "token": (lambda: token_file.read_text().strip()) if token_file else None,
        "tls": ssl.create_default_context(cafile=str(ca_file) if ca_file else None) if with_tls else None,
        # Otherwise nats-py leaves it to the first line of the server whether there is to be TLS.
        "tls_handshake_first": with_tls,
        "inbox_prefix": inbox_prefix,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_WAIT_SECONDS,
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "ping_interval": ping_seconds,
        "max_outstanding_pings": 2,
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
            if health.failures.get(check) != why:
                _log.warning("nats_unreachable", error=why)
            health.fail(check, why)
            client = _PersistentClient()
            await asyncio.sleep(_RETRY_SECONDS)
    health.ok(check)
    try:
        yield client
    finally:
        await _close(client)


async def _close(client: _PersistentClient) -> None:
    try:
        # nats-py waits for the end of its transport, which never comes after a handshake that failed: whoever stands in
        # the server's place could keep us from ending.
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
    except TimeoutError:
        _log.warning("nats_not_closed")
        client.abort()
        # The transport closes its socket at the loop's next turn.
        await asyncio.sleep(0)


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
        raise Unavailable(
            Reason.UNAVAILABLE, f"NATS did not answer for {bucket}/{key}: {type(error).__name__}"
        ) from error
    is_marker = bool(MARKER_HEADERS & set(last.headers or {}))
    return last.seq or 0, None if is_marker else last.data or b""


async def delete_key(js: JetStreamContext, bucket: str, key: str, last_revision: int | None = None) -> None:
    """Delete a key and its history, leaving a marker. Raises as put_if does."""
    headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{MARKER_SECONDS:.0f}s"}
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
        raise Unavailable(Reason.UNAVAILABLE, f"NATS refused to take {subject}: {error.description}") from error


async def _publish(js: JetStreamContext, bucket: str, key: str, value: bytes, headers: dict[str, str] | None) -> int:
    try:
        return await _store(js, f"$KV.{bucket}.{key}", value, headers)
    except nats.js.errors.APIError as error:
        if error.err_code in _WRONG_LAST_SEQUENCE:
            raise Conflict(Reason.CONFLICT, f"{bucket}/{key} has changed meanwhile") from error
        raise Unavailable(Reason.UNAVAILABLE, f"NATS refused to write {bucket}/{key}: {error.description}") from error


async def _store(js: JetStreamContext, subject: str, value: bytes, headers: dict[str, str] | None) -> int:
    try:
        acknowledgement = await js.publish(subject, value, headers=headers)
    except nats.js.errors.APIError:
        raise
    except nats.js.errors.NoStreamResponseError as error:
        raise Missing(Reason.NOT_FOUND, f"no stream takes {subject}, or writing to it is not permitted") from error
    except (TimeoutError, nats.errors.Error, nats.js.errors.Error) as error:
        raise Unavailable(Reason.UNAVAILABLE, f"NATS did not acknowledge {subject}: {type(error).__name__}") from error
    return acknowledgement.seq
