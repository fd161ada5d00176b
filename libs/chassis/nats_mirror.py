"""Mirrors of key-value buckets: a copy that is complete, current, and never older than what it has shown.

Decides when a copy can be continued and when everything must be read again. Must not know what the buckets hold.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import nats.errors
import nats.js.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client

from libs.chassis.nats_client import MARKER_HEADERS, MARKER_SECONDS
from libs.chassis.nats_feed import Api, Delivered, Feed, FeedLost

V = TypeVar("V")

# How often a copy is compared with the stream although nothing has happened.
_COMPARE_SECONDS = 300.0
# After the first interruption, and after many in a row: a server that is too busy to answer gets no more to do for it.
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.5, 30.0
# Messages by which a stream is recognised; those that another has replaced since cannot be asked for.
_REMEMBERED_MESSAGES = 256
# The time of a message comes in nanoseconds with it, and in another form when it is asked for.
_SAME_TIME_SECONDS = 0.001
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """One value of a bucket and its revision, the sequence number that a compare-and-set names."""

    revision: int
    value: V


class Mirror(Generic[V]):
    """A copy of the keys of a bucket that match a filter, kept current by a consumer of its own.

    It continues where it stopped after a reconnect, when the server falls silent or a message is missing, and every few
    minutes, if the stream still is what it was. A stream that was made anew or came back with an older store is read
    again from its beginning, as is one whose markers of deletion may have expired meanwhile.
    """

    def __init__(
        self,
        bucket: str,
        decode: Callable[[bytes], V],
        filter: str = ">",
        compare_seconds: float = _COMPARE_SECONDS,
        api: Api | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bucket = bucket
        self.entries: dict[str, Entry[V]] = {}
        self._decode = decode
        self._prefix = f"$KV.{bucket}."
        self._filter = filter
        self._api = api or Api()
        self._compare_seconds = compare_seconds
        self._clock = clock
        self._synced = asyncio.Event()
        self._feed: Feed | None = None
        self._interruptions = 0
        self._asked = asyncio.Event()
        # Keys that the current reading of everything has not come across yet; None when nothing is being read so.
        self._unconfirmed: set[str] | None = None
        # Keys that changed after the message at which the present reading continues. What replaced each must come if
        # the stream still is what it was: a restored store may have undone the change and stored others behind it.
        self._expected: set[str] = set()
        self._created: datetime | None = None
        # Sequence, subject and time of the last messages, by which an older store is told from ours.
        self._seen: deque[tuple[int, str, int]] = deque(maxlen=_REMEMBERED_MESSAGES)
        self._current_at = 0.0
        # How far the stream went when the present reading began, and up to where it has been read to its end.
        self._began_at = self._read_to = 0

    async def synced(self) -> None:
        """Wait until the whole bucket has been read once."""
        await self._synced.wait()

    def reread(self) -> None:
        """Ask for what may have been missed to be read, as after a reconnect."""
        self._asked.set()
        if self._feed:
            self._feed.interrupt()

    @property
    def epoch(self) -> str:
        """Names the stream that was read last: revisions of two streams cannot be compared."""
        return self._created.isoformat() if self._created else ""

    @property
    def whole(self) -> bool:
        """Whether all entries are of the stream that epoch names.

        Not while everything is being read again, when some may be of the stream that was lost.
        """
        return self._synced.is_set() and self._unconfirmed is None

    @property
    def sequence(self) -> int:
        """Up to which revision the stream was read; the last ones may be of messages and markers that are gone."""
        return max(self._seen[-1][0] if self._seen else 0, self._read_to)

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
            if self._unconfirmed is not None:
                self._unconfirmed.discard(key)

    async def run(self, client: Client, on_change: Callable[[str], None]) -> None:
        """Keep the copy current until cancelled; on_change is called for every key that is new, changed or gone."""
        while True:
            try:
                await self._follow(client, on_change)
            except FeedLost as lost:
                if str(lost):
                    _log.warning("mirror_interrupted", bucket=self.bucket, error=str(lost))
                    await self._pause()
            except (nats.js.errors.NotFoundError, nats.js.errors.ServiceUnavailableError) as error:
                # The bucket may not exist yet, or JetStream has yet to start: soon it will.
                _log.info("mirror_interrupted", bucket=self.bucket, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
                # What is known stays known meanwhile.
                _log.info("mirror_interrupted", bucket=self.bucket, error=f"{type(error).__name__}: {error}")
                await self._pause()

    async def _pause(self) -> None:
        """Wait the longer the more interruptions there were in a row, or until somebody asks for a look."""
        self._interruptions += 1
        longest = min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2.0 ** min(self._interruptions - 1, 10))
        self._asked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):
                await self._asked.wait()

    async def _follow(self, client: Client, on_change: Callable[[str], None]) -> None:
        self._feed = Feed(client, f"KV_{self.bucket}", self._prefix + self._filter, self._api)
        after = await self._confirmed_sequence(client)
        if not after:
            self._unconfirmed, self._current_at = set(self.entries), self._clock()
        try:
            pending = await self._feed.open(after)
            await self._consume(self._feed, pending, on_change)
        finally:
            await self._feed.close()

    async def _confirmed_sequence(self, client: Client) -> int:
        """The sequence up to which the stream is what we have read; 0 when everything must be read again."""
        info = await client.jsm(prefix=self._api.prefix).stream_info(f"KV_{self.bucket}")
        known = self._created == info.created and self._seen and info.state.last_seq >= self._seen[-1][0]
        # Each key that we know has a message, besides markers: somebody may have purged the stream.
        whole = self._unconfirmed is not None or info.state.messages >= len(self.entries)
        self._created, self._began_at = info.created, info.state.last_seq
        if known and whole and self._clock() - self._current_at < MARKER_SECONDS / 2:
            for sequence, subject, time_ns in self._witnesses():
                try:
                    stored = await client.jsm(prefix=self._api.prefix).get_msg(
                        f"KV_{self.bucket}", seq=sequence, direct=True
                    )
                except nats.js.errors.NotFoundError:
                    # Something later has replaced it, in this history or in another one.
                    continue
                same_time = stored.time and abs(stored.time.timestamp() - time_ns / 1e9) < _SAME_TIME_SECONDS
                if stored.subject == subject and same_time:
                    self._expect_changes_after(sequence)
                    return sequence
                break
        self._seen.clear()
        self._expected.clear()
        self._read_to = 0
        return 0

    def _expect_changes_after(self, sequence: int) -> None:
        self._expected.update(subject.removeprefix(self._prefix) for seen, subject, _ in self._seen if seen > sequence)
        self._expected.update(key for key, entry in self.entries.items() if entry.revision > sequence)

    def _witnesses(self) -> Iterator[tuple[int, str, int]]:
        """The last message, and ever older ones at growing distances."""
        distance = 1
        while distance <= len(self._seen):
            yield self._seen[-distance]
            distance *= 2

    async def _consume(self, feed: Feed, pending: int, on_change: Callable[[str], None]) -> None:
        # A little off, so that a thousand mirrors that began in one moment do not compare in one.
        compare_at = self._clock() + self._compare_seconds * random.uniform(0.75, 1.25)
        idle = pending == 0
        while True:
            if idle:
                self._complete(on_change)
            delivered = await feed.next(compare_at - self._clock())
            if delivered is None:
                idle = True
                continue
            self._take(delivered, on_change)
            idle = delivered.pending == 0
            if self._clock() >= compare_at:
                raise FeedLost

    def _complete(self, on_change: Callable[[str], None]) -> None:
        """The server has nothing that we have not read: what was not come across is gone.

        Raises FeedLost when it has another history than the one that was read, to have everything read again.
        """
        if self._expected:
            self._seen.clear()
            raise FeedLost("changes that were read have been undone")
        gone, self._unconfirmed = self._unconfirmed or (), None
        self._read_to = self._began_at
        for key in gone:
            if self.entries.pop(key, None):
                on_change(key)
        self._current_at, self._interruptions = self._clock(), 0
        self._synced.set()

    def _take(self, delivered: Delivered, on_change: Callable[[str], None]) -> None:
        message = delivered.message
        key = message.subject.removeprefix(self._prefix)
        known = self.entries.get(key)
        self._seen.append((delivered.sequence, message.subject, delivered.time_ns))
        self._expected.discard(key)
        # A server that came back with an older store counts from there: what it has now is what there is.
        anew = self._unconfirmed is not None and key in self._unconfirmed
        if anew and self._unconfirmed is not None:
            self._unconfirmed.discard(key)
        if message.headers and not MARKER_HEADERS.isdisjoint(message.headers):
            if known and (anew or known.revision < delivered.sequence):
                del self.entries[key]
                on_change(key)
            return
        if known and not anew and known.revision >= delivered.sequence:
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
        self.entries[key] = Entry(delivered.sequence, value)
        # The same revision of another stream says nothing.
        if not (known and known.revision == delivered.sequence and known.value == value):
            on_change(key)
