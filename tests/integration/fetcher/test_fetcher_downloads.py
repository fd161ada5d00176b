"""The fetcher with models that it downloads: from the listing to the bytes on disk, and what goes wrong between."""

import asyncio
import os
from collections.abc import Callable

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.names import MANIFESTS_BUCKET, progress_subject
from libs.model.manifest_codec import encode_manifest
from ome.fetch.v1.fetch_pb2 import Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_GATED,
    REASON_INSUFFICIENT_DISK,
    REASON_NOT_FOUND,
    Artifact,
)
from tests.integration.fetcher.ground import (
    MODEL,
    NODE,
    SHARD,
    URI,
    artifacts,
    digests,
    fetched_bytes,
    hold_and_wait,
    listed_digests,
)
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Fault, Hub, generated_model


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


async def test_deletion_does_not_wait_for_the_download_and_leaves_no_file(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    throttle = hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=20_000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    throttle.wait_fired()

    revision = await driver.drop("a")
    await driver.state("a", NODE_PHASE_DELETED, revision)

    assert node.leftovers() == []


async def test_deletion_of_one_model_does_not_wait_for_the_download_of_another(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/small", {"config.json": "{}"})
    await hold_and_wait(driver, "small", "/models/small", "hf://org/small")
    hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=20_000)).wait_fired(0)
    for uid in ("big", "big-too", "big-three"):
        hub.add_model(f"org/{uid}", generated=generated_model(SHARD, seed=len(uid)))
        await driver.hold(uid, f"hf://org/{uid}", await driver.artifact(f"hf://org/{uid}"))

    revision = await driver.drop("small")
    await driver.state("small", NODE_PHASE_DELETED, revision)


async def test_too_little_room_is_said_with_both_numbers_before_the_first_byte(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    huge = new_manifest("c", [ManifestFile("model.safetensors", 1 << 50, ChecksumAlgorithm.SHA256, "0" * 64)])
    manifests = await driver.js.object_store(MANIFESTS_BUCKET)
    await manifests.put(huge.digest, encode_manifest(huge))

    await driver.hold("a", URI, Artifact(digest=huge.digest, bytes=huge.size_bytes, files=1), "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)

    assert state.problem.reason == REASON_INSUFFICIENT_DISK
    assert "the model needs 1 PiB" in state.problem.message
    assert "free" in state.problem.message
    assert hub.requests() == []


async def test_a_new_revision_takes_the_place_of_the_old_one_which_is_readable_until_then(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    old = await hold_and_wait(driver, "a", "/models/a")
    hub.push(MODEL, {"config.json": '{"model_type": "other"}'}, generated=generated_model(2 * SHARD, 2, seed=1))
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=0))
    new = await driver.resolve(URI, attempt=2)
    revision = await driver.hold("a", URI, new.artifact, "/models/a")
    state = await driver.state("a", lambda state: state.update == NODE_PHASE_UPDATING, revision)
    stall.wait_fired()
    assert state.artifact == old
    assert "llama" in (node.path("/models/a") / "config.json").read_text()

    stall.release()
    await driver.state("a", NODE_PHASE_READY, revision)

    assert "other" in (node.path("/models/a") / "config.json").read_text()
    await driver.state("a", lambda state: not state.held, revision)
    assert len(artifacts(node)) == 1


async def test_a_changed_assignment_ends_the_download_of_the_old_one(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/small", {"config.json": "{}"})
    small = await driver.artifact("hf://org/small")
    throttle = hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=20_000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    throttle.wait_fired()

    revision = await driver.hold("a", "hf://org/small", small, "/models/a")
    await driver.state("a", NODE_PHASE_READY, revision)

    assert list(node.path("/models/.ome/staging").iterdir()) == []


async def test_what_listing_cannot_find_or_may_not_see_is_answered_with_a_reason(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/gated", {"config.json": "{}"}, gated=True)
    hub.set_access("org/gated", listing_gated=True)

    missing = await driver.resolve("hf://org/nowhere")
    gated = await driver.resolve("hf://org/gated")

    assert missing.problem.reason == REASON_NOT_FOUND
    assert gated.problem.reason == REASON_GATED


async def test_a_source_that_is_gone_keeps_what_was_listed_and_says_when_it_was_asked_last(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/passing", {"config.json": "{}"})
    listed = await driver.resolve("hf://org/passing")
    hub.delete_model("org/passing")

    again = await driver.resolve("hf://org/passing", attempt=2)

    assert again.artifact == listed.artifact
    assert again.problem.reason == REASON_NOT_FOUND
    assert again.resolved_at.ToNanoseconds() > listed.resolved_at.ToNanoseconds()


async def test_a_gated_model_is_fetched_with_the_token_that_the_controller_hands_out(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.add_model("org/gated", {"config.json": "{}"}, generated=generated_model(SHARD), gated=True)
    hub.add_token("hf_secret_token", ["org/gated"])
    driver.secrets["a"] = {"token": b"hf_secret_token"}

    await driver.hold("a", "hf://org/gated", await driver.artifact("hf://org/gated", uid="a"), "/models/a")
    await driver.state("a", NODE_PHASE_READY)

    assert "hf_secret_token" not in node.log


async def test_progress_is_published_while_bytes_come(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    hub.inject(Fault("throttle", path="*.safetensors", bytes_per_second=100_000))
    subscription = await driver.client.subscribe(progress_subject(NODE, "a"))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")

    async def told(accepts: Callable[[Progress], bool]) -> Progress:
        async with asyncio.timeout(30):
            while not accepts(said := Progress.FromString((await subscription.next_msg(10)).data)):
                pass
        return said

    def moved(said: Progress) -> bool:
        files = {file.path: file for file in said.files}
        return said.bytes_done > before.bytes_done and all(
            files[file.path].bytes_done > file.bytes_done for file in before.files
        )

    # The first may be from before a file was opened.
    before = await told(lambda said: len(said.files) > 0)
    after = await told(moved)

    assert after.bytes_done < after.bytes_total
    assert after.bytes_per_second > 0
    for file in after.files:
        assert file.path.endswith(".safetensors")
        assert file.bytes_done < file.bytes_total < after.bytes_total
        assert file.bytes_per_second > 0


async def test_an_idle_fetcher_is_small(driver: Driver, node: FetcherNode) -> None:
    assert node.resident_bytes() < 80 << 20
