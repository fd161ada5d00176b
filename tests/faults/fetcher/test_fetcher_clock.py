"""The clock of a node is set to another year while everything is pending: nothing waits for it, nothing spins."""

import time
from pathlib import Path

import pytest

from libs.artifact.names import FACTS_BUCKET, facts_key
from libs.chassis.nats_client import put_if
from ome.fetch.v1.fetch_pb2 import SharedFacts
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, REASON_ARTIFACT_DAMAGED, Artifact
from ome.parser.v1.parser_pb2 import ModelFacts
from services.fetcher.fleet.shared_facts import FactsExchange
from tests.integration.fetcher.ground import SHARD, URI, listed_digests, shards
from tests.support.fetcher_node import Driver, FetcherNode, asking_as
from tests.support.hub import Fault, Hub
from tests.support.nats_server import NatsServer
from tests.support.wall_clock import set_clock

YEAR = 365 * 86_400


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    file = tmp_path / "clock"
    set_clock(file, 0)
    return file


@pytest.mark.parametrize("jump", [-YEAR, -7200, 7200, YEAR])
async def test_a_retry_that_is_pending_comes_in_its_time_and_not_all_the_time(
    driver: Driver, node: FetcherNode, hub: Hub, clock: Path, jump: int
) -> None:
    seconds = {"OME_RETRY_INITIAL_SECONDS": "1", "OME_RETRY_MAX_SECONDS": "1"}
    await node.start("tests.support.wall_clock", str(clock), **seconds)
    fault = hub.inject(Fault("status", path="*/model-00002-*", status=404))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    before = await driver.state("a", NODE_PHASE_FAILED)
    set_clock(clock, jump)
    started, attempts = time.monotonic(), node.log.count("model_set_back")
    await driver.heartbeats(4)
    assert node.log.count("model_set_back") - attempts <= 2 + (time.monotonic() - started), "one in each second"

    fault.remove()
    state = await driver.state("a", NODE_PHASE_READY)

    assert abs(state.phase_since.ToSeconds() - time.time() - jump) < 60, "the clock was set"
    assert abs(before.problem.retry_at.ToSeconds() - time.time()) < 60
    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
async def test_a_download_heartbeats_and_scrubs_go_on(
    driver: Driver, node: FetcherNode, hub: Hub, clock: Path, jump: int
) -> None:
    scrub = {"OME_SCRUB_INTERVAL_SECONDS": "1", "OME_SCRUB_BYTES_PER_SECOND": "1e9"}
    await node.start("tests.support.wall_clock", str(clock), **scrub)
    stall = hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=1000))
    await driver.hold("a", URI, await driver.artifact(URI), "/models/a")
    stall.wait_fired()
    set_clock(clock, jump)
    await driver.heartbeats(2)
    stall.release()
    await driver.state("a", NODE_PHASE_READY)
    assert node.log.count("model_set_back") == 0

    shard = next(node.path("/models/a").glob("model-00001-*"))
    with shard.open("r+b") as content:
        content.seek(SHARD // 2)
        content.write(b"damaged")
    await driver.state("a", lambda state: state.problem.reason == REASON_ARTIFACT_DAMAGED)
    await driver.state("a", NODE_PHASE_READY)
    assert listed_digests(hub, list(shards(node, "/models/a"))) == shards(node, "/models/a")


async def test_a_start_in_another_year_knows_what_it_holds(
    driver: Driver, node: FetcherNode, hub: Hub, clock: Path
) -> None:
    await node.start()
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, "/models/a", skip_parsing=True)
    await driver.state("a", NODE_PHASE_READY)
    await node.kill()
    said = len(driver.history)
    hub.forget_requests()
    set_clock(clock, -YEAR)
    await node.start("tests.support.wall_clock", str(clock))
    await driver.hold("b", URI, artifact, "/models/b", skip_parsing=True)
    await driver.state("b", NODE_PHASE_READY)
    assert [uid for uid, _ in driver.history[said:] if uid == "a"] == []
    assert hub.sent_bytes("*.safetensors") == 0


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
async def test_a_claim_of_a_node_in_another_year_is_waited_for_no_longer_than_others(
    driver: Driver, server: NatsServer, jump: int
) -> None:
    digest = "sha256:" + "0" * 64
    claim = SharedFacts(claimed_by="there")
    claim.claimed_at.FromSeconds(int(time.time()) + jump)
    await put_if(driver.js, FACTS_BUCKET, facts_key(digest, "", "version"), claim.SerializeToString(), 0)
    await driver.hold("a", URI, Artifact(digest=digest))

    async def parse() -> ModelFacts:
        return ModelFacts(model_type="llama")

    async with asking_as(server, driver.node) as gateway:
        facts = FactsExchange(gateway, driver.node, "version", claim_seconds=0.3)
        assert (await facts.get(digest, "", parse)).facts.model_type == "llama"
