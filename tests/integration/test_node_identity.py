"""What the token of a Pod is worth at NATS: exactly the rights of the node that the Pod runs on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from libs.artifact import names
from libs.chassis.errors import ServiceError
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, put_if
from libs.chassis.nats_mirror import Mirror
from ome.fetch.v1 import fetch_pb2
from services.controller.permissions import inbox_prefix
from tests.support.fleet import Fleet, model

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
    connection = connect_nats(
        fleet.cluster.nats_url, Health(), "test", token_file=file, inbox_prefix=inbox_prefix(OURS)
    )
    client = await asyncio.wait_for(connection.__aenter__(), 8)
    try:
        yield client
    finally:
        await connection.__aexit__(None, None, None)


async def test_fetcher_reads_its_own_assignments_and_no_others(fleet: Fleet, tmp_path: Path) -> None:
    here = model("identity", "local:///models/none", nodeSelector={})
    await asyncio.to_thread(fleet.apply, here)
    try:
        async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
            for node, readable in ((OURS, True), (OTHER, False)):
                pattern = f"{names.node_token(node)}.>"
                mirror = Mirror(names.DESIRED_BUCKET, fetch_pb2.Assignment.FromString, pattern, pushed=True)
                seen = asyncio.Event()
                task = asyncio.ensure_future(mirror.run(client, lambda key, seen=seen: seen.set()))  # type: ignore[misc]
                try:
                    async with asyncio.timeout(20 if readable else 2):
                        await seen.wait()
                except TimeoutError:
                    assert not readable
                else:
                    assert readable
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
    finally:
        await asyncio.to_thread(fleet.delete, here)
        await asyncio.to_thread(fleet.await_gone, here)


async def test_fetcher_writes_neither_the_state_nor_the_heartbeat_of_another_node(fleet: Fleet, tmp_path: Path) -> None:
    token = names.node_token(OTHER)
    async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
        js = client.jetstream(timeout=1)
        await put_if(js, names.OBSERVED_BUCKET, names.node_key(OURS, "test"), b"", None)
        for bucket, key in (
            (names.OBSERVED_BUCKET, f"{token}.test"),
            (names.NODES_BUCKET, token),
            (names.DESIRED_BUCKET, f"{names.node_token(OURS)}.test"),
            (names.PLANS_BUCKET, "test"),
        ):
            with pytest.raises(ServiceError):
                await put_if(js, bucket, key, b"", None)


async def test_fetcher_is_given_no_secret_of_a_model_that_is_not_its_own(fleet: Fleet, tmp_path: Path) -> None:
    async with connected(fleet, bound_token(fleet, "fetcher"), tmp_path) as client:
        request = fetch_pb2.CredentialsRequest(model_uid="of-somebody-else").SerializeToString()
        answer = await client.request(names.credentials_subject(OURS), request, timeout=5)
        reply = fetch_pb2.CredentialsReply.FromString(answer.data)
        assert not reply.values
        assert "not assigned" in reply.problem.message
        with pytest.raises(nats.errors.TimeoutError):
            await client.request(names.credentials_subject(OTHER), request, timeout=1)


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
        await Client().connect(
            fleet.cluster.nats_url,
            token=await asyncio.to_thread(tokens[case]),
            inbox_prefix=inbox_prefix(OURS),
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=note,
        )
    assert any("Authorization Violation" in refusal for refusal in refusals)
