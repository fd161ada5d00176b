"""A fetcher, a resolver and a parser with models of which files are missing or damaged at the source."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.artifact.names import FACTS_BUCKET, OBSERVED_BUCKET, facts_key, node_key
from libs.chassis.nats_client import put_if
from ome.fetch.v1.fetch_pb2 import NodeModelState, SharedFacts
from ome.model.v1.model_pb2 import (
    NODE_PHASE_DELETED,
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_INCOMPLETE,
    WHOLENESS_INCOMPLETE,
    WHOLENESS_WHOLE,
)
from ome.parser.v1.parser_pb2 import ModelFacts
from tests.integration.fetcher.ground import NODE, SHARD, artifacts, fetched_bytes, hold_and_wait
from tests.support.fetcher_node import Driver, FetcherNode, running_node, running_parser
from tests.support.hub import Hub
from tests.support.nats_server import NatsServer
from tests.support.safetensors_files import whole_file
from tools.localcluster.addresses import free_port

CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
NAMES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4976698672\n"
NAME, URI, PATH = "org/broken", "hf://org/broken", "/models/broken"


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver, hub: Hub) -> AsyncIterator[FetcherNode]:
    async with running_parser(tmp_path) as address:
        environ = {"HF_ENDPOINT": hub.endpoint, "OME_PARSER_ADDRESS": address, "OME_RECHECK_SECONDS": "0.3"}
        async with running_node(tmp_path, server.url, NODE, environ) as node:
            yield node


def publish(hub: Hub, second: bytes | None) -> None:
    files = {"config.json": CONFIG.encode(), NAMES[0]: whole_file(SHARD, b"first")}
    if second is not None:
        files[NAMES[1]] = second
    hub.add_model(NAME, files)
    hub.forget_requests()


async def test_a_listing_with_a_shard_missing_is_refused_before_a_byte_is_fetched(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, None)

    resolution = await driver.resolve(URI)

    assert resolution.problem.reason == REASON_INCOMPLETE
    assert "model-00002-of-00002.safetensors is missing: there are 1 of 2 shards" in resolution.problem.message
    assert not resolution.HasField("artifact")
    assert fetched_bytes(hub, "*.safetensors") == 0


async def test_an_index_that_names_what_is_not_there_is_read_and_nothing_else(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    index = '{"weight_map": {"a": "%s", "b": "%s"}}'
    files = {"config.json": CONFIG.encode(), NAMES[0]: whole_file(SHARD, b"first")}
    hub.add_model("org/indexed", {**files, "model.safetensors.index.json": (index % tuple(NAMES)).encode()})
    hub.add_model("org/pruned", {**files, "model.safetensors.index.json": (index % (NAMES[0], NAMES[0])).encode()})
    hub.forget_requests()

    resolution = await driver.resolve("hf://org/indexed")

    assert resolution.problem.reason == REASON_INCOMPLETE
    assert "model.safetensors.index.json names 2 files and 1 is not there" in resolution.problem.message
    assert (await driver.resolve("hf://org/pruned")).artifact.digest, "the index knows better than the numbers"
    assert fetched_bytes(hub, "*.safetensors") == 0


async def test_what_only_the_bytes_tell_is_not_offered_and_only_what_was_mended_is_fetched_later(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, POINTER)
    broken = await driver.artifact(URI)
    revision = await driver.hold("a", URI, broken, PATH)
    state = await driver.state("a", NODE_PHASE_FAILED, revision)

    assert state.problem.reason == REASON_INCOMPLETE
    assert state.problem.message.startswith("model-00002-of-00002.safetensors is a Git LFS pointer")
    assert not node.path(PATH).exists(), "no reader is led to it"
    assert len(artifacts(node)) == 1, "what was fetched stays"
    facts = await driver.facts(state)
    assert (facts.model_type, facts.completeness.wholeness) == ("llama", WHOLENESS_INCOMPLETE)

    await node.kill()
    await node.start()
    await driver.state("a", lambda again: again.problem.reason == REASON_INCOMPLETE, revision)
    assert len(artifacts(node)) == 1

    publish(hub, whole_file(SHARD, b"second"))
    resolution = await driver.resolve(URI, attempt=2)
    revision = await driver.hold("a", URI, resolution.artifact, PATH)
    state = await driver.state("a", NODE_PHASE_READY, revision)
    assert (await driver.facts(state)).completeness.wholeness == WHOLENESS_WHOLE
    assert {path.name for path in node.path(PATH).iterdir()} >= set(NAMES)
    assert fetched_bytes(hub, "*.safetensors") == SHARD, "the first shard was there"
    assert len(artifacts(node)) == 1, "the broken one is gone"


async def test_a_model_that_may_be_incomplete_is_ready_until_it_may_not(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, POINTER)
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, PATH)
    await driver.state("a", NODE_PHASE_FAILED)

    revision = await driver.hold("a", URI, artifact, PATH, {"allowIncomplete": "true"}, generation=2)
    state = await driver.state("a", NODE_PHASE_READY, revision)
    assert (await driver.facts(state)).completeness.wholeness == WHOLENESS_INCOMPLETE
    assert fetched_bytes(hub, "*.safetensors") <= SHARD + len(POINTER), "nothing was fetched again"

    await node.kill()
    await node.start()
    revision = await driver.hold("a", URI, artifact, PATH, generation=3)
    state = await driver.state("a", NODE_PHASE_FAILED, revision)
    assert state.problem.reason == REASON_INCOMPLETE


async def test_an_earlier_revision_stays_at_the_path_when_the_next_is_incomplete(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, whole_file(SHARD, b"second"))
    whole = await hold_and_wait(driver, "a", PATH, URI)
    publish(hub, POINTER)
    resolution = await driver.resolve(URI, attempt=2)
    revision = await driver.hold("a", URI, resolution.artifact, PATH)
    state = await driver.state("a", lambda state: state.update == NODE_PHASE_FAILED, revision)

    assert (state.phase, state.problem.reason) == (NODE_PHASE_READY, REASON_INCOMPLETE)
    assert state.artifact.digest == whole.digest
    assert (node.path(PATH) / NAMES[1]).stat().st_size == SHARD


async def upgrade(driver: Driver, node: FetcherNode, parser: str | None = None) -> NodeModelState:
    """Restart the fetcher after one that made facts by other rules, which judged nothing; what that one has said."""
    state = await driver.state("a", lambda state: bool(state.facts_key))
    await node.kill()
    said = NodeModelState()
    said.CopyFrom(state)
    said.phase, said.facts_key = NODE_PHASE_READY, facts_key(state.artifact.digest, "", "an older version")
    said.ClearField("problem")
    await (await driver.js.key_value(FACTS_BUCKET)).purge(state.facts_key)
    facts = SharedFacts(facts=ModelFacts(model_type="llama")).SerializeToString()
    await put_if(driver.js, FACTS_BUCKET, said.facts_key, facts, None)
    await put_if(driver.js, OBSERVED_BUCKET, node_key(NODE, "a"), said.SerializeToString(), None)
    await driver.state("a", lambda state: state.facts_key == said.facts_key)
    driver.history.clear()
    await node.start(**({"OME_PARSER_ADDRESS": parser} if parser else {}))
    return said


async def test_a_whole_model_is_judged_after_an_upgrade_and_stays_ready(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, whole_file(SHARD, b"second"))
    await hold_and_wait(driver, "a", PATH, URI)
    hub.forget_requests()

    said = await upgrade(driver, node)

    state = await driver.state("a", lambda state: state.facts_key != said.facts_key)
    assert (await driver.facts(state)).completeness.wholeness == WHOLENESS_WHOLE
    assert driver.phases("a") == [NODE_PHASE_READY]
    assert all(state.facts_key for uid, state in driver.history if uid == "a"), "facts are told all the time"
    assert hub.requests() == []


async def test_facts_of_an_older_version_are_told_until_there_is_a_parser(
    driver: Driver, node: FetcherNode, hub: Hub, tmp_path: Path
) -> None:
    publish(hub, whole_file(SHARD, b"second"))
    await hold_and_wait(driver, "a", PATH, URI)

    said = await upgrade(driver, node, parser=f"127.0.0.1:{free_port()}")
    revision = await driver.drop("marker")
    await driver.state("marker", NODE_PHASE_DELETED, revision)
    state = await driver.state("a", NODE_PHASE_READY)
    assert (state.facts_key, state.HasField("parse_problem")) == (said.facts_key, False)

    async with running_parser(tmp_path) as address:
        await node.kill()
        await node.start(OME_PARSER_ADDRESS=address)
        await driver.state("a", lambda state: state.facts_key != said.facts_key)
    assert driver.phases("a") == [NODE_PHASE_READY]


async def test_a_model_that_an_upgrade_finds_incomplete_says_so_and_keeps_its_files_and_its_name(
    driver: Driver, node: FetcherNode, hub: Hub
) -> None:
    publish(hub, POINTER)
    artifact = await driver.artifact(URI)
    await driver.hold("a", URI, artifact, PATH, {"allowIncomplete": "true"})
    await driver.state("a", NODE_PHASE_READY)
    await node.kill()
    await driver.hold("a", URI, artifact, PATH)
    hub.forget_requests()

    await upgrade(driver, node)

    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_INCOMPLETE
    assert state.artifact.digest == artifact.digest
    assert (node.path(PATH) / NAMES[1]).read_bytes() == POINTER, "who reads it already is left alone"
    assert hub.requests() == []


async def test_a_local_directory_is_ready_as_soon_as_its_files_are_whole(driver: Driver, node: FetcherNode) -> None:
    directory = node.path("/models/mine")
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(CONFIG)
    (directory / "model.safetensors").write_bytes(whole_file(2000, b"x")[:-1])
    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.message.startswith("model.safetensors is cut off: it has 1871 bytes of data")

    (directory / "model.safetensors").write_bytes(whole_file(2000, b"x"))
    await driver.state("a", NODE_PHASE_READY)

    (directory / "model.safetensors").unlink()
    await driver.state("a", lambda again: again.problem.reason == REASON_INCOMPLETE)
