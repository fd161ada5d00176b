"""A model of nats-server with one bucket, and connections to it that break and lose messages, for a clock that jumps.

Answers what a mirror asks of JetStream: the stream, one message, a consumer, the next messages. It keeps one message
per key, forgets consumers and requests when it restarts, and may come back with an older store or with an empty one.
"""

import asyncio
import copy
import fnmatch
import json
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import nats.errors
from nats.aio.client import Client, ServerVersion
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.chassis.nats_client import MARKER_SECONDS

QUICK_SECONDS = 0.01
# So few that every reading takes several requests.
_BATCH = 3
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_API_SUBJECT = re.compile(r"\$JS\.API\.(STREAM\.INFO|DIRECT\.GET|CONSUMER\.CREATE|CONSUMER\.MSG\.NEXT)\.([^.]+)\.?(.*)")


@dataclass(frozen=True)
class Stored:
    """A message of the stream."""

    sequence: int
    key: str
    data: bytes
    is_marker: bool
    written_at: datetime

    @property
    def headers(self) -> dict[str, str] | None:
        return {"KV-Operation": "PURGE"} if self.is_marker else None


@dataclass
class Store:
    """What lies on the server's disk."""

    created: datetime
    last: int = 0
    messages: dict[str, Stored] = field(default_factory=dict)


@dataclass
class _Consumer:
    filter: str
    after: int
    place: int = 0


class BucketServer:
    """The server. What is written to it comes from elsewhere, and is there at once."""

    def __init__(self, bucket: str) -> None:
        self.stream = f"KV_{bucket}"
        self.prefix = f"$KV.{bucket}."
        self.links: list[Link] = []
        self._written_at = _EPOCH
        self._store = Store(_EPOCH)
        self._backup = copy.deepcopy(self._store)
        self._consumers: dict[str, _Consumer] = {}
        self._changed = asyncio.Event()

    def contents(self) -> dict[str, tuple[int, bytes]]:
        """Revision and value of each key."""
        return {key: (each.sequence, each.data) for key, each in self._store.messages.items() if not each.is_marker}

    def put(self, key: str, data: bytes) -> int:
        """Write a value; returns its revision."""
        return self._write(key, data, is_marker=False)

    def delete(self, key: str) -> None:
        """Write a marker of deletion, as far as there is something to delete."""
        if key in self.contents():
            self._write(key, b"", is_marker=True)

    def purge(self, key: str) -> None:
        """Take a key without a trace, as a person with nats-cli may."""
        self._store.messages.pop(key, None)

    def expire_markers(self) -> None:
        """Forget the markers whose time is over."""
        now = self._now()
        for key, each in list(self._store.messages.items()):
            if each.is_marker and now - each.written_at >= timedelta(seconds=MARKER_SECONDS):
                del self._store.messages[key]

    def back_up(self) -> None:
        """Keep a copy of the store."""
        self._backup = copy.deepcopy(self._store)

    def restart(self, restored: bool = False) -> None:
        """Forget consumers and requests; with `restored` the store is that of the last copy."""
        if restored:
            self._store = copy.deepcopy(self._backup)
        self._consumers.clear()

    def recreate(self) -> None:
        """Make the stream anew, empty. Whoever waits for messages is told."""
        self._store = Store(self._now())
        for link in self.links:
            link.end_requests({"Status": "409", "Description": "Consumer Deleted"})
        self._consumers.clear()

    def answer(self, subject: str, payload: bytes) -> tuple[bytes, dict[str, str] | None] | None:
        """The answer to a request; None when nobody answers."""
        self.expire_markers()
        matched = _API_SUBJECT.fullmatch(subject)
        assert matched, subject
        verb, stream, rest = matched.groups()
        assert stream == self.stream
        match verb:
            case "STREAM.INFO":
                return json.dumps(self._info()).encode(), None
            case "DIRECT.GET":
                return self._message(json.loads(payload)["seq"])
            case "CONSUMER.CREATE":
                return json.dumps(self._consumer(rest.partition(".")[0], json.loads(payload)["config"])).encode(), None
        return None

    async def serve(self, link: "Link", subject: str, reply: str, payload: bytes) -> None:
        """Send the messages that a request asks for, until it is answered in full or has expired."""
        name = subject.rpartition(".")[2]
        consumer = self._consumers.get(name)
        request, loop = json.loads(payload), asyncio.get_running_loop()
        expires, idle = loop.time() + request["expires"] / 1e9, request["idle_heartbeat"] / 1e9
        left, sent = request["batch"], 0
        while consumer and self._consumers.get(name) is consumer:
            waiting = self._behind(consumer)
            if waiting:
                stored = waiting[0]
                consumer.after, consumer.place, left, sent = stored.sequence, consumer.place + 1, left - 1, sent + 1
                time_ns = round((stored.written_at - _EPOCH).total_seconds() * 1e9) + round(_EPOCH.timestamp()) * 10**9
                place = f"$JS.ACK.s.c.1.{stored.sequence}.{consumer.place}.{time_ns}.{len(waiting) - 1}"
                await link.deliver(self.prefix + stored.key, place, stored.data, stored.headers, to=reply)
                if sent == _BATCH:
                    ended = {"Status": "409", "Description": "Message Size Exceeds MaxBytes"}
                    await link.deliver(reply, "", b"", ended | {"Nats-Pending-Messages": str(left)}, to=reply)
                    return
                await asyncio.sleep(0)
                continue
            if loop.time() >= expires:
                ended = {"Status": "408", "Description": "Request Timeout", "Nats-Pending-Messages": str(left)}
                await link.deliver(reply, "", b"", ended, to=reply)
                return
            try:
                async with asyncio.timeout_at(min(expires, loop.time() + idle)):
                    await self._changed.wait()
            except TimeoutError:
                if loop.time() < expires:
                    await link.deliver(reply, "", b"", {"Status": "100", "Description": "Idle Heartbeat"}, to=reply)

    def _behind(self, consumer: _Consumer) -> list[Stored]:
        """The messages that a consumer has yet to send, in order."""
        found = [
            each
            for each in self._store.messages.values()
            if each.sequence > consumer.after and fnmatch.fnmatch(self.prefix + each.key, consumer.filter)
        ]
        return sorted(found, key=lambda each: each.sequence)

    def _write(self, key: str, data: bytes, is_marker: bool) -> int:
        store = self._store
        store.last += 1
        store.messages[key] = Stored(store.last, key, data, is_marker, self._now())
        self._changed.set()
        self._changed = asyncio.Event()
        return store.last

    def _now(self) -> datetime:
        """The time, later at every call by more than a mirror takes for the same time."""
        now = _EPOCH + timedelta(seconds=asyncio.get_running_loop().time())
        self._written_at = max(now, self._written_at + timedelta(milliseconds=2))
        return self._written_at

    def _info(self) -> dict[str, Any]:
        sequences = [each.sequence for each in self._store.messages.values()]
        state = {"messages": len(sequences), "bytes": 0, "consumer_count": 0, "last_seq": self._store.last}
        state["first_seq"] = min(sequences, default=self._store.last + 1)
        return {"config": {"name": self.stream}, "state": state, "created": _stamp(self._store.created)}

    def _message(self, sequence: int) -> tuple[bytes, dict[str, str]]:
        for each in self._store.messages.values():
            if each.sequence == sequence:
                headers = {"Nats-Subject": self.prefix + each.key, "Nats-Sequence": str(sequence)}
                return each.data or b"-", headers | {"Nats-Time-Stamp": _stamp(each.written_at)}
        return b"", {"Status": "404", "Description": "Message Not Found"}

    def _consumer(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        after = int(config.get("opt_start_seq") or 1) - 1
        consumer = self._consumers[name] = _Consumer(config["filter_subject"].replace(">", "*"), after)
        delivered = {"consumer_seq": 0, "stream_seq": after}
        about = {"name": name, "stream_name": self.stream, "created": _stamp(self._now()), "config": config}
        return about | {"delivered": delivered, "num_pending": len(self._behind(consumer))}


class Link(Client):
    """A client's connection. While it is cut, nothing arrives, and what the client sends waits."""

    def __init__(self, server: BucketServer) -> None:
        # What the client's own initialiser sets up is what is replaced here.
        self._bucket_server = server
        self._listeners: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self._inboxes = 0
        self._up = asyncio.Event()
        self._up.set()
        # What is on its way to the server, and what the server sends, by where it goes.
        self._sending: set[asyncio.Task[None]] = set()
        self._serving: dict[asyncio.Task[None], str] = {}
        self._losses = 0
        server.links.append(self)

    @property
    def is_closed(self) -> bool:
        return False

    @property
    def max_payload(self) -> int:
        return 1 << 20

    @property
    def connected_server_version(self) -> ServerVersion:
        return ServerVersion("2.12.0")

    def cut(self) -> None:
        """Break the connection. The server forgets the requests that stand."""
        self._up.clear()
        self._stop_serving()

    def mend(self) -> None:
        """Connect again."""
        self._up.set()

    def lose(self, messages: int) -> None:
        """Have so many of the next messages not arrive."""
        self._losses += messages

    def end_requests(self, headers: dict[str, str]) -> None:
        """Tell whoever waits for messages that he waits in vain."""
        replies = list(self._serving.values())
        self._stop_serving()
        for reply in replies:
            self._serve(self.deliver(reply, "", b"", headers, to=reply), reply)

    async def deliver(self, subject: str, reply: str, data: bytes, headers: dict[str, str] | None, to: str) -> None:
        """Have a message arrive for whoever listens on the subject that it is sent to."""
        if not self._up.is_set():
            return
        if self._losses:
            self._losses -= 1
            return
        for pattern, listener in list(self._listeners.items()):
            if fnmatch.fnmatch(to, pattern):
                await listener(Msg(self, subject, reply, data, headers))

    async def close(self) -> None:
        """End what the server does for this connection."""
        self._stop_serving()
        for task in self._sending:
            task.cancel()

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{id(self)}.{self._inboxes}"

    async def subscribe(self, subject: str, *_: Any, **options: Any) -> Subscription:
        self._listeners[subject] = options["cb"]
        return _Listening(self._listeners, subject)

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, Any] | None = None
    ) -> None:
        task = asyncio.ensure_future(self._send(subject, reply, payload))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
                await asyncio.sleep(QUICK_SECONDS)
                answer = self._bucket_server.answer(subject, payload)
                await asyncio.sleep(QUICK_SECONDS)
                if answer is None or self._losses or not self._up.is_set():
                    self._losses = max(0, self._losses - 1)
                    await asyncio.Event().wait()
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        data, told = cast(tuple[bytes, dict[str, str] | None], answer)
        return Msg(self, "", "", data, told)

    async def _send(self, subject: str, reply: str, payload: bytes) -> None:
        await self._up.wait()
        await asyncio.sleep(QUICK_SECONDS)
        if self._up.is_set():
            self._serve(self._bucket_server.serve(self, subject, reply, payload), reply)

    def _serve(self, work: Coroutine[Any, Any, None], reply: str) -> None:
        task = asyncio.ensure_future(work)
        self._serving[task] = reply
        task.add_done_callback(lambda ended: self._serving.pop(ended, None))

    def _stop_serving(self) -> None:
        for task in list(self._serving):
            task.cancel()
        self._serving.clear()


class _Listening(Subscription):
    def __init__(self, listeners: dict[str, Callable[[Msg], Awaitable[None]]], subject: str) -> None:
        self._listeners = listeners
        self._pattern = subject

    async def unsubscribe(self, limit: int = 0) -> None:
        self._listeners.pop(self._pattern, None)


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
