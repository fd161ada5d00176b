"""The status service is taken over: with its user at NATS and NATS' own client, nothing that is stored changes.

The server never checks where an answer is to go, and a consumer delivers wherever it was told to. So each subject that
the service may publish on is tried with each reply subject and each delivery subject that would do harm.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.chassis.nats_client import put_if
from libs.chassis.nats_mirror import Mirror
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.permissions import status_permissions
from services.controller.streams import ensure_pool, ensure_streams
from services.status.following import API
from tests.attacks.inventory import settle, take_inventory
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer, running_nats

NODE = names.node_token("node-1")
KEY = f"{NODE}.victim"
MINE = "thief"
REPLIES = (
    f"$KV.{names.DESIRED_BUCKET}.{KEY}",
    f"$KV.{names.OBSERVED_BUCKET}.{KEY}",
    f"$KV.{names.PLANS_BUCKET}.victim",
    f"$KV.{names.RESOLVED_BUCKET}.victim.source",
    f"$KV.{names.FACTS_BUCKET}.{'0' * 64}.x",
    f"$KV.{names.NODES_BUCKET}.{NODE}",
    f"$O.{names.MANIFESTS_BUCKET}.M.eA==",
    names.resolve_subject("default"),
    names.credentials_subject("node-1"),
    names.use_subject("node-1"),
    names.LISTING_CREDENTIALS_SUBJECT,
    names.trial_subject("default"),
    f"$JS.API.STREAM.DELETE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.STREAM.PURGE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.STREAM.CREATE.{MINE}",
    f"$JS.API.CONSUMER.DELETE.{names.RESOLVE_STREAM}.pool-default",
    "$SYS.REQ.USER.AUTH",
    "_INBOX_gateway.x",
    "_INBOX_controller.x",
)


def payloads(deliver: str) -> tuple[bytes, ...]:
    """What JetStream understands: a message by its number, messages of a consumer, and a consumer of one's own."""
    consumer = {
        "stream_name": f"KV_{names.OBSERVED_BUCKET}",
        "config": {
            "name": MINE,
            "deliver_subject": deliver,
            "deliver_policy": "all",
            "ack_policy": "none",
            "filter_subject": f"$KV.{names.OBSERVED_BUCKET}.>",
        },
    }
    return (
        b"",
        b'{"seq": 1}',
        b'{"batch": 10, "no_wait": true}',
        json.dumps(consumer).encode(),
        fetch_pb2.StateRequest(model_uid="victim").SerializeToString(),
    )


def concrete(subject: str) -> str:
    """A subject that a permission permits."""
    filled = {"*": MINE, ">": f"{MINE}.$KV.{names.OBSERVED_BUCKET}.>" if "CONSUMER" in subject else f"$KV.x.{KEY}"}
    return ".".join(filled.get(token, token) for token in subject.split("."))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration("node-1")) as server:
        yield server


@pytest.fixture
async def fleet(server: NatsServer) -> AsyncIterator[Client]:
    """The fleet's account with something in each bucket, and the gateway."""
    client = await server.client(user="driver", password=PASSWORD)
    js = client.jetstream()
    await ensure_streams(js, 1, 3600.0)
    await ensure_pool(js, "default")
    model = model_pb2.ModelRef(uid="victim", name="victim")
    state = fetch_pb2.NodeModelState(model=model, phase=model_pb2.NODE_PHASE_READY).SerializeToString()
    for bucket in (names.DESIRED_BUCKET, names.OBSERVED_BUCKET):
        await put_if(js, bucket, KEY, state, None)
    await put_if(js, names.NODES_BUCKET, NODE, b"", None)
    await put_if(js, names.PLANS_BUCKET, "victim", b"", None)
    await put_if(js, names.FACTS_BUCKET, f"{'0' * 64}.x", b"", None)
    async with running_gateway(server, server.folder):
        yield client
    await client.close()


@pytest.fixture
async def js(fleet: Client) -> JetStreamContext:
    return fleet.jetstream()


@pytest.fixture
async def thief(server: NatsServer, fleet: Client) -> AsyncIterator[Client]:
    """nats-py with the rights of the status service."""

    async def ignore(error: Exception) -> None:
        """Denials are what is hoped for."""

    options = {"user": "status", "password": PASSWORD, "inbox_prefix": "_INBOX_status", "error_cb": ignore}
    client = await server.client(**options)
    yield client
    await client.close()


async def test_no_answer_and_no_delivery_goes_where_it_would_change_something(
    fleet: Client, js: JetStreamContext, thief: Client
) -> None:
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    for subject in (names.credentials_subject("*"), names.LISTING_CREDENTIALS_SUBJECT, "_INBOX_controller.>"):
        await fleet.subscribe(subject, cb=note)
    before = await take_inventory(js)
    subjects = [concrete(subject) for subject in status_permissions().publish]
    for subject, reply in itertools.product(subjects, REPLIES):
        for payload in payloads(reply):
            await thief.publish(subject, payload, reply=reply)
        await settle(thief, fleet)

    assert await take_inventory(js) == before
    assert heard == []


async def test_nothing_can_be_written_or_asked_directly(js: JetStreamContext, thief: Client, fleet: Client) -> None:
    before = await take_inventory(js)
    for subject in REPLIES:
        await thief.publish(subject, b"forged", headers={"Nats-Rollup": "all"})
    await settle(thief, fleet)
    assert await take_inventory(js) == before
    with pytest.raises(nats.errors.Error):
        await thief.jetstream(timeout=0.5).account_info()


async def test_assignments_and_secrets_are_not_to_be_heard(thief: Client, js: JetStreamContext) -> None:
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    for subject in (">", "$KV.>", f"$KV.{names.DESIRED_BUCKET}.>", "_INBOX.>", "_INBOX_gateway.>", "ome.credentials.>"):
        await thief.subscribe(subject, cb=note)
    await put_if(js, names.DESIRED_BUCKET, f"{NODE}.second", b"", None)
    for subject in (f"$JS.API.DIRECT.GET.KV_{names.DESIRED_BUCKET}", f"$JS.API.STREAM.INFO.KV_{names.DESIRED_BUCKET}"):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await thief.request(subject, b'{"seq": 1}', timeout=0.5)
    await asyncio.wait_for(thief.flush(), 5)
    assert heard == []


async def test_the_service_itself_reads_and_follows_what_it_reports(
    thief: Client, js: JetStreamContext, fleet: Client
) -> None:
    mirror: Mirror[bytes] = Mirror(names.OBSERVED_BUCKET, bytes, api=API)
    progress: asyncio.Queue[str] = asyncio.Queue()

    async def note(message: Msg) -> None:
        progress.put_nowait(message.subject)

    await thief.subscribe(names.progress_subject("*", "*"), cb=note)
    following = asyncio.create_task(mirror.run(thief, lambda key: None))
    async with asyncio.timeout(90):
        await mirror.synced()
        assert list(mirror.entries) == [KEY]
        for number in range(1200):
            await put_if(js, names.OBSERVED_BUCKET, f"{NODE}.{number}", b"x", None)
        while len(mirror.entries) < 1201:
            await asyncio.sleep(0.01)
        mirror.reread()
        await put_if(js, names.OBSERVED_BUCKET, f"{NODE}.last", b"x", None)
        while f"{NODE}.last" not in mirror.entries:
            await asyncio.sleep(0.01)
        await fleet.publish(names.progress_subject("node-1", "victim"), b"")
        assert await progress.get() == names.progress_subject("node-1", "victim")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_gateway_makes_consumers_of_what_is_reported_alone_and_answers_nobody_else(
    thief: Client, fleet: Client, js: JetStreamContext
) -> None:
    before = await take_inventory(js)
    for subject in (names.follow_subject(names.DESIRED_BUCKET, "x"), names.follow_subject(names.RESOLVED_BUCKET, "x")):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await thief.request(subject, b"", timeout=0.5)
    # A user of the fleet's account could have the answer sent anywhere.
    with pytest.raises((nats.errors.Error, TimeoutError)):
        await fleet.request(names.follow_subject(names.OBSERVED_BUCKET, "x"), b"", timeout=0.5)
    for request in (b"\xff", fetch_pb2.FollowRequest(after=1 << 62).SerializeToString()):
        answer = await thief.request(names.follow_subject(names.OBSERVED_BUCKET, "y"), request, timeout=5)
        fetch_pb2.FollowReply.FromString(answer.data)
    assert await take_inventory(js) == before
