"""The fetcher with models that it downloads: from the listing to the bytes on disk, and through what goes wrong between."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.names import MANIFESTS_BUCKET, progress_subject
from ome.fetch.v1.fetch_pb2 import Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_ARTIFACT_DAMAGED,
    REASON_CHECKSUM_MISMATCH,
    REASON_GATED,
    REASON_INSUFFICIENT_DISK,
    REASON_INVALID_PATH,
    REASON_NOT_FOUND,
    REASON_PATH_CONFLICT,
    REASON_PATH_OCCUPIED,
    Artifact,
)
from services.fetcher.manifest_codec import encode_manifest
from tests.support.fetcher_node import Driver, FetcherNode, connected_driver, nats_configuration
from tests.support.hub import Fault, Hub, generated_model
from tests.support.nats_server import NatsServer

NODE = "node-1"
SHARD = 8 << 20
MODEL, URI = "org/model", "hf://org/model"


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    with Hub(real_model=False) as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    """A hub with one model of two shards and no faults."""
    shared_hub.add_model(MODEL, {"config.json": '{"model_type": "llama"}'}, generated=generated_model(2 * SHARD, 2))
    shared_hub.forget_requests()
    yield shared_hub
    shared_hub.clear_faults()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path, nats_configuration(NODE))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def driver(server: NatsServer) -> AsyncIterator[Driver]:
    async with connected_driver(server, NODE) as driver:
        yield driver


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    node = FetcherNode(tmp_path, server.url, NODE, {"HF_ENDPOINT": hub.endpoint})
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
        print(node.log)
        assert "permissions violation" not in node.log.lower()


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def listed_digests(hub: Hub, names: list[str]) -> dict[str, str]:
    """What the hub itself says about its large files."""
    sent = {request.path.rpartition("/")[2]: request.path.split("/")[-2] for request in hub.requests(port="cdn")}
    return {name: sent[name] for name in names}


def fetched_bytes(hub: Hub, path: str) -> int:
    """Bytes of large files that were sent; the redirects to them have bodies as well."""
    return sum(request.bytes_sent for request in hub.requests(path, port="cdn"))


def artifacts(node: FetcherNode, root: str = "/models") -> list[str]:
    return sorted(path.name for path in node.path(f"{root}/.ome/artifacts").iterdir())


async def hold_and_wait(driver: Driver, uid: str, path: str = "", uri: str = URI) -> Artifact:
    artifact = await driver.artifact(uri)
    revision = await driver.hold(uid, uri, artifact, path)
    await driver.state(uid, NODE_PHASE_READY, revision)
    return artifact


async def test_a_model_is_fetched_once_verified_and_published_as_a_relative_link(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/team/a")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.path == "/models/team/a"
    assert state.artifact == artifact
    assert artifact.bytes == sum(path.stat().st_size for path in node.path("/models/team/a").iterdir())
    assert os.readlink(node.path("/models/team/a")).startswith("../.ome/artifacts/sha256-")
    shards = [name for name in digests(node.path("/models/team/a")) if name.endswith(".safetensors")]
    assert len(shards) == 2
    assert listed_digests(hub, shards) == {name: digests(node.path("/models/team/a"))[name] for name in shards}
    assert fetched_bytes(hub, "*.safetensors") == 2 * SHARD, "every byte came once"


async def test_a_model_without_a_path_lies_below_the_first_root_by_kind_and_name(
    driver: Driver, node: FetcherNode
) -> None:
    await hold_and_wait(driver, "mine")

    assert node.path("/models/clusterbasemodel/mine/config.json").is_file()


async def test_killed_in_the_middle_it_resumes_and_fetches_nothing_twice_that_was_verified(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    progress = await driver.client.subscribe(progress_subject(NODE, "a"))
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=0))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    done = Progress()
    while done.files_total == 0 or done.files_done < done.files_total - 1:
        done = Progress.FromString((await progress.next_msg(10)).data)

    await node.kill()
    hub.clear_faults()
    assert not node.path("/models/a").exists(), "nobody sees half a model"
    await node.start()
    await driver.state("a", NODE_PHASE_READY)

    assert fetched_bytes(hub, "*/model-00001-*") == SHARD
    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")


def shards(node: FetcherNode, path: str) -> dict[str, str]:
    return {name: value for name, value in digests(node.path(path)).items() if name.endswith(".safetensors")}


async def test_terminated_in_the_middle_it_ends_in_order_and_resumes(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    stall = hub.inject(Fault("stall", path="*.safetensors", after_bytes=1000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()

    assert await node.stop() == 0

    hub.clear_faults()
    await node.start()
    await driver.state("a", NODE_PHASE_READY)


async def test_deletion_does_not_wait_for_the_download_and_leaves_no_file(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    throttle = hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=200_000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    throttle.wait_fired()

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision, seconds=3)

    assert node.leftovers() == []


async def test_deletion_of_one_model_does_not_wait_for_the_download_of_another(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/small", {"config.json": "{}"})
    await hold_and_wait(driver, "small", "/models/small", "hf://org/small")
    hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=200_000)).wait_fired(0)
    for uid in ("big", "big-too", "big-three"):
        hub.add_model(f"org/{uid}", generated=generated_model(SHARD, seed=len(uid)))
        await driver.hold(uid, f"hf://org/{uid}", await driver.artifact(f"hf://org/{uid}"))

    revision = await driver.drop("small")
    await driver.state("small", NODE_PHASE_DELETED, revision, seconds=2)


async def test_a_deletion_that_came_while_the_fetcher_was_away_removes_what_it_had_begun(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=1000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    await node.kill()
    revision = await driver.drop("a")

    await node.start()
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == []


async def test_restart_keeps_a_model_ready_without_a_word_or_a_byte(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    said = len(driver.history)
    hub.forget_requests()

    await node.kill()
    await node.start()
    revision = await driver.drop("marker")
    await driver.state("marker", NODE_PHASE_DELETED, revision)

    assert [uid for uid, _ in driver.history[said:] if uid == "a"] == []
    assert hub.requests() == []


async def test_a_corrupted_origin_fails_with_its_reason_and_recovers_by_itself(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    corrupt = hub.inject(Fault("corrupt", path="*/model-00002-*", offset=SHARD // 2))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    corrupt.wait_fired()
    assert state.problem.reason == REASON_CHECKSUM_MISMATCH
    assert state.problem.HasField("retry_at")
    assert not node.path("/models/a").exists()

    corrupt.remove()
    await driver.state("a", NODE_PHASE_READY)

    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")


async def test_too_little_room_is_said_with_both_numbers_before_the_first_byte(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    huge = new_manifest("c", [ManifestFile("model.safetensors", 1 << 50, ChecksumAlgorithm.SHA256, "0" * 64)])
    manifests = await driver.js.object_store(MANIFESTS_BUCKET)
    await manifests.put(huge.digest, encode_manifest(huge))

    await driver.hold("a", URI, Artifact(digest=huge.digest, bytes=huge.size_bytes, files=1), "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INSUFFICIENT_DISK
    assert str(1 << 50) in state.problem.message
    assert "free" in state.problem.message
    assert hub.requests() == []


@pytest.mark.parametrize(
    "path", ["/etc/model", "/models/../etc/model", "/models", "/models/.ome/artifacts", "models/a"]
)
async def test_an_unsafe_path_is_refused_before_anything_is_fetched(
    driver: Driver, node: FetcherNode, hub: Hub, path: str
) -> None:
    artifact = await driver.artifact(URI)
    hub.forget_requests()
    await driver.hold("a", URI, artifact, path)
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INVALID_PATH
    assert not state.problem.HasField("retry_at")
    assert hub.requests() == []
    assert node.leftovers() == []

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision)


async def test_a_foreign_directory_is_left_alone_and_the_model_comes_when_it_has_been_moved(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    foreign = node.path("/models/a")
    foreign.mkdir()
    (foreign / "precious").write_text("mine")
    artifact = await driver.artifact(URI)
    hub.forget_requests()
    await driver.hold("a", URI, artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_PATH_OCCUPIED
    assert (foreign / "precious").read_text() == "mine"
    assert hub.requests() == []

    foreign.rename(node.path("/models/elsewhere"))

    await driver.state("a", NODE_PHASE_READY)


async def test_deletion_of_a_model_over_a_foreign_directory_leaves_that_alone(
    driver: Driver, node: FetcherNode
) -> None:
    node.path("/models/a").mkdir()
    (node.path("/models/a") / "precious").write_text("mine")
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    await driver.state("a", NODE_PHASE_FAILED)

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == ["models/a/precious"]


async def test_a_link_in_the_way_of_a_path_is_not_followed(driver: Driver, node: FetcherNode) -> None:
    node.path("/outside").mkdir()
    node.path("/models/link").symlink_to(node.path("/outside"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/link/a")
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INVALID_PATH
    assert list(node.path("/outside").iterdir()) == []


async def test_two_models_cannot_have_one_path(driver: Driver, node: FetcherNode) -> None:
    artifact = await hold_and_wait(driver, "first", "/models/a")
    await driver.hold("second", URI, artifact, "/models/a")
    state = await driver.state("second", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_PATH_CONFLICT

    revision = await driver.drop("first")
    await driver.state("first", NODE_PHASE_DELETED, revision)

    await driver.state("second", NODE_PHASE_READY)


async def test_a_new_revision_takes_the_place_of_the_old_one_which_is_readable_until_then(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    old = await hold_and_wait(driver, "a", "/models/a")
    hub.push(MODEL, {"config.json": '{"model_type": "other"}'}, generated=generated_model(2 * SHARD, 2, seed=1))
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=0))
    new = await driver.resolve(URI, attempt=2)
    revision = await driver.hold("a", URI, new.artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_UPDATING, revision)
    stall.wait_fired()
    assert state.artifact == old
    assert "llama" in (node.path("/models/a") / "config.json").read_text()

    stall.release()
    await driver.state("a", NODE_PHASE_READY, revision)

    assert "other" in (node.path("/models/a") / "config.json").read_text()
    assert len(artifacts(node)) == 1


async def test_a_changed_assignment_ends_the_download_of_the_old_one(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/small", {"config.json": "{}"})
    small = await driver.artifact("hf://org/small")
    throttle = hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=200_000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    throttle.wait_fired()

    revision = await driver.hold("a", "hf://org/small", small, "/models/a")
    await driver.state("a", NODE_PHASE_READY, revision, seconds=5)

    assert list(node.path("/models/.ome/staging").iterdir()) == []


async def test_a_changed_path_moves_no_bytes(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    artifact = await hold_and_wait(driver, "a", "/models/a")
    hub.forget_requests()

    revision = await driver.hold("a", URI, artifact, "/models/deep/b")
    state = await driver.state("a", NODE_PHASE_READY, revision)

    assert state.path == "/models/deep/b"
    assert (node.path("/models/deep/b") / "config.json").is_file()
    assert not node.path("/models/a").is_symlink()
    assert hub.requests() == []


async def test_two_models_with_equal_files_share_one_copy_until_the_last_goes(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/a")
    await driver.hold("b", URI, artifact, "/models/b")
    await driver.state("a", NODE_PHASE_READY)
    await driver.state("b", NODE_PHASE_READY)
    assert len(artifacts(node)) == 1
    assert fetched_bytes(hub, "*.safetensors") == 2 * SHARD

    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"))
    assert (node.path("/models/b") / "config.json").is_file()
    await driver.state("b", NODE_PHASE_DELETED, await driver.drop("b"))

    assert node.leftovers() == []


async def test_what_listing_cannot_find_or_may_not_see_is_answered_with_a_reason(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/gated", {"config.json": "{}"}, gated=True)
    hub.set_access("org/gated", listing_gated=True)

    missing = await driver.resolve("hf://org/nowhere")
    gated = await driver.resolve("hf://org/gated")

    assert missing.problem.reason == REASON_NOT_FOUND
    assert gated.problem.reason == REASON_GATED


async def test_a_gated_model_is_fetched_with_the_token_that_the_controller_hands_out(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/gated", {"config.json": "{}"}, generated=generated_model(SHARD), gated=True)
    hub.add_token("hf_secret_token", ["org/gated"])
    driver.secrets["a"] = {"token": b"hf_secret_token"}

    await driver.hold("a", "hf://org/gated", await driver.artifact("hf://org/gated", uid="a"), "/models/a")
    await driver.state("a", NODE_PHASE_READY)

    assert "hf_secret_token" not in node.log


async def test_a_truncated_file_is_noticed_and_repaired_alone(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_RECHECK_SECONDS="0.3")
    await hold_and_wait(driver, "a", "/models/a")
    intact = digests(node.path("/models/a"))
    hub.forget_requests()

    os.truncate(next(node.path("/models/a").glob("model-00001-*")), 1)
    await driver.state("a", lambda state: state.problem.reason == REASON_ARTIFACT_DAMAGED)
    await driver.state("a", NODE_PHASE_READY)

    assert digests(node.path("/models/a")) == intact
    assert fetched_bytes(hub, "*/model-00002-*") == 0


async def test_a_flipped_bit_is_found_by_the_scrub_and_repaired(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_SCRUB_INTERVAL_SECONDS="1", OME_SCRUB_BYTES_PER_SECOND="1e9")
    await hold_and_wait(driver, "a", "/models/a")
    intact = digests(node.path("/models/a"))

    shard = next(node.path("/models/a").glob("model-00001-*"))
    os.chmod(shard, 0o600)
    with shard.open("r+b") as content:
        content.seek(SHARD // 2)
        byte = content.read(1)
        content.seek(SHARD // 2)
        content.write(bytes([byte[0] ^ 1]))
    await driver.state("a", lambda state: state.problem.reason == REASON_ARTIFACT_DAMAGED)
    await driver.state("a", NODE_PHASE_READY)

    assert digests(node.path("/models/a")) == intact


async def test_a_key_that_is_merely_missing_removes_a_model_only_after_the_grace(
    driver: Driver, node: FetcherNode
) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    await node.stop()
    await driver.forget("a")
    await node.start()
    revision = await driver.drop("marker")
    await driver.state("marker", NODE_PHASE_DELETED, revision)
    assert node.path("/models/a").is_symlink(), "the grace of an hour has only begun"

    await node.stop()
    await node.start(OME_ORPHAN_GRACE_SECONDS="0.2")
    async with asyncio.timeout(10):
        while node.leftovers():
            await asyncio.sleep(0.05)


async def test_progress_is_published_while_bytes_come(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=1_000_000))
    subscription = await driver.client.subscribe(progress_subject(NODE, "a"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")

    messages = [Progress.FromString((await subscription.next_msg(10)).data) for _ in range(2)]

    assert messages[0].bytes_done < messages[1].bytes_done < messages[1].bytes_total
    assert messages[1].bytes_per_second > 0


async def test_an_idle_fetcher_is_small(driver: Driver, node: FetcherNode) -> None:
    status = Path(f"/proc/{node.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])

    assert resident < 80 << 10
