"""A tenant names any origin: what it answers must not end what works for others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.nats_client import read_key
from libs.chassis.settings import load_settings
from ome.fetch.v1.fetch_pb2 import Resolution, ResolveTask, Source
from ome.model.v1 import model_pb2
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher import resolver
from tests.support.fetcher_node import PASSWORD, nats_configuration
from tests.support.nats_server import NatsServer

KEY = "victim.0000000000000000"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path, nats_configuration("node-1"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url, user="driver", password=PASSWORD)
    await ensure_streams(client.jetstream(), 1, 60)
    await ensure_pool(client.jetstream(), "default")
    yield client.jetstream()
    await client.close()


async def test_a_listing_that_ends_whoever_takes_it_is_given_up_and_told(
    server: NatsServer, js: JetStreamContext, tmp_path: Path
) -> None:
    task = ResolveTask(source_key=KEY, source=Source(uri="local:///nowhere"), attempt=3)
    task.model.uid = "victim"
    await js.publish(names.resolve_subject("default"), task.SerializeToString())
    pull = await js.pull_subscribe_bind("pool-default", stream=names.RESOLVE_STREAM)
    for _ in range(5):
        # As if whoever has taken it had ended.
        [message] = await pull.fetch(1, timeout=5)
        await message.nak()
    await pull.unsubscribe()

    (tmp_path / "password").write_text(PASSWORD)
    environ = {
        "OME_NATS_URL": server.url,
        "OME_NATS_PASSWORD_FILE": str(tmp_path / "password"),
        "OME_HTTP_PORT": "0",
    }
    stop = asyncio.Event()
    running = asyncio.create_task(resolver.main(load_settings(resolver.Settings, environ), stop))
    async with asyncio.timeout(20):
        while not (value := (await read_key(js, names.RESOLVED_BUCKET, KEY))[1]):
            await asyncio.sleep(0.05)
    stop.set()
    await running

    resolution = Resolution.FromString(value)
    assert (resolution.attempt, resolution.problem.reason) == (3, model_pb2.REASON_UNAVAILABLE)
    assert "perhaps it is too large" in resolution.problem.message
