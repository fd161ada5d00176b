"""A thief has the credential of one node's fetcher, and NATS' own client: what is another node's stays another node's.

The server never checks where an answer is to go. So each subject that the node may publish on is tried with each reply
subject that would do harm.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs.artifact import names
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.chassis.nats_client import put_if
from libs.model.manifest_codec import encode_manifest
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.permissions import NODES, node_permissions
from services.controller.streams import ensure_pool, ensure_streams
from tests.attacks.inventory import take_inventory
from tests.support.fetcher_node import PASSWORD, nats_configuration, running_gateway
from tests.support.nats_server import NatsServer, running_nats

OURS, OTHER = "node-1", "node-2"
US, THEM = names.node_token(OURS), names.node_token(OTHER)
DIGEST = "sha256:" + "a" * 64
SECRET = b"the secret of another node"

# Where an answer may do harm: another node's keys and ears, and each verb of JetStream's that changes something.
REPLIES = (
    f"$KV.{names.OBSERVED_BUCKET}.{THEM}.victim",
    f"$KV.{names.DESIRED_BUCKET}.{THEM}.victim",
    f"$KV.{names.DESIRED_BUCKET}.{US}.victim",
    f"$KV.{names.NODES_BUCKET}.{THEM}",
    f"$KV.{names.PLANS_BUCKET}.victim",
    f"$KV.{names.RESOLVED_BUCKET}.victim.source",
    f"$O.{names.MANIFESTS_BUCKET}.M.eA==",
    "ome.resolve.default",
    f"ome.credentials.{THEM}",
    f"ome.use.{THEM}",
    f"ome.progress.{THEM}.victim",
    "ome.listing.credentials",
    f"_INBOX_{THEM}.x",
    *(names.node_subject(OTHER, verb) for verb in (names.DESIRED, names.OBSERVED, names.RECALL, names.CREDENTIALS)),
    f"$JS.API.STREAM.DELETE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.STREAM.PURGE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.STREAM.UPDATE.KV_{names.DESIRED_BUCKET}",
    "$JS.API.STREAM.CREATE.thief",
    f"$JS.API.STREAM.MSG.DELETE.KV_{names.DESIRED_BUCKET}",
    f"$JS.API.CONSUMER.CREATE.KV_{names.DESIRED_BUCKET}.thief",
    f"$JS.API.CONSUMER.DURABLE.CREATE.KV_{names.DESIRED_BUCKET}.thief",
    f"$JS.API.CONSUMER.DELETE.{names.RESOLVE_STREAM}.pool-default",
    "$SYS.REQ.USER.AUTH",
)


def concrete(subject: str) -> str:
    """A subject that a permission permits."""
    return ".".join({"*": "victim", ">": "victim"}.get(token, token) for token in subject.split("."))


def payloads() -> tuple[bytes, ...]:
    """What a fetcher may say, what JetStream understands, and neither."""
    model = model_pb2.ModelRef(uid="victim", name="victim")
    state = fetch_pb2.NodeModelState(model=model, phase=model_pb2.NODE_PHASE_READY)
    return (
        b"",
        b'{"name": "thief", "subjects": ["_INBOX_node-2.>"]}',
        state.SerializeToString(),
        fetch_pb2.StateRequest(model_uid="victim").SerializeToString(),
        fetch_pb2.ManifestRequest(digest=DIGEST).SerializeToString(),
        fetch_pb2.UseRequest(questions=[fetch_pb2.UseQuestion(model_uid="victim")]).SerializeToString(),
    )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    configuration = nats_configuration(OURS)
    listener = {"user": "listener", "password": PASSWORD}
    configuration["accounts"][NODES]["users"].append(listener)
    async with running_nats(tmp_path, configuration) as server:
        yield server


@pytest.fixture
async def js(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    """The fleet's account, with something of another node in each bucket."""
    client = await server.client(user="driver", password=PASSWORD)
    js = client.jetstream()
    await ensure_streams(js, 1, 3600.0)
    await ensure_pool(js, "default")
    model = model_pb2.ModelRef(uid="victim", name="victim")
    hold = fetch_pb2.Assignment(model=model, goal=fetch_pb2.GOAL_HOLD, artifact=model_pb2.Artifact(digest=DIGEST))
    ready = fetch_pb2.NodeModelState(model=model, phase=model_pb2.NODE_PHASE_READY)
    for bucket, key, value in (
        (names.DESIRED_BUCKET, f"{THEM}.victim", hold),
        (names.DESIRED_BUCKET, f"{US}.victim", hold),
        (names.OBSERVED_BUCKET, f"{THEM}.victim", ready),
        (names.OBSERVED_BUCKET, f"{US}.victim", ready),
        (names.NODES_BUCKET, THEM, fetch_pb2.NodeHeartbeat(node=OTHER)),
        (names.PLANS_BUCKET, "victim", fetch_pb2.ModelPlan(model=model)),
        (names.RESOLVED_BUCKET, "victim.source", fetch_pb2.Resolution(attempt=1)),
    ):
        await put_if(js, bucket, key, value.SerializeToString(), None)

    async def secrets(message: Msg) -> None:
        reply = fetch_pb2.CredentialsReply()
        if message.subject == names.credentials_subject(OTHER):
            reply.values["token"] = SECRET
        await message.respond(reply.SerializeToString())

    async def pods(message: Msg) -> None:
        reply = fetch_pb2.UseReply()
        use = reply.uses.add(pods=1)
        if message.subject == names.use_subject(OTHER):
            use.users.add(namespace="team", name=SECRET.decode())
        await message.respond(reply.SerializeToString())

    await client.subscribe(names.credentials_subject("*"), cb=secrets)
    await client.subscribe(names.use_subject("*"), cb=pods)
    try:
        async with running_gateway(server, server.folder):
            yield js
    finally:
        await client.close()


@pytest.fixture
async def thief(server: NatsServer, js: JetStreamContext) -> AsyncIterator[Client]:
    """nats-py with the rights of our node."""

    async def ignore(error: Exception) -> None:
        """Denials are what is hoped for."""

    client = await server.client(inbox_prefix=names.inbox_prefix(OURS), error_cb=ignore)
    try:
        yield client
    finally:
        await client.close()


async def heard_by_others(server: NatsServer, heard: list[str]) -> Client:
    """Listens to everything in the nodes' account, and notes what is meant for another node."""

    async def note(message: Msg) -> None:
        if THEM in message.subject:
            heard.append(message.subject)

    client = await server.client(user="listener", password=PASSWORD)
    await client.subscribe(">", cb=note)
    await client.flush()
    return client


async def settle(thief: Client) -> None:
    """Wait until the gateway has looked at everything that was sent before."""
    await thief.flush()
    request = fetch_pb2.StateRequest(model_uid="last").SerializeToString()
    for _ in range(3):
        await thief.request(names.node_subject(OURS, names.RECALL), request, timeout=10)


async def test_no_answer_goes_where_it_would_say_something_for_another_node(
    server: NatsServer, js: JetStreamContext, thief: Client
) -> None:
    heard: list[str] = []
    listener = await heard_by_others(server, heard)
    ours = (f"$KV.{names.OBSERVED_BUCKET}.{US}.", f"$KV.{names.NODES_BUCKET}.{US}")
    before = (await take_inventory(js)).without(*ours)

    subjects = [concrete(subject) for subject in node_permissions(OURS).publish]
    sent = 0
    for subject, reply, payload in itertools.product(subjects, REPLIES, payloads()):
        await thief.publish(subject, payload, reply=reply)
        sent += 1
        if sent % 50 == 0:
            # The gateway takes 64 of a node at a time, and none of these may pass for want of being looked at.
            await settle(thief)
    await settle(thief)

    assert sent == len(subjects) * len(REPLIES) * len(payloads())
    assert (await take_inventory(js)).without(*ours) == before
    assert heard == []
    await listener.close()


async def test_the_bus_has_nothing_but_the_nodes_own_subjects(js: JetStreamContext, thief: Client) -> None:
    before = await take_inventory(js)
    for subject in REPLIES:
        await thief.publish(subject, payloads()[2], headers={"Nats-Rollup": "all"})
    await settle(thief)
    assert await take_inventory(js) == before
    with pytest.raises(nats.errors.Error):
        await thief.jetstream(timeout=0.5).account_info()


async def test_headers_of_a_node_go_nowhere(js: JetStreamContext, thief: Client) -> None:
    model = model_pb2.ModelRef(uid="mine")
    state = fetch_pb2.NodeModelState(model=model, phase=model_pb2.NODE_PHASE_READY)
    before = await take_inventory(js)
    await thief.request(
        names.node_subject(OURS, names.OBSERVED),
        state.SerializeToString(),
        headers={"Nats-Rollup": "all", "KV-Operation": "PURGE", "Nats-TTL": "1s"},
        timeout=5,
    )
    after = await take_inventory(js)
    mine = f"$KV.{names.OBSERVED_BUCKET}.{US}.mine"
    assert after.without(mine) == before
    assert after.messages[mine] == state.SerializeToString() + b"[]"


async def test_secrets_states_and_assignments_of_others_are_not_to_be_heard(
    js: JetStreamContext, thief: Client
) -> None:
    heard: list[Msg] = []

    async def note(message: Msg) -> None:
        heard.append(message)

    for subject in (">", "ome.>", f"_INBOX_{THEM}.>", "_INBOX.>", f"ome.node.{THEM}.>", "$KV.>", "$JS.>"):
        await thief.subscribe(subject, cb=note)
    await settle(thief)
    for verb, request in (
        (names.CREDENTIALS, fetch_pb2.CredentialsRequest(model_uid="victim")),
        (names.SNAPSHOT, fetch_pb2.DesiredRequest()),
    ):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await thief.request(names.node_subject(OTHER, verb), request.SerializeToString(), timeout=0.5)
    other = await put_if(js, names.DESIRED_BUCKET, f"{THEM}.second", b"", None)
    assert other
    await settle(thief)
    assert [message.subject for message in heard] == []


async def test_a_node_that_asks_without_end_keeps_no_other_node_waiting(
    server: NatsServer, js: JetStreamContext, thief: Client
) -> None:
    request = fetch_pb2.ManifestRequest(digest="sha256:" + "b" * 64).SerializeToString()
    for _ in range(5_000):
        await thief.publish(names.node_subject(OURS, names.MANIFEST), request, reply=f"{names.inbox_prefix(OURS)}.x")
    listener = await server.client(user="listener", password=PASSWORD, inbox_prefix=f"_INBOX_{THEM}")
    try:
        async with asyncio.timeout(20):
            answer = await listener.request(names.node_subject(OTHER, names.SNAPSHOT), b"", timeout=20)
        assert fetch_pb2.DesiredSnapshot.FromString(answer.data).assignments
    finally:
        await listener.close()


async def test_facts_are_written_by_whoever_claimed_to_find_them_out_and_about_what_it_holds(
    js: JetStreamContext, thief: Client
) -> None:
    async def say(digest: str, facts: fetch_pb2.SharedFacts | None, revision: int = 0) -> fetch_pb2.FactsReply:
        request = fetch_pb2.FactsRequest(digest=digest, version="1", facts=facts, revision=revision)
        answer = await thief.request(names.node_subject(OURS, names.FACTS), request.SerializeToString(), timeout=5)
        return fetch_pb2.FactsReply.FromString(answer.data)

    lie = fetch_pb2.SharedFacts(claimed_by=OTHER)
    lie.facts.model_type = "a lie"
    assert (await say("sha256:" + "b" * 64, lie)).problem.reason == model_pb2.REASON_FORBIDDEN
    key = names.facts_key(DIGEST, "", "1")
    claim = fetch_pb2.SharedFacts(claimed_by=OTHER)
    revision = await put_if(js, names.FACTS_BUCKET, key, claim.SerializeToString(), 0)
    assert (await say(DIGEST, lie)).HasField("problem")
    assert (await say(DIGEST, None)).revision == revision


async def test_a_node_that_makes_up_models_fills_no_bucket(js: JetStreamContext, thief: Client) -> None:
    refused = 0
    for number in range(2_100):
        model = model_pb2.ModelRef(uid=f"made-up-{number}")
        state = fetch_pb2.NodeModelState(model=model, phase=model_pb2.NODE_PHASE_READY)
        answer = await thief.request(names.node_subject(OURS, names.OBSERVED), state.SerializeToString(), timeout=5)
        refused += fetch_pb2.StateReply.FromString(answer.data).HasField("problem")
    assert refused == 100
    mine = fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid="victim"), phase=model_pb2.NODE_PHASE_READY)
    answer = await thief.request(names.node_subject(OURS, names.OBSERVED), mine.SerializeToString(), timeout=5)
    assert not fetch_pb2.StateReply.FromString(answer.data).HasField("problem"), "of what is assigned it may speak"


async def test_nonsense_under_a_digest_is_neither_handed_out_nor_remembered(
    js: JetStreamContext, thief: Client
) -> None:
    async def ask(digest: str) -> fetch_pb2.ManifestPart:
        request = fetch_pb2.ManifestRequest(digest=digest).SerializeToString()
        answer = await thief.request(names.node_subject(OURS, names.MANIFEST), request, timeout=5)
        return fetch_pb2.ManifestPart.FromString(answer.data)

    right = new_manifest("r", [ManifestFile("file", 1, ChecksumAlgorithm.SHA256, "0" * 64)])
    hold = fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD, artifact=model_pb2.Artifact(digest=right.digest))
    await put_if(js, names.DESIRED_BUCKET, f"{US}.other", hold.SerializeToString(), None)
    objects = await js.object_store(names.MANIFESTS_BUCKET)
    await objects.put(right.digest, b"nonsense")
    assert (await ask(right.digest)).problem.reason == model_pb2.REASON_NOT_FOUND

    await objects.put(right.digest, encode_manifest(right))
    assert (await ask(right.digest)).data == encode_manifest(right)
    assert (await ask("sha256:" + "c" * 64)).problem.reason == model_pb2.REASON_FORBIDDEN


async def test_a_node_learns_of_its_own_pods_alone(thief: Client) -> None:
    request = fetch_pb2.UseRequest(questions=[fetch_pb2.UseQuestion(model_uid="victim", paths=["/models/victim"])])
    answer = await thief.request(names.node_subject(OURS, names.USE), request.SerializeToString(), timeout=5)
    (use,) = fetch_pb2.UseReply.FromString(answer.data).uses
    assert (use.pods, list(use.users)) == (1, [])
    with pytest.raises((TimeoutError, nats.errors.Error)):
        await thief.request(names.node_subject(OTHER, names.USE), request.SerializeToString(), timeout=1)
