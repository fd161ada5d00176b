"""What the token of a Pod is worth at NATS: exactly the rights of the node that the Pod runs on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from libs.artifact import names
from libs.artifact.names import inbox_prefix
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from tests.support.fleet import Fleet, model
from tests.support.nats_server import connect_trusting

pytestmark = pytest.mark.cluster

OURS, OTHER = "node-1", "node-2"


def token_of(fleet: Fleet, account: str, *arguments: str) -> str:
    return fleet.cluster.kubectl("create", "token", "-n", "ome", account, *arguments).strip()


def bound_token(fleet: Fleet, service: str, audience: str = "nats") -> str:
    """A token of the Pod of a service, as the kubelet would project it; of the one on our node for fetchers."""
    [pod] = fleet.cluster.pods(service, node=OURS if service == "fetcher" else None)
    account = f"ome-{service}"
    return token_of(
        fleet, account, "--audience", audience, "--bound-object-kind", "Pod", "--bound-object-name", pod.name
    )


@asynccontextmanager
async def connected(fleet: Fleet, token: str, folder: Path) -> AsyncIterator[Client]:
    """Connect as a fetcher does; nats-py tries for ever, so a refusal ends as TimeoutError."""
    file = folder / "token"
    file.write_text(token)
    cluster, ours = fleet.cluster, inbox_prefix(OURS)
    connection = connect_nats(
        cluster.nats_url, Health(), "test", token_file=file, ca_file=cluster.nats_authority, inbox_prefix=ours
    )
    client = await asyncio.wait_for(connection.__aenter__(), 15)
    try:
        yield client
    finally:
        await connection.__aexit__(None, None, None)


async def test_fetcher_reads_its_own_assignments_and_no_others(fleet: Fleet, tmp_path: Path) -> None:
    here = model("identity", "local:///models/none", nodeSelector={})
    await asyncio.to_thread(fleet.apply, here)
    try:
        async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
            async with asyncio.timeout(20):
                while not (await snapshot(client, OURS)).assignments:
                    await asyncio.sleep(0.1)
            with pytest.raises((TimeoutError, nats.errors.Error)):
                await snapshot(client, OTHER, 2.0)
    finally:
        await asyncio.to_thread(fleet.delete, here)
        await asyncio.to_thread(fleet.await_gone, here)


async def snapshot(client: Client, node: str, timeout_seconds: float = 10.0) -> fetch_pb2.DesiredSnapshot:
    request = fetch_pb2.DesiredRequest().SerializeToString()
    answer = await client.request(names.node_subject(node, names.SNAPSHOT), request, timeout_seconds)
    return fetch_pb2.DesiredSnapshot.FromString(answer.data)


async def test_fetcher_says_nothing_for_another_node_and_reaches_no_stored_state(fleet: Fleet, tmp_path: Path) -> None:
    cluster = fleet.cluster
    password = cluster.nats_identities.passwords["controller"]
    controller = await connect_trusting(cluster.nats_authority, cluster.nats_url, user="controller", password=password)
    state = fetch_pb2.NodeModelState(model=model_pb2.ModelRef(uid="test"), phase=model_pb2.NODE_PHASE_READY)
    async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
        for node in (OURS, OTHER):
            await client.publish(
                names.node_subject(node, names.OBSERVED), state.SerializeToString(), f"{inbox_prefix(OURS)}.x"
            )
        for bucket in (names.OBSERVED_BUCKET, names.DESIRED_BUCKET):
            await client.publish(f"$KV.{bucket}.{names.node_token(OTHER)}.test", state.SerializeToString())
        with pytest.raises((TimeoutError, nats.errors.Error)):
            await client.jetstream(timeout=1).account_info()
        # Answered after what was sent before.
        await snapshot(client, OURS)
        states = await controller.jetstream().key_value(names.OBSERVED_BUCKET)
        async with asyncio.timeout(10):
            while names.node_key(OURS, "test") not in await states.keys():
                await asyncio.sleep(0.1)
        assert names.node_key(OTHER, "test") not in await states.keys()
    await controller.close()


async def test_fetcher_is_given_no_secret_of_a_model_that_is_not_its_own(fleet: Fleet, tmp_path: Path) -> None:
    async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
        request = fetch_pb2.CredentialsRequest(model_uid="of-somebody-else").SerializeToString()
        answer = await client.request(names.node_subject(OURS, names.CREDENTIALS), request, timeout=5)
        reply = fetch_pb2.CredentialsReply.FromString(answer.data)
        assert not reply.values
        assert "not assigned" in reply.problem.message
        with pytest.raises((TimeoutError, nats.errors.Error)):
            await client.request(names.node_subject(OTHER, names.CREDENTIALS), request, timeout=1)
        for subject in (names.credentials_subject(OURS), names.LISTING_CREDENTIALS_SUBJECT):
            with pytest.raises((TimeoutError, nats.errors.Error)):
                await client.request(subject, request, timeout=1)


@pytest.mark.parametrize("case", ["no token", "nonsense", "bound to no Pod", "for somebody else", "of another service"])
async def test_connection_with_any_other_token_is_refused(fleet: Fleet, case: str) -> None:
    tokens = {
        "no token": lambda: " ",
        "nonsense": lambda: "x.y.z",
        "bound to no Pod": lambda: token_of(fleet, "ome-fetcher", "--audience", "nats"),
        "for somebody else": lambda: bound_token(fleet, "fetcher", "https://kubernetes.default.svc"),
        "of another service": lambda: bound_token(fleet, "parser"),
    }
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    with pytest.raises(nats.errors.NoServersError):
        await connect_trusting(
            fleet.cluster.nats_authority,
            fleet.cluster.nats_url,
            token=await asyncio.to_thread(tokens[case]),
            inbox_prefix=inbox_prefix(OURS),
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=note,
        )
    assert any("Authorization Violation" in refusal for refusal in refusals)
