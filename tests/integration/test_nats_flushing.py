"""What a connection to NATS writes is gathered, and yet in order, and known to be taken where that is asked."""

import asyncio
import os
import signal

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError

from libs.artifact.names import OBSERVED_BUCKET
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, put_if, read_key
from services.controller.streams import ensure_streams
from tests.support.nats_server import NatsServer

DEADLINE_SECONDS = 20


async def test_a_subscription_that_was_flushed_hears_what_another_connection_says(
    server: NatsServer, client: Client
) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    async with connect_nats(server.url, Health(), "other", ca_file=server.authority) as other:
        for number in range(50):
            # The first one begins the time in which what follows is gathered.
            await client.publish("anything")
            await client.subscribe(f"said.{number}", cb=heard.put)
            await client.flush()
            await other.publish(f"said.{number}", b"word")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await heard.get()).subject == f"said.{number}"


async def test_messages_come_in_the_order_in_which_they_were_published(client: Client) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe("said", cb=heard.put)
    for number in range(200):
        await client.publish("said", str(number).encode())
        if number % 7 == 0:
            await client.flush()
    async with asyncio.timeout(DEADLINE_SECONDS):
        numbers = [int((await heard.get()).data) for _ in range(200)]

    assert numbers == list(range(200))


async def test_each_of_many_requests_gets_its_own_answer_and_a_late_one_goes_to_nobody(client: Client) -> None:
    late: asyncio.Queue[Msg] = asyncio.Queue()

    async def answer(message: Msg) -> None:
        if message.data == b"late":
            late.put_nowait(message)
        else:
            await message.respond(b"to " + message.data)

    await client.subscribe("asked", cb=answer)
    with pytest.raises(nats.errors.TimeoutError):
        await client.request("asked", b"late", timeout=0.05)
    requests = (client.request("asked", str(number).encode(), timeout=DEADLINE_SECONDS) for number in range(100))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await (await late.get()).respond(b"too late")

    assert [each.data for each in await asyncio.gather(*requests)] == [f"to {number}".encode() for number in range(100)]
    with pytest.raises(nats.errors.NoRespondersError):
        await client.request("nobody", timeout=DEADLINE_SECONDS)


async def test_what_is_published_right_before_the_connection_closes_arrives(server: NatsServer, client: Client) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe("last", cb=heard.put)
    await client.flush()
    async with connect_nats(server.url, Health(), "other", ca_file=server.authority) as other:
        for _ in range(3):
            await other.publish("last")
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(3):
            await heard.get()


async def test_a_flush_without_a_connection_fails_and_loses_nothing(server: NatsServer, client: Client) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe("said", cb=heard.put)
    await client.flush()
    await server.kill()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while client.is_connected:
            await asyncio.sleep(0)
    await client.publish("said", b"meanwhile")
    with pytest.raises(ConnectionReconnectingError):
        await client.flush()

    await server.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await heard.get()).data == b"meanwhile"
        await client.flush()


async def test_what_could_not_be_stored_is_not_stored_later(server: NatsServer, client: Client) -> None:
    js = client.jetstream()
    await ensure_streams(js, 1, 30)
    await put_if(js, OBSERVED_BUCKET, "n.u", b"Ready", None)
    await server.kill()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while client.is_connected:
            await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await put_if(js, OBSERVED_BUCKET, "n.u", b"outdated", None)
    await server.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not client.is_connected:
            await asyncio.sleep(0.01)
    await client.flush()
    assert (await read_key(js, OBSERVED_BUCKET, "n.u"))[1] == b"Ready"


async def test_whoever_publishes_more_than_is_taken_can_be_stopped(server: NatsServer, client: Client) -> None:
    taken = 0

    async def publish_for_ever() -> None:
        nonlocal taken
        while True:
            await client.publish("much", b"x" * (512 << 10))
            taken += 1

    os.kill(server.pid, signal.SIGSTOP)
    try:
        publishing = asyncio.create_task(publish_for_ever())
        async with asyncio.timeout(DEADLINE_SECONDS):
            # The socket and nats-py together keep some without waiting.
            before = -1
            while taken > before:
                before = taken
                await asyncio.sleep(0.5)
            publishing.cancel()
            await asyncio.wait([publishing])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert publishing.cancelled()
