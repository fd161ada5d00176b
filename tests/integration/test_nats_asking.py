"""A question to one of several replicas is answered although one of them hangs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_asking import ask
from libs.chassis.nats_client import connect_nats
from ome.fetch.v1.fetch_pb2 import ListingQuery, ListingReply
from tests.support.nats_server import NatsServer, running_nats

SUBJECT = "questions"
PLENTY_SECONDS = 30.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path) as server:
        yield server


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    async with connect_nats(server.url, Health(), "asking", ca_file=server.authority) as client:
        yield client


@pytest.fixture
async def hanging(server: NatsServer) -> AsyncIterator[list[Msg]]:
    """What was asked of a replica that answers nothing."""
    asked: list[Msg] = []

    async def hang(message: Msg) -> None:
        asked.append(message)

    async with connect_nats(server.url, Health(), "hanging", ca_file=server.authority) as replica:
        await replica.subscribe(SUBJECT, queue="replicas", cb=hang)
        await replica.flush()
        yield asked


async def answer(message: Msg) -> None:
    query = ListingQuery.FromString(message.data)
    await message.respond(ListingReply(withdrawn=query.source_key == "old").SerializeToString())


async def test_the_other_replica_answers(server: NatsServer, client: Client, hanging: list[Msg]) -> None:
    async with connect_nats(server.url, Health(), "answering", ca_file=server.authority) as replica:
        await replica.subscribe(SUBJECT, queue="replicas", cb=answer)
        await replica.flush()
        while not hanging:
            query = ListingQuery(source_key="old")
            reply = await ask(client, SUBJECT, query, ListingReply, PLENTY_SECONDS, again_seconds=0.05)
            assert reply.withdrawn


async def test_what_costs_much_is_asked_once(client: Client, hanging: list[Msg]) -> None:
    with pytest.raises(Unavailable, match="nobody plans: TimeoutError"):
        await ask(client, SUBJECT, ListingQuery(), ListingReply, 0.5, again_seconds=None, unanswered="nobody plans")
    assert len(hanging) == 1


async def test_nobody_asks_on_once_the_time_is_over(client: Client, hanging: list[Msg]) -> None:
    with pytest.raises(Unavailable, match="no controller answers: TimeoutError"):
        await ask(client, SUBJECT, ListingQuery(), ListingReply, 0.5, again_seconds=0.1)
    asked = len(hanging)
    assert asked > 1
    with pytest.raises(Unavailable):
        await ask(client, SUBJECT, ListingQuery(), ListingReply, 0.5, again_seconds=None)
    assert len(hanging) == asked + 1


async def test_where_nobody_listens_nobody_waits(client: Client) -> None:
    with pytest.raises(Unavailable, match="no controller answers: NoRespondersError"):
        await ask(client, SUBJECT, ListingQuery(), ListingReply, PLENTY_SECONDS)


async def test_nonsense_is_no_answer(server: NatsServer, client: Client) -> None:
    async def talk(message: Msg) -> None:
        await message.respond(b"\xff")

    async with connect_nats(server.url, Health(), "talking", ca_file=server.authority) as replica:
        await replica.subscribe(SUBJECT, queue="replicas", cb=talk)
        await replica.flush()
        with pytest.raises(Unavailable, match="no controller answers: DecodeError"):
            await ask(client, SUBJECT, ListingQuery(), ListingReply, PLENTY_SECONDS)
