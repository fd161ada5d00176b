"""A resolver is taken over: with its user at NATS and NATS' own client, it writes listings and manifests and no more.

The server never checks where an answer is to go, and a consumer delivers wherever it was told to. What a resolver may
store it can have read back. So each subject that it may publish on is tried with each reply subject that would do harm.
"""

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
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.chassis.nats_client import put_if, read_key
from services.controller.permissions import resolver_permissions
from services.controller.streams import ensure_pool, ensure_streams
from services.fetcher.fleet.manifests import ManifestStore
from tests.attacks.inventory import settle, take_inventory
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer, running_nats

NODE = names.node_token("node-1")
KEY = f"{NODE}.victim"
MINE = f"$KV.{names.RESOLVED_BUCKET}.mine.source"
# What a resolver is there for: it writes these, and takes tasks out of the queue.
ITS_WORK = (f"$KV.{names.RESOLVED_BUCKET}.", f"$O.{names.MANIFESTS_BUCKET}.", names.resolve_subject(""))
REPLIES = (
    f"$KV.{names.DESIRED_BUCKET}.{KEY}",
    f"$KV.{names.OBSERVED_BUCKET}.{KEY}",
    f"$KV.{names.PLANS_BUCKET}.victim",
    f"$KV.{names.FACTS_BUCKET}.{'0' * 64}.x",
    f"$KV.{names.NODES_BUCKET}.{NODE}",
    names.credentials_subject("node-1"),
    names.use_subject("node-1"),
    names.progress_subject("node-1", "victim"),
    names.FORECAST_SUBJECT,
    f"$JS.API.STREAM.DELETE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.STREAM.PURGE.KV_{names.DESIRED_BUCKET}",
    "$JS.API.STREAM.CREATE.thief",
    f"$JS.API.CONSUMER.DELETE.{names.RESOLVE_STREAM}.pool-default",
    "$SYS.REQ.USER.AUTH",
    "_INBOX_gateway.x",
    "_INBOX_controller.x",
)
NOT_ITS_OWN = (
    names.credentials_subject("node-1"),
    names.use_subject("node-1"),
    names.progress_subject("*", "*"),
    names.FORECAST_SUBJECT,
    "_INBOX_gateway.>",
    "_INBOX_controller.>",
)


def payloads(deliver: str) -> tuple[bytes, ...]:
    """What JetStream understands: a message by its number, messages of a consumer, and a consumer of one's own."""
    stream = f"OBJ_{names.MANIFESTS_BUCKET}"
    settings = {"name": "thief", "deliver_subject": deliver, "deliver_policy": "all", "ack_policy": "none"}
    return (
        b"",
        b"+NXT",
        b'{"seq": 1}',
        json.dumps({"last_by_subj": MINE}).encode(),
        b'{"batch": 10, "no_wait": true}',
        json.dumps({"stream_name": stream, "config": settings}).encode(),
    )


def concrete(subject: str) -> list[str]:
    """Subjects that a permission permits, among them that of what the thief itself has stored."""
    first, _, rest = subject.replace("*", "pool-default").partition(".>")
    endings = ("",) if not subject.endswith(">") else (".thief", f".{MINE}", ".pool-default.1.1.1.1.0")
    return [f"{first}{ending}{rest}" for ending in endings]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_nats(tmp_path, nats_configuration("node-1")) as server:
        yield server


@pytest.fixture
async def fleet(server: NatsServer) -> AsyncIterator[Client]:
    """The fleet's account with something in each bucket and in the queue, and the gateway."""
    client = await server.client(user="driver", password=PASSWORD)
    js = client.jetstream()
    await ensure_streams(js, 1, 3600.0)
    await ensure_pool(js, "default")
    for bucket in (names.DESIRED_BUCKET, names.OBSERVED_BUCKET):
        await put_if(js, bucket, KEY, b"as it was", None)
    await put_if(js, names.NODES_BUCKET, NODE, b"", None)
    await put_if(js, names.PLANS_BUCKET, "victim", b"", None)
    await put_if(js, names.FACTS_BUCKET, f"{'0' * 64}.x", b"", None)
    for number in range(3):
        await js.publish(names.resolve_subject("default"), b"a task %d" % number)
    async with running_gateway(server, server.folder):
        yield client
    await client.close()


@pytest.fixture
async def js(fleet: Client) -> JetStreamContext:
    return fleet.jetstream()


@pytest.fixture
async def thief(server: NatsServer, fleet: Client) -> AsyncIterator[Client]:
    """nats-py with the rights of a resolver."""

    async def ignore(error: Exception) -> None:
        """Denials are what is hoped for."""

    options = {"user": "resolvers", "password": PASSWORD, "inbox_prefix": "_INBOX_resolver", "error_cb": ignore}
    client = await server.client(**options)
    yield client
    await client.close()


async def test_what_a_resolver_has_stored_is_led_nowhere_else(
    fleet: Client, js: JetStreamContext, thief: Client
) -> None:
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    for subject in NOT_ITS_OWN:
        await fleet.subscribe(subject, cb=note)
    await thief.jetstream().publish(MINE, b"an assignment that deletes a model")
    await fleet.jetstream().get_last_msg(f"KV_{names.RESOLVED_BUCKET}", MINE)
    before = (await take_inventory(js)).without(*ITS_WORK)
    for subject, reply in itertools.product(resolver_permissions().publish, REPLIES):
        for each, payload in itertools.product(concrete(subject), payloads(reply)):
            await thief.publish(each, payload, reply=reply)
            await thief.publish(each, payload, reply=reply, headers={"Nats-Rollup": "all"})
        await settle(thief, fleet)

    assert (await take_inventory(js)).without(*ITS_WORK) == before
    assert heard == []


async def test_a_resolver_writes_and_makes_nothing_but_listings_and_manifests(
    fleet: Client, js: JetStreamContext, thief: Client
) -> None:
    before = await take_inventory(js)
    for subject in REPLIES:
        await thief.publish(subject, b"forged", headers={"Nats-Rollup": "all"})
    for prefix in ("$JS.API", names.FOREIGN_API):
        for request in (
            f"CONSUMER.CREATE.OBJ_{names.MANIFESTS_BUCKET}.thief",
            f"CONSUMER.CREATE.{names.RESOLVE_STREAM}.thief",
            f"CONSUMER.DELETE.{names.RESOLVE_STREAM}.pool-default",
            f"STREAM.PURGE.KV_{names.RESOLVED_BUCKET}",
            f"STREAM.UPDATE.OBJ_{names.MANIFESTS_BUCKET}",
        ):
            with pytest.raises((nats.errors.Error, TimeoutError)):
                await thief.request(f"{prefix}.{request}", payloads("$KV.ome-desired.x")[-1], timeout=0.3)
    await settle(thief, fleet)
    assert await take_inventory(js) == before


async def test_assignments_states_and_secrets_of_nodes_are_not_to_be_heard(
    fleet: Client, js: JetStreamContext, thief: Client
) -> None:
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    for subject in (">", "$KV.>", "ome.>", "_INBOX.>", "_INBOX_gateway.>", "_R_.>", *NOT_ITS_OWN):
        await thief.subscribe(subject, cb=note)
    await put_if(js, names.DESIRED_BUCKET, f"{NODE}.second", b"", None)
    await fleet.publish(names.credentials_subject("node-1"), b"", reply="_INBOX_gateway.x")
    for bucket in (names.DESIRED_BUCKET, names.OBSERVED_BUCKET, names.PLANS_BUCKET):
        subject = f"{names.FOREIGN_API}.DIRECT.GET.KV_{bucket}"
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await thief.request(subject, b'{"seq": 1}', timeout=0.3)
    await settle(thief, fleet)
    assert heard == []


async def test_the_service_itself_takes_tasks_stores_what_it_finds_and_answers_trials(
    fleet: Client, js: JetStreamContext, thief: Client
) -> None:
    own = thief.jetstream(prefix=names.FOREIGN_API)
    subscription = await own.pull_subscribe_bind("pool-default", stream=names.RESOLVE_STREAM)
    (task,) = await subscription.fetch(1, timeout=5)
    assert (task.data, task.metadata.num_delivered) == (b"a task 0", 1)
    await task.in_progress()
    await task.ack()
    await settle(thief, fleet)
    assert (await js.stream_info(names.RESOLVE_STREAM)).state.messages == 2

    revision = await put_if(own, names.RESOLVED_BUCKET, "victim.source", b"found", 0)
    assert await read_key(own, names.RESOLVED_BUCKET, "victim.source") == (revision, b"found")
    files = [ManifestFile(f"file-{number}", 1, ChecksumAlgorithm.SHA256, "0" * 64) for number in range(20_000)]
    for _ in range(2):
        await ManifestStore(own).put(new_manifest("r", files), "team")
    assert len(await (await js.object_store(names.MANIFESTS_BUCKET)).list()) == 1

    async def answer(message: Msg) -> None:
        await message.respond(b"tried")

    with pytest.raises(nats.errors.NoRespondersError):
        await fleet.request(names.trial_subject("default"), b"", timeout=5)
    await thief.subscribe(names.trial_subject("default"), queue="trials", cb=answer)
    await thief.flush()
    assert (await fleet.request(names.trial_subject("default"), b"", timeout=5)).data == b"tried"
