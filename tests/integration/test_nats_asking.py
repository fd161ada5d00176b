"""A question to one of several replicas is answered although one of them hangs, and a dead server is noticed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.names import FACTS, MANIFEST, OBSERVED, SNAPSHOT, node_subject
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_asking import ask
from libs.chassis.nats_client import connect_nats
from ome.fetch.v1.fetch_pb2 import ListingQuery, ListingReply
from services.fetcher.fleet.gateway import Gateway
from tests.support.nats_server import NatsServer

SUBJECT = "questions"
PLENTY_SECONDS = 30.0
# More than a busy machine takes to hear what was asked.
GIVEN_UP_SECONDS = 3.0


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
        await ask(
            client,
            SUBJECT,
            ListingQuery(),
            ListingReply,
            GIVEN_UP_SECONDS,
            again_seconds=None,
            unanswered="nobody plans",
        )
    assert len(hanging) == 1


async def test_nobody_asks_on_once_the_time_is_over(client: Client, hanging: list[Msg]) -> None:
    with pytest.raises(Unavailable, match="no controller answers: TimeoutError"):
        await ask(client, SUBJECT, ListingQuery(source_key="again"), ListingReply, GIVEN_UP_SECONDS, again_seconds=0.1)
    assert len(hanging) > 1
    with pytest.raises(Unavailable):
        await ask(client, SUBJECT, ListingQuery(source_key="once"), ListingReply, GIVEN_UP_SECONDS, again_seconds=None)
    assert [ListingQuery.FromString(each.data).source_key for each in hanging].count("once") == 1
    assert ListingQuery.FromString(hanging[-1].data).source_key == "once"


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


@pytest.mark.parametrize(("verb", "again"), [(SNAPSHOT, True), (MANIFEST, True), (OBSERVED, False), (FACTS, False)])
async def test_a_node_asks_another_gateway_where_nothing_is_written(
    server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch, verb: str, again: bool
) -> None:
    monkeypatch.setattr("services.fetcher.fleet.gateway._AGAIN_SECONDS", 0.05)
    asked: list[Msg] = []

    async def hang(message: Msg) -> None:
        asked.append(message)

    async with connect_nats(server.url, Health(), "hanging", ca_file=server.authority) as replica:
        await replica.subscribe(node_subject("node-1", verb), queue="replicas", cb=hang)
        await replica.flush()
        with pytest.raises(Unavailable, match=f"no gateway answers .{verb}.: TimeoutError"):
            await Gateway(client, "node-1").ask(verb, ListingQuery(), ListingReply, timeout_seconds=GIVEN_UP_SECONDS)
    assert (len(asked) > 1) is again


async def test_a_server_that_has_died_without_a_word_is_noticed(server: NatsServer) -> None:
    lost, back = Health(), asyncio.Event()
    async with connect_nats(
        server.url, lost, "waiting", ca_file=server.authority, on_reconnect=back.set, ping_seconds=0.2
    ):
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PLENTY_SECONDS):
                while lost.ready:
                    await asyncio.sleep(0.05)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        async with asyncio.timeout(PLENTY_SECONDS):
            await back.wait()
        assert lost.ready
