"""The whole fetcher on a disk that fails: a reason with the place, nothing half done, right bytes once it is mended."""

import pytest

from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_ARTIFACT_DAMAGED,
    REASON_DISK_ERROR,
    REASON_INSUFFICIENT_DISK,
)
from services.fetcher.transfer.limits import Limits
from tests.integration.fetcher.ground import SHARD, URI, fetched_bytes, hold_and_wait, listed_digests, shards
from tests.support.broken_disk import SUPPORTED
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="no numbers of system calls for this machine")

BROKEN = "tests.support.broken_disk"
CONTENT = f"pwrite>={Limits().range_bytes}"
# The buffer of a scrub; nothing else reads in pieces of this size.
SCRUB = "read>=1048576"


@pytest.mark.parametrize(
    ("code", "operation", "reason", "words"),
    [
        ("EIO", CONTENT, REASON_DISK_ERROR, ("/models/.ome/staging/", "Input/output error")),
        ("EIO", "fsync", REASON_DISK_ERROR, ("/models/.ome/staging/", "Input/output error")),
        ("EIO", "symlink", REASON_DISK_ERROR, ("/models/a", "Input/output error")),
        ("EROFS", CONTENT, REASON_DISK_ERROR, ("/models/.ome/staging/", "Read-only file system")),
        ("ENOSPC", CONTENT, REASON_INSUFFICIENT_DISK, ("/models is full", "Free some space")),
    ],
)
async def test_a_model_on_a_broken_disk_fails_with_the_place_and_comes_when_the_disk_is_mended(
    driver: Driver, node: FetcherNode, hub: Hub, code: str, operation: str, reason: int, words: tuple[str, ...]
) -> None:
    await node.start(BROKEN, code, operation)
    revision = await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == reason
    assert all(word in state.problem.message for word in words), state.problem.message
    assert str(node.host) not in state.problem.message, "the path is the node's, not ours"
    assert state.problem.HasField("retry_at")
    assert not node.path("/models/a").exists()
    assert await node.stop() == 0

    await node.start()
    await driver.state("a", NODE_PHASE_READY, revision)

    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")
    assert not list(node.path("/models/.ome/staging").iterdir())


async def test_a_scrub_that_cannot_read_withdraws_the_model_until_it_is_repaired(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await node.start()
    await hold_and_wait(driver, "a", "/models/a")
    await node.stop()
    hub.forget_requests()

    await node.start(BROKEN, "EIO", SCRUB, OME_SCRUB_INTERVAL_SECONDS="1", OME_SCRUB_BYTES_PER_SECOND="1e9")
    state = await driver.state("a", lambda state: state.problem.reason == REASON_ARTIFACT_DAMAGED)
    assert state.phase == NODE_PHASE_UPDATING
    assert "model-0000" in state.problem.message
    await node.kill()

    await node.start()
    await driver.state("a", NODE_PHASE_READY)
    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")
    assert fetched_bytes(hub, "*/model-00001-*") >= SHARD
