"""A tenant names any origin, any path and any folder: what others have stays theirs, and goes on to work."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.nats_client import read_key
from libs.chassis.settings import load_settings
from ome.fetch.v1.fetch_pb2 import NodeModelState, Resolution, ResolveTask, Source
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, Artifact
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher import resolver
from tests.support.fetcher_node import PASSWORD, Driver, FetcherNode, connected_driver, nats_configuration
from tests.support.hub import Hub, generated_model
from tests.support.nats_server import NatsServer
from tests.support.origin import OriginServer

KEY = "victim.0000000000000000"
NODE, URI = "node-1", "hf://org/model"
SECRET_MODEL, THIEF = "victim", "thief"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path, nats_configuration(NODE))
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


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(real_model=False) as hub:
        files = {"config.json": '{"model_type": "llama"}'}
        hub.add_model("org/model", files, generated=generated_model(8 << 20, 2))
        hub.forget_requests()
        yield hub


@pytest.fixture
async def driver(server: NatsServer) -> AsyncIterator[Driver]:
    async with connected_driver(server, NODE) as driver:
        yield driver


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    node = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint})
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        print(node.log)


async def hold_a_secret_model(driver: Driver, path: str = "/models/victim") -> Artifact:
    """Somebody else's model, on the node and Ready."""
    artifact = await driver.artifact(URI)
    revision = await driver.hold(SECRET_MODEL, URI, artifact, path, namespace="theirs", trust_scopes=["theirs"])
    await driver.state(SECRET_MODEL, NODE_PHASE_READY, revision)
    return artifact


def is_refused(state: NodeModelState) -> bool:
    """Whether the node says that it does not bring a model about, and shows nothing of it."""
    return state.HasField("problem") and state.phase == NODE_PHASE_FAILED


async def test_a_hub_that_lists_only_checksums_gets_nobodys_files(node: FetcherNode, driver: Driver) -> None:
    artifact = await hold_a_secret_model(driver)
    with OriginServer() as empty:
        revision = await driver.hold(
            THIEF,
            URI,
            artifact,
            "/models/thief",
            {"endpoint": empty.url},
            namespace="ours",
            trust_scopes=["ours"],
        )
        state = await driver.state(THIEF, lambda state: is_refused(state) or state.phase == NODE_PHASE_READY, revision)
    assert is_refused(state), "it is Ready with files of somebody else"
    assert not os.path.lexists(node.path("/models/thief"))


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
