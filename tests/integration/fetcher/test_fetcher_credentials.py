"""What becomes of a transfer when its credentials, or the way to its source, change meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, REASON_FORBIDDEN
from tests.integration.fetcher.ground import SHARD, URI, fetched_bytes
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Fault, Hub, generated_model

PRIVATE = "hf://org/private"
OLD, NEW = "hf_old_token", "hf_new_token"


@pytest.fixture
async def patient(node: FetcherNode) -> FetcherNode:
    """A fetcher whose next attempt after a failure is so far away that a test does not see it."""
    await node.stop()
    await node.start(OME_RETRY_INITIAL_SECONDS="900", OME_RETRY_MAX_SECONDS="900")
    return node


@pytest.fixture
def private(driver: Driver, hub: Hub) -> str:
    """A model of three files that need the hub's consent, of which two are fetched at a time."""
    hub.add_model("org/private", generated=generated_model(3 * SHARD, 3), private=True)
    hub.add_token(OLD, ["org/private"])
    driver.secrets["a"] = {"token": OLD.encode()}
    return PRIVATE


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """A mirror that accepts connections and never answers."""

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_token_that_is_rotated_during_a_download_is_asked_for_and_no_byte_is_fetched_twice(
    driver: Driver, patient: FetcherNode, hub: Hub, private: str
) -> None:
    stall = hub.inject(Fault("stall", path="*.safetensors", port="cdn", after_bytes=0))
    await driver.hold("a", private, await driver.artifact(private, uid="a"), "/models/a")
    await asyncio.to_thread(stall.wait_fired, 2)
    hub.remove_token(OLD)
    hub.add_token(NEW, ["org/private"])
    driver.secrets["a"] = {"token": NEW.encode()}
    stall.release()

    await driver.state("a", NODE_PHASE_READY)

    assert NODE_PHASE_FAILED not in driver.phases("a")
    assert [request.status for request in hub.requests("*/resolve/*.safetensors")].count(401) >= 1
    assert fetched_bytes(hub, "*.safetensors") == 3 * SHARD
    assert "credentials_renewed" in patient.log
    assert OLD not in patient.log
    assert NEW not in patient.log


async def test_other_credentials_are_tried_at_once(
    driver: Driver, patient: FetcherNode, hub: Hub, private: str
) -> None:
    artifact = await driver.artifact(private, uid="a")
    hub.remove_token(OLD)
    await driver.hold("a", private, artifact, "/models/a", secret_version="1")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_FORBIDDEN
    hub.add_token(OLD, ["org/private"])

    revision = await driver.hold("a", private, artifact, "/models/a", secret_version="2")
    await driver.state("a", NODE_PHASE_READY, revision)


async def test_a_failure_with_earlier_credentials_does_not_set_the_later_ones_back(
    driver: Driver, patient: FetcherNode, hub: Hub, private: str
) -> None:
    artifact = await driver.artifact(private, uid="a")
    stall = hub.inject(Fault("stall", path="*.safetensors", port="cdn", after_bytes=0))
    await driver.hold("a", private, artifact, "/models/a", secret_version="1")
    await asyncio.to_thread(stall.wait_fired, 2)
    revision = await driver.hold("a", private, artifact, "/models/a", secret_version="2")
    # The third file is refused, and once more after the credentials were asked for again.
    refusal = hub.inject(Fault("status", path="*/resolve/*.safetensors", port="hub", status=401, count=2))
    stall.release()

    await driver.state("a", NODE_PHASE_READY, revision)

    assert refusal.fired == 2
    assert NODE_PHASE_FAILED not in driver.phases("a")


async def test_an_edit_of_the_endpoint_ends_a_transfer_that_waits_for_the_old_one(
    driver: Driver, patient: FetcherNode, hub: Hub, silent: str
) -> None:
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/a", parameters={"endpoint": silent})
    await driver.state("a", lambda state: state.problem.message.startswith("fetching"))

    revision = await driver.hold("a", URI, artifact, "/models/a", parameters={"endpoint": hub.endpoint})
    await driver.state("a", NODE_PHASE_READY, revision)

    assert NODE_PHASE_FAILED not in driver.phases("a")
    assert "transfer_given_up" in patient.log


async def test_an_edit_of_parameters_or_credentials_moves_no_byte_of_a_model_that_is_ready(
    driver: Driver, patient: FetcherNode, hub: Hub
) -> None:
    artifact = await driver.artifact(URI)
    revision = await driver.hold("a", URI, artifact, "/models/a")
    await driver.state("a", NODE_PHASE_READY, revision)
    hub.forget_requests()

    for changes in ({"parameters": {"endpoint": hub.endpoint}}, {"secret_version": "2"}):
        revision = await driver.hold("a", URI, artifact, "/models/a", **changes)
        await driver.state("a", NODE_PHASE_READY, revision)

    assert hub.requests() == []
    assert driver.phases("a")[-1] == NODE_PHASE_READY
    assert driver.phases("a").count(NODE_PHASE_READY) == 1


async def test_a_model_is_not_set_back_by_the_credentials_of_another_with_the_same_files(
    driver: Driver, patient: FetcherNode, hub: Hub, private: str
) -> None:
    hub.add_token(NEW, ["org/private"])
    driver.secrets["b"] = {"token": NEW.encode()}
    artifact = await driver.artifact(private, uid="a")
    stall = hub.inject(Fault("stall", path="*.safetensors", port="cdn", after_bytes=0))
    await driver.hold("a", private, artifact, "/models/a")
    await asyncio.to_thread(stall.wait_fired, 2)
    revision = await driver.hold("b", private, artifact, "/models/b")
    await driver.state("b", lambda state: state.problem.message.startswith("fetching"))
    hub.remove_token(OLD)
    stall.release()

    await driver.state("b", NODE_PHASE_READY, revision)
    # Its own attempt has failed by then, or it has found the files that the other has brought.
    await driver.state("a", lambda state: state.phase in (NODE_PHASE_FAILED, NODE_PHASE_READY))
    assert NODE_PHASE_FAILED not in driver.phases("b")
