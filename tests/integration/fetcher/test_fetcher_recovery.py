"""What the fetcher makes of crashes, restarts and bytes that are wrong."""

import asyncio
import os
from pathlib import Path

from libs.artifact.names import FACTS_BUCKET, OBSERVED_BUCKET, progress_subject
from ome.fetch.v1.fetch_pb2 import Progress, Verification
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_ARTIFACT_DAMAGED,
    REASON_CHECKSUM_MISMATCH,
    REASON_UNAVAILABLE,
)
from tests.integration.fetcher.ground import (
    NODE,
    SHARD,
    URI,
    digests,
    fetched_bytes,
    hold_and_wait,
    listed_digests,
    shards,
)
from tests.support.fetcher_node import Driver, FetcherNode, running_parser
from tests.support.hub import Fault, Hub, generated_model
from tests.support.nats_server import NatsServer


async def test_killed_in_the_middle_it_resumes_and_fetches_nothing_twice_that_was_verified(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    progress = await driver.client.subscribe(progress_subject(NODE, "a"))
    # Refused, not stalled: what is asked for on one connection after a stalled answer waits for that answer.
    refused = hub.inject(Fault("status", path="*/model-00002-*", status=503))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    refused.wait_fired()
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


async def test_a_download_goes_on_while_nats_is_away_and_is_reported_when_it_is_back(
    driver: Driver, node: FetcherNode, hub: Hub, server: NatsServer
) -> None:
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=1000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()

    await server.kill()
    stall.release()
    async with asyncio.timeout(60):
        while not node.path("/models/a").exists():
            await asyncio.sleep(0.05)
    await server.start()

    await driver.state("a", NODE_PHASE_READY)


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


async def test_restart_keeps_a_model_ready_without_a_word_a_byte_or_a_parse(
    driver: Driver, node: FetcherNode, hub: Hub, tmp_path: Path
) -> None:
    await node.stop()
    async with running_parser(tmp_path) as parser:
        await node.start(OME_PARSER_ADDRESS=parser)
        await hold_and_wait(driver, "a", "/models/a")
        said = len(driver.history)
        hub.forget_requests()

        await node.kill()
        await node.start(OME_PARSER_ADDRESS=parser)
        revision = await driver.drop("marker")
        await driver.state("marker", NODE_PHASE_DELETED, revision)

        assert [uid for uid, _ in driver.history[said:] if uid == "a"] == []
        assert hub.requests() == []
        assert not [name for name in await node.metrics() if name.startswith("ome_fetcher_parses_total{")]


async def test_facts_that_nats_has_lost_with_the_report_are_shared_again(
    driver: Driver, node: FetcherNode, server: NatsServer, tmp_path: Path
) -> None:
    async with running_parser(tmp_path) as address:
        await node.stop()
        await node.start(OME_PARSER_ADDRESS=address)
        await hold_and_wait(driver, "a", "/models/a")
        said = await driver.state("a", lambda state: bool(state.facts_key))
        assert not said.HasField("facts")
        assert (await driver.facts(said)).model_type == "llama"

        for bucket in (FACTS_BUCKET, OBSERVED_BUCKET):
            await driver.js.purge_stream(f"KV_{bucket}")
        driver.reconnected()
        await server.kill()
        await server.start()

        again = await driver.state("a", lambda state: state.phase_since != said.phase_since)
        assert again.facts_key == said.facts_key
        assert (await driver.facts(again)).model_type == "llama"


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


async def test_another_attempt_that_takes_long_is_waited_for_without_spinning(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    corrupt = hub.inject(Fault("corrupt", path="*/model-00002-*", offset=SHARD // 2))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    await driver.state("a", NODE_PHASE_FAILED)
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=0))
    corrupt.remove()
    stall.wait_fired()

    before = node.processor_seconds()
    await driver.heartbeats(4)
    assert node.processor_seconds() - before < 0.5, "two seconds have passed"

    stall.release()
    await driver.state("a", NODE_PHASE_READY)


async def test_a_deletion_right_after_a_failure_does_not_wait_for_the_next_attempt(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    hub.inject(Fault("status", path="*/model-00002-*", status=404))
    await node.stop()
    await node.start(OME_RETRY_INITIAL_SECONDS="60", OME_RETRY_MAX_SECONDS="60")
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    await driver.state("a", NODE_PHASE_FAILED)

    await driver.state("a", NODE_PHASE_DELETED, await driver.drop("a"))

    assert node.leftovers() == []


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


def flip_a_bit(node: FetcherNode) -> Path:
    """Damage a file of the model a, which keeps its size."""
    shard = next(node.path("/models/a").glob("model-00001-*"))
    os.chmod(shard, 0o600)
    with shard.open("r+b") as content:
        content.seek(SHARD // 2)
        byte = content.read(1)
        content.seek(SHARD // 2)
        content.write(bytes([byte[0] ^ 1]))
    return shard


async def test_a_flipped_bit_is_found_by_the_scrub_and_repaired(driver: Driver, node: FetcherNode, hub: Hub) -> None:
    await node.stop()
    await node.start(OME_SCRUB_INTERVAL_SECONDS="1", OME_SCRUB_BYTES_PER_SECOND="1e9")
    await hold_and_wait(driver, "a", "/models/a")
    intact = digests(node.path("/models/a"))

    flip_a_bit(node)
    await driver.state("a", lambda state: state.problem.reason == REASON_ARTIFACT_DAMAGED)
    await driver.state("a", NODE_PHASE_READY)

    assert digests(node.path("/models/a")) == intact


async def test_an_earlier_copy_that_loses_files_is_not_shown_while_another_cannot_come(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    old = await hold_and_wait(driver, "a", "/models/a")
    hub.add_model("org/model", {"config.json": '{"model_type": "bert"}'}, generated=generated_model(1 << 20, seed=7))
    hub.inject(Fault("status", path="*.safetensors", status=503))
    revision = await driver.hold("a", URI, await driver.artifact(URI, uid="again"), "/models/a")
    state = await driver.state("a", lambda state: state.problem.reason == REASON_UNAVAILABLE, revision)
    assert (state.phase, state.artifact.digest) == (NODE_PHASE_READY, old.digest)

    (node.path("/models/a") / "config.json").unlink()

    state = await driver.state("a", lambda state: state.phase != NODE_PHASE_READY, revision)
    assert not state.artifact.digest
    hub.clear_faults()
    await driver.state("a", NODE_PHASE_READY, revision)


async def test_a_copy_is_read_once_for_each_request_and_damage_is_told_and_repaired(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    await hold_and_wait(driver, "a", "/models/a")
    intact = digests(node.path("/models/a"))

    async def ask(request: str) -> Verification:
        await hold_and_wait(driver, "a", "/models/a", verify=request)
        answered = await driver.state("a", lambda state: state.verification.request == request)
        return answered.verification

    sound = await ask("dawn")
    assert (sound.damaged, sound.problem) == (0, "")
    assert sound.bytes == sum(path.stat().st_size for path in node.path("/models/a").iterdir())

    before = next(node.path("/models/a").glob("model-00001-*")).stat()
    # As a disk loses a bit: no time of the file tells of it.
    os.utime(flip_a_bit(node), ns=(before.st_atime_ns, before.st_mtime_ns))
    damaged = await ask("noon")
    assert damaged.damaged == 1
    assert damaged.files[0].startswith("model-00001-")
    assert damaged.finished_at.seconds >= sound.finished_at.seconds
    repaired = await driver.state("a", lambda state: state.phase == NODE_PHASE_READY and not state.update)
    assert repaired.verification == damaged, "what was found is told on"
    assert digests(node.path("/models/a")) == intact

    # Neither a restart nor another assignment asks again.
    read = (await node.metrics())["ome_fetcher_verified_bytes_total"]
    assert read == sound.bytes + damaged.bytes
    await node.stop()
    await node.start()
    await hold_and_wait(driver, "a", "/models/a", verify="noon", priority=7)
    assert (await node.metrics())["ome_fetcher_verified_bytes_total"] == 0
    assert (await driver.state("a", NODE_PHASE_READY)).verification == damaged
