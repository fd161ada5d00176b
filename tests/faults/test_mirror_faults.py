"""Mirrors of buckets larger than what nats-server keeps for a client, with slow readers, cut connections, and servers
that come back with an older store or without one."""

import asyncio
import random
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext, api

from libs.artifact import names
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, delete_key, put_if
from libs.chassis.nats_mirror import Mirror
from services.controller.streams import ensure_streams
from tests.support.nats_server import NatsServer, running_nats

BUCKET = names.DESIRED_BUCKET
STREAM = f"KV_{BUCKET}"
DEADLINE_SECONDS = 60
# More than the 64 MB that nats-server keeps for a client, in few messages.
KEYS, VALUE = 1600, bytes(60_000)
BUCKET_BYTES = 1 << 27
CUT_OFF = "Slow Consumer Detected"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path) as server:
        yield server


class Reader:
    """A mirror that runs, and what it has been through."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self.mirror: Mirror[bytes] = Mirror(BUCKET, bytes)
        self.changes: list[str] = []
        self.reconnects = 0
        self.blocked_every = 0
        self.client: Client
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "Reader":
        self._connection = connect_nats(
            self._server.url, Health(), "reader", ca_file=self._server.authority, on_reconnect=self._reconnected
        )
        self.client = await self._connection.__aenter__()
        self._task = asyncio.ensure_future(self.mirror.run(self.client, self._note))
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.__aexit__(None, None, None)

    async def until_changes(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.changes) < count:
                self._changed.clear()
                await self._changed.wait()

    async def until_equal(self, js: JetStreamContext) -> None:
        """Wait until the mirror holds what the bucket does."""
        expected = await contents(js)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while {key: entry.value for key, entry in self.mirror.entries.items()} != expected:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{sorted(self.mirror.entries)} instead of {sorted(expected)}") from None

    def _note(self, key: str) -> None:
        self.changes.append(key)
        self._changed.set()
        if self.blocked_every and len(self.changes) % self.blocked_every == 0:
            # Blocks the event loop, as work that takes long does.
            threading.Event().wait(0.1)

    def _reconnected(self) -> None:
        self.reconnects += 1
        self.mirror.reread()


async def fill(js: JetStreamContext, keys: int = KEYS, value: bytes = VALUE) -> None:
    for start in range(0, keys, 100):
        numbers = range(start, min(start + 100, keys))
        await asyncio.gather(*(put_if(js, BUCKET, f"n{number}.m", value, None) for number in numbers))


async def contents(js: JetStreamContext) -> dict[str, bytes]:
    """What a bucket holds, read key by key."""
    subjects = (await js.stream_info(STREAM, subjects_filter=">")).state.subjects or {}
    found = {}
    for subject in subjects:
        stored = await js.get_last_msg(STREAM, subject, direct=True)
        if "KV-Operation" not in (stored.headers or {}) and "Nats-Marker-Reason" not in (stored.headers or {}):
            found[subject.removeprefix(f"$KV.{BUCKET}.")] = stored.data or b""
    return found


async def test_consumer_that_pushes_without_bounds_is_cut_off_by_the_server(server: NatsServer) -> None:
    # What the mirror must not be: this proves that the bucket is large and the reader slow enough.
    health = Health()
    async with (
        connect_nats(server.url, health, "writer", ca_file=server.authority) as writer,
        connect_nats(server.url, health, "slow", ca_file=server.authority) as slow,
    ):
        await ensure_streams(writer.jetstream(), 1, 30, BUCKET_BYTES)
        await fill(writer.jetstream())
        inbox = slow.new_inbox()
        await slow.subscribe(inbox)
        await slow.flush()
        config = api.ConsumerConfig(deliver_subject=inbox, ack_policy=api.AckPolicy.NONE, mem_storage=True)
        await writer.jsm().add_consumer(STREAM, config)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while CUT_OFF not in server.log:
                threading.Event().wait(0.5)
                await asyncio.sleep(0)


async def test_bucket_larger_than_the_servers_buffer_is_read_by_a_reader_that_is_blocked_for_moments(
    server: NatsServer,
) -> None:
    async with connect_nats(server.url, Health(), "writer", ca_file=server.authority) as writer:
        await ensure_streams(writer.jetstream(), 1, 30, BUCKET_BYTES)
        await fill(writer.jetstream())
        reader = Reader(server)
        reader.blocked_every = 40
        async with reader, asyncio.timeout(DEADLINE_SECONDS):
            await reader.mirror.synced()
            assert len(reader.mirror.entries) == KEYS
            assert reader.reconnects == 0
    assert CUT_OFF not in server.log


async def test_reading_that_a_restart_interrupts_continues_where_it_stopped(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "writer", ca_file=server.authority) as writer:
        await ensure_streams(writer.jetstream(), 1, 30, BUCKET_BYTES)
        await fill(writer.jetstream())
        async with Reader(server) as reader:
            for part in (1, 2):
                await reader.until_changes(KEYS * part // 3)
                await server.kill()
                await server.start()
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while reader.reconnects < part:
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await reader.mirror.synced()
            assert len(reader.mirror.entries) == KEYS
            assert sorted(reader.changes) == sorted(reader.mirror.entries)
            # Two more batches than the bucket at most, and not the bucket three times.
            assert reader.client.stats["in_bytes"] < len(VALUE) * KEYS * 1.3


async def test_mirror_that_is_complete_reads_only_what_changed_after_a_restart(server: NatsServer) -> None:
    async with (
        connect_nats(server.url, Health(), "writer", ca_file=server.authority) as writer,
        Reader(server) as reader,
    ):
        js = writer.jetstream()
        await ensure_streams(js, 1, 30, BUCKET_BYTES)
        await fill(js, 200)
        await reader.until_equal(js)
        before = reader.client.stats["in_bytes"]
        await server.kill()
        await server.start()
        await put_if(js, BUCKET, "n1.m", b"changed", None)
        await delete_key(js, BUCKET, "n2.m")
        await reader.until_equal(js)
        assert reader.reconnects == 1
        assert reader.client.stats["in_bytes"] - before < 10 * len(VALUE)


async def test_keys_that_were_purged_without_markers_are_found_missing(server: NatsServer) -> None:
    async with (
        connect_nats(server.url, Health(), "writer", ca_file=server.authority) as writer,
        Reader(server) as reader,
    ):
        js = writer.jetstream()
        await ensure_streams(js, 1, 30, BUCKET_BYTES)
        await fill(js, 20, b"value")
        await reader.until_equal(js)
        await js.purge_stream(STREAM, subject=f"$KV.{BUCKET}.n7.m")
        reader.mirror.reread()
        await reader.until_equal(js)
        assert "n7.m" not in reader.mirror.entries


@pytest.mark.parametrize("seed", range(4))
async def test_mirror_equals_the_bucket_after_whatever_happens_to_the_server(
    server: NatsServer, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    backup, store = tmp_path / "backup", tmp_path / "jetstream"

    async def restart(restored: bool) -> None:
        await server.stop()
        if restored:
            shutil.rmtree(store)
            shutil.copytree(backup, store)
        else:
            shutil.rmtree(backup, ignore_errors=True)
            shutil.copytree(store, backup)
        await server.start()
        async with connect_nats(server.url, Health(), "other", ca_file=server.authority) as other:
            await change(other.jetstream())

    async def change(js: JetStreamContext) -> None:
        for _ in range(dice.randrange(12)):
            key = f"n{dice.randrange(12)}.m"
            match dice.randrange(5):
                case 0:
                    await delete_key(js, BUCKET, key)
                case 1:
                    # The server leaves a marker of its own when the time is over.
                    await js.publish(f"$KV.{BUCKET}.{key}", b"brief", headers={"Nats-TTL": "1s"})
                case _:
                    await put_if(js, BUCKET, key, dice.randbytes(8), None)

    async with (
        connect_nats(server.url, Health(), "writer", ca_file=server.authority) as writer,
        Reader(server) as reader,
    ):
        js = writer.jetstream()
        await ensure_streams(js, 1, 30, BUCKET_BYTES)
        events = ["restart", "restore", "restore", "recreate", "compare", "compare"]
        dice.shuffle(events)
        for event in ("restart", *events):
            match event:
                case "recreate":
                    await js.delete_stream(STREAM)
                    await ensure_streams(js, 1, 30, BUCKET_BYTES)
                    reader.mirror.reread()
                case "compare":
                    reader.mirror.reread()
                case _:
                    await restart(restored=event == "restore")
            await change(js)
        while any(value == b"brief" for value in (await contents(js)).values()):
            await asyncio.sleep(0.1)
        await reader.until_equal(js)
