"""The fetcher with models that lie on the node already, and its life as a process."""

import fcntl
from pathlib import Path

import pytest

from libs.artifact.names import DESIRED_BUCKET, node_key
from libs.chassis.nats_client import put_if
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_INVALID_PATH,
    REASON_NOT_FOUND,
)
from tests.integration.fetcher.ground import NODE
from tests.support.fetcher_node import Driver, FetcherNode, connected_driver
from tests.support.nats_server import NatsServer


def make_model(node: FetcherNode, path: str) -> Path:
    directory = node.path(path)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    return directory


async def test_a_directory_of_the_node_is_ready_where_it_lies(driver: Driver, node: FetcherNode) -> None:
    make_model(node, "/models/mine")

    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.path == "/models/mine"
    assert not state.HasField("artifact")


async def test_a_missing_directory_fails_and_recovers_when_it_appears(driver: Driver, node: FetcherNode) -> None:
    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_NOT_FOUND
    assert state.problem.HasField("retry_at")

    make_model(node, "/models/mine")

    await driver.state("a", NODE_PHASE_READY)


@pytest.mark.parametrize("path", ["/etc", "/models/link"])
async def test_a_directory_outside_the_model_roots_is_refused(driver: Driver, node: FetcherNode, path: str) -> None:
    node.path("/etc").mkdir()
    node.path("/models/link").symlink_to("/etc")

    await driver.hold("a", f"local://{path}")
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INVALID_PATH
    assert not state.problem.HasField("retry_at"), "only another spec can help"


async def test_deletion_of_a_local_model_touches_nothing(driver: Driver, node: FetcherNode) -> None:
    directory = make_model(node, "/models/mine")
    await driver.hold("a", "local:///models/mine")
    await driver.state("a", NODE_PHASE_READY)

    revision = await driver.drop("a")

    await driver.state("a", NODE_PHASE_DELETED, revision)
    assert (directory / "config.json").exists()


async def test_deletion_of_a_model_that_was_never_there_is_confirmed(driver: Driver, node: FetcherNode) -> None:
    revision = await driver.drop("never")

    await driver.state("never", NODE_PHASE_DELETED, revision)


async def test_a_bad_uri_fails_its_model_and_no_other(driver: Driver, node: FetcherNode) -> None:
    make_model(node, "/models/mine")
    await driver.hold("bad", "ftp://somewhere")
    await driver.state("bad", NODE_PHASE_FAILED)

    await driver.hold("good", "local:///models/mine")
    await driver.state("good", NODE_PHASE_READY)

    revision = await driver.drop("bad")
    await driver.state("bad", NODE_PHASE_DELETED, revision)


async def test_an_assignment_that_cannot_be_read_fails_its_model_and_no_other(
    driver: Driver, node: FetcherNode
) -> None:
    make_model(node, "/models/mine")
    await put_if(driver.js, DESIRED_BUCKET, node_key(NODE, "bad"), b"\xff\xff", None)
    await driver.state("bad", NODE_PHASE_FAILED)

    await driver.hold("good", "local:///models/mine")
    await driver.state("good", NODE_PHASE_READY)


async def test_a_root_that_another_process_holds_is_waited_for_before_a_deletion_is_confirmed(
    driver: Driver, node: FetcherNode
) -> None:
    await node.stop()
    with node.path("/raid/models/.ome/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await node.launch()
        revision = await driver.drop("a")
        state = await driver.state("a", NODE_PHASE_FAILED, revision)
    assert "/raid/models" in state.problem.message

    await driver.state("a", NODE_PHASE_DELETED, revision)


async def test_restart_says_nothing_new_about_a_ready_model(driver: Driver, node: FetcherNode) -> None:
    make_model(node, "/models/mine")
    await driver.hold("a", "local:///models/mine", skip_parsing=True)
    await driver.state("a", NODE_PHASE_READY)

    await node.kill()
    await node.start()
    # What is asked for last is answered last.
    await driver.hold("b", "local:///models/mine", skip_parsing=True)
    await driver.state("b", NODE_PHASE_READY)

    assert [uid for uid, _ in driver.history] == ["a", "b"]


async def test_assignments_of_a_time_without_the_fetcher_are_caught_up_with(driver: Driver, node: FetcherNode) -> None:
    make_model(node, "/models/mine")
    await node.stop()
    await driver.hold("a", "local:///models/mine")
    await driver.drop("b")

    await node.start()

    await driver.state("a", NODE_PHASE_READY)
    await driver.state("b", NODE_PHASE_DELETED)


async def test_a_restarted_nats_server_is_found_again(driver: Driver, node: FetcherNode, server: NatsServer) -> None:
    make_model(node, "/models/mine")
    await driver.hold("a", "local:///models/mine")
    await driver.state("a", NODE_PHASE_READY)

    await server.kill()
    await server.start()
    await node.ready()
    async with connected_driver(server, NODE) as again:
        await again.hold("b", "local:///models/mine")
        await again.state("b", NODE_PHASE_READY)


async def test_heartbeat_names_the_roots_and_their_room(driver: Driver, node: FetcherNode) -> None:
    heartbeat = await driver.heartbeat()

    assert heartbeat.node == NODE
    assert [root.root for root in heartbeat.roots] == ["/models", "/raid/models"]
    assert all(0 < root.free_bytes <= root.total_bytes for root in heartbeat.roots)


async def test_termination_is_clean_and_nothing_was_denied(driver: Driver, node: FetcherNode) -> None:
    make_model(node, "/models/mine")
    await driver.hold("a", "local:///models/mine")
    await driver.state("a", NODE_PHASE_READY)

    assert await node.stop() == 0
    assert "permissions violation" not in node.log.lower()
