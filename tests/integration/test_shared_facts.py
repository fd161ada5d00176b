"""Facts are kept once for an artifact: nodes refer to them, and the status service joins both."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from libs.artifact import names
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, delete_key, put_if
from ome.fetch.v1.fetch_pb2 import GOAL_HOLD, Assignment, NodeModelState, SharedFacts
from ome.model.v1.model_pb2 import NODE_PHASE_READY, Artifact
from ome.parser.v1.parser_pb2 import ModelFacts
from services.controller.gateway.following import Followers
from services.controller.gateway.gateway import Gateway
from services.controller.streams import ensure_streams
from services.fetcher.fleet.gateway import Gateway as NodeGateway
from services.fetcher.fleet.shared_facts import Facts, FactsExchange
from services.status.observations import Listener, Observations
from tests.support.fetcher_node import PASSWORD, nats_configuration
from tests.support.nats_server import NatsServer

DIGEST = "sha256:" + "a" * 64
LLAMA = ModelFacts(model_type="llama")
DEADLINE_SECONDS = 20


@pytest.fixture
async def client(client: Client) -> Client:
    await ensure_streams(client.jetstream(), 1, 30)
    return client


class Heard:
    """The status service's observations, and whether anything has changed."""

    def __init__(self, client: Client) -> None:
        self.observations = Observations(60)
        self.models: list[str] = []
        self.nodes: list[str] = []
        self.left: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        listener = Listener(
            self._model,
            lambda uid: None,
            self._node,
            lambda node: None,
            lambda node, uid: None,
            copy_left=lambda node, uid: self.left.append((node, uid)),
        )
        self.task = asyncio.ensure_future(self.observations.run(client, listener))

    async def facts_are(self, expected: dict[str, str]) -> None:
        """Wait until each node's state of model "m" comes with facts of these model types."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self._types() != expected:
                self._changed.clear()
                await self._changed.wait()

    def _types(self) -> dict[str, str]:
        return {node: state.facts.model_type for node, state in self.observations.states_of_model("m").items()}

    def _model(self, uid: str) -> None:
        self.models.append(uid)
        self._changed.set()

    def _node(self, node: str) -> None:
        self.nodes.append(node)


def state(revision: int, key: str = "", facts: ModelFacts | None = None) -> bytes:
    return NodeModelState(
        phase=NODE_PHASE_READY,
        artifact=Artifact(digest=DIGEST),
        assignment_revision=revision,
        facts_key=key,
        facts=facts,
    ).SerializeToString()


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Connections of a driver in the account with JetStream, and of the status service in its own."""
    server = NatsServer(tmp_path, nats_configuration("n1"))
    await server.start()
    driver = await server.client(user="driver", password=PASSWORD)
    await ensure_streams(driver.jetstream(), 1, 30)
    await Followers(driver).open()
    status = await server.client(user="status", password=PASSWORD, inbox_prefix="_INBOX_status")
    yield driver, status
    await status.close()
    await driver.close()
    await server.stop()


async def test_states_are_joined_with_the_facts_that_they_refer_to_whichever_comes_first(
    accounts: tuple[Client, Client],
) -> None:
    driver, status = accounts
    js, heard, key = driver.jetstream(), Heard(status), names.facts_key(DIGEST, "", "1")
    await put_if(js, names.OBSERVED_BUCKET, "n1.m", state(1, key), None)
    await heard.facts_are({"n1": ""})

    await put_if(js, names.FACTS_BUCKET, key, SharedFacts(facts=LLAMA).SerializeToString(), None)
    await heard.facts_are({"n1": "llama"})
    assert heard.nodes.count("n1") == 2

    # One that was written before facts were shared has its own.
    await put_if(js, names.OBSERVED_BUCKET, "n2.m", state(2, key), None)
    await put_if(js, names.OBSERVED_BUCKET, "n3.m", state(3, facts=ModelFacts(model_type="own")), None)
    await heard.facts_are({"n1": "llama", "n2": "llama", "n3": "own"})
    states = heard.observations.states_of_model("m")
    assert states["n1"] is states["n2"]

    await delete_key(js, names.FACTS_BUCKET, key)
    await heard.facts_are({"n1": "", "n2": "", "n3": "own"})
    assert not heard.left

    await delete_key(js, names.OBSERVED_BUCKET, "n3.m")
    await heard.facts_are({"n1": "", "n2": ""})
    assert heard.left == [("n3", "m")]
    heard.task.cancel()
    await asyncio.gather(heard.task, return_exceptions=True)


async def test_facts_are_referred_to_only_when_they_are_stored(server: NatsServer, client: Client) -> None:
    js = client.jetstream()
    parses = 0
    hold = Assignment(goal=GOAL_HOLD, artifact=Artifact(digest=DIGEST)).SerializeToString()

    async def parse() -> ModelFacts:
        nonlocal parses
        parses += 1
        return LLAMA

    async def facts_on(node: str) -> Facts:
        await put_if(js, names.DESIRED_BUCKET, names.node_key(node, "m"), hold, None)
        async with connect_nats(
            server.url, Health(), "test", ca_file=server.authority, inbox_prefix=names.inbox_prefix(node)
        ) as own:
            return await FactsExchange(NodeGateway(own, node), node, "1").get(DIGEST, "", parse)

    opened = asyncio.Event()
    gateway = asyncio.ensure_future(Gateway(client, client).run(opened.set))
    await opened.wait()
    first, second = await facts_on("n1"), await facts_on("n2")
    assert (first.key, second.key, parses) == (names.facts_key(DIGEST, "", "1"),) * 2 + (1,)

    await js.delete_stream(f"KV_{names.FACTS_BUCKET}")
    alone = await facts_on("n3")
    assert (alone.key, alone.facts, parses) == ("", LLAMA, 2)
    gateway.cancel()
    await asyncio.gather(gateway, return_exceptions=True)
