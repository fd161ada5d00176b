"""The mirror of a bucket and compare-and-set writes, against a real nats-server that is killed and restarted."""

import asyncio

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from libs.artifact import names
from libs.chassis.errors import Conflict
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, delete_key, put_if
from libs.chassis.nats_mirror import Mirror
from services.controller.streams import ensure_pool, ensure_streams, keep_streams
from tests.support.nats_server import NatsServer

BUCKET = names.DESIRED_BUCKET
DEADLINE_SECONDS = 20


class Watched:
    """A mirror that runs, and the changes that it has told of."""

    def __init__(self, client: Client, pattern: str = ">") -> None:
        self.mirror: Mirror[bytes] = Mirror(BUCKET, bytes, pattern)
        self.changes: list[str] = []
        self._changed = asyncio.Event()
        self.task = asyncio.ensure_future(self.mirror.run(client, self._note))

    def _note(self, key: str) -> None:
        self.changes.append(key)
        self._changed.set()

    async def holds(self, expected: dict[str, bytes]) -> None:
        """Wait until the mirror holds exactly this."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.mirror.synced()
            while {key: entry.value for key, entry in self.mirror.entries.items()} != expected:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_mirror_holds_what_was_there_before_and_follows_changes_and_deletions(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        await put_if(js, BUCKET, "n1.a", b"1", None)
        await put_if(js, BUCKET, "n2.a", b"other", None)
        watched = Watched(client, "n1.>")
        await watched.holds({"n1.a": b"1"})
        await put_if(js, BUCKET, "n1.b", b"2", 0)
        await watched.holds({"n1.a": b"1", "n1.b": b"2"})
        await delete_key(js, BUCKET, "n1.a")
        await watched.holds({"n1.b": b"2"})
        assert watched.changes == ["n1.a", "n1.b", "n1.a"]
        await watched.stop()


async def test_mirror_of_an_empty_bucket_is_synced_at_once(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        await ensure_streams(client.jetstream(), 1, 30)
        watched = Watched(client)
        await watched.holds({})
        await watched.stop()


async def test_write_is_refused_when_the_key_has_changed_meanwhile(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        revision = await put_if(js, BUCKET, "n1.a", b"1", 0)
        with pytest.raises(Conflict):
            await put_if(js, BUCKET, "n1.a", b"2", 0)
        later = await put_if(js, BUCKET, "n1.a", b"2", revision)
        with pytest.raises(Conflict):
            await put_if(js, BUCKET, "n1.a", b"3", revision)
        await delete_key(js, BUCKET, "n1.a", later)
        assert await put_if(js, BUCKET, "n1.a", b"4", 0) > later


async def test_mirror_finds_what_changed_while_the_server_was_away(server: NatsServer) -> None:
    health = Health()
    watched: list[Watched] = []

    def reread() -> None:
        for one in watched:
            one.mirror.reread()

    async with connect_nats(server.url, health, "test", ca_file=server.authority, on_reconnect=reread) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        await put_if(js, BUCKET, "n1.a", b"1", None)
        await put_if(js, BUCKET, "n1.b", b"1", None)
        watched.append(Watched(client))
        await watched[0].holds({"n1.a": b"1", "n1.b": b"1"})
        await server.kill()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while health.ready:
                await asyncio.sleep(0.01)
        await server.start()
        async with connect_nats(server.url, Health(), "other", ca_file=server.authority) as other:
            await put_if(other.jetstream(), BUCKET, "n1.a", b"2", None)
            await delete_key(other.jetstream(), BUCKET, "n1.b")
        await watched[0].holds({"n1.a": b"2"})
        await watched[0].stop()


async def test_streams_and_pools_can_be_ensured_again_with_other_settings(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        await ensure_streams(js, 1, 60)
        await ensure_pool(js, "default")
        await ensure_pool(js, "default")
        info = await js.stream_info(f"KV_{names.NODES_BUCKET}")
        assert info.config.max_age == 60
        assert (
            await js.consumer_info(names.RESOLVE_STREAM, "pool-default")
        ).config.filter_subject == "ome.resolve.default"


async def test_what_a_server_lost_is_lost_for_the_mirror_too(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        for value in (b"1", b"2", b"3"):
            await put_if(js, BUCKET, "n1.a", value, None)
        watched = Watched(client)
        await watched.holds({"n1.a": b"3"})

        await js.delete_stream(f"KV_{BUCKET}")
        await ensure_streams(js, 1, 30)
        await put_if(js, BUCKET, "n1.a", b"older", None)
        watched.mirror.reread()

        await watched.holds({"n1.a": b"older"})
        assert watched.mirror.entries["n1.a"].revision == 1
        await watched.stop()


async def test_another_value_at_the_same_revision_of_a_stream_made_anew_is_seen(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        await put_if(js, BUCKET, "n1.a", b"before", None)
        await put_if(js, BUCKET, "n1.b", b"same", None)
        watched = Watched(client)
        await watched.holds({"n1.a": b"before", "n1.b": b"same"})
        watched.changes.clear()

        await js.delete_stream(f"KV_{BUCKET}")
        await ensure_streams(js, 1, 30)
        await put_if(js, BUCKET, "n1.a", b"after", None)
        await put_if(js, BUCKET, "n1.b", b"same", None)
        watched.mirror.reread()

        await watched.holds({"n1.a": b"after", "n1.b": b"same"})
        assert watched.changes == ["n1.a"]
        await watched.stop()


async def test_streams_that_a_server_lost_are_made_again(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        reconnected, ensured = asyncio.Event(), asyncio.Event()

        async def ensure() -> None:
            await ensure_streams(js, 1, 30)
            ensured.set()

        keeping = asyncio.ensure_future(keep_streams(ensure, reconnected, 600))
        reconnected.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ensured.wait()
        await js.stream_info(f"KV_{BUCKET}")
        assert not keeping.done()
        keeping.cancel()


async def test_many_small_values_are_read_without_interruption(server: NatsServer) -> None:
    async with connect_nats(server.url, Health(), "test", ca_file=server.authority) as client:
        js = client.jetstream()
        await ensure_streams(js, 1, 30)
        # More than three batches, and one that ends with the bucket.
        for count in (1000, 700):
            await asyncio.gather(*(put_if(js, BUCKET, f"n{number}.m", b"1", None) for number in range(count)))
        with capture_logs() as logs:
            watched = Watched(client)
            await watched.holds({f"n{number}.m": b"1" for number in range(1000)})
            await put_if(js, BUCKET, "n0.m", b"2", None)
            await watched.holds({f"n{number}.m": b"1" for number in range(1000)} | {"n0.m": b"2"})
            await watched.stop()
        assert logs == []
        assert len(watched.changes) == 1001
