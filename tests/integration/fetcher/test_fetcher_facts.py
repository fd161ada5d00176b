"""Facts on a node's report: from a real parser, about models that lie on the node."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ome.model.v1.model_pb2 import NODE_PHASE_READY, REASON_NO_CONFIG, REASON_PARSE_FAILED, REASON_UNAVAILABLE
from tests.integration.fetcher.ground import NODE
from tests.support.fetcher_node import Driver, FetcherNode, running_parser
from tests.support.nats_server import NatsServer

CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}'


@pytest.fixture
async def node(tmp_path: Path, server: NatsServer, driver: Driver) -> AsyncIterator[FetcherNode]:
    async with running_parser(tmp_path) as address:
        node = FetcherNode(tmp_path, server.url, NODE, {"OME_PARSER_ADDRESS": address, "OME_RECHECK_SECONDS": "0.3"})
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
            print(node.log)


def write(node: FetcherNode, name: str, content: str) -> None:
    directory = node.path("/models/mine")
    directory.mkdir(exist_ok=True, parents=True)
    (directory / "pytorch_model.bin").write_bytes(b"weights")
    (directory / name).write_text(content)


async def test_a_ready_model_comes_with_its_facts(driver: Driver, node: FetcherNode) -> None:
    write(node, "config.json", CONFIG)

    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_READY)

    assert (state.facts.model_type, state.facts.architecture) == ("llama", "LlamaForCausalLM")
    assert not state.HasField("parse_problem")


async def test_the_snapshot_of_a_hugging_face_cache_is_parsed_where_it_lies(driver: Driver, node: FetcherNode) -> None:
    repository = node.path("/models/hub/models--org--one")
    snapshot, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "a-blob").write_text(CONFIG)
    (snapshot / "pytorch_model.bin").write_bytes(b"weights")
    (snapshot / "config.json").symlink_to("../../blobs/a-blob")

    await driver.hold("a", "local:///models/hub/models--org--one/snapshots/c0ffee")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.facts.model_type == "llama"


async def test_links_of_a_local_model_out_of_the_model_roots_are_not_read(driver: Driver, node: FetcherNode) -> None:
    node.path("/models/mine").mkdir(parents=True)
    node.path("/outside.json").write_text(CONFIG)
    node.path("/models/mine/config.json").symlink_to("../../outside.json")

    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.parse_problem.reason == REASON_NO_CONFIG


async def test_the_schema_path_names_the_configuration_to_read(driver: Driver, node: FetcherNode) -> None:
    write(node, "mine.json", CONFIG)

    await driver.hold("a", "local:///models/mine", schema_path="mine.json")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.facts.model_type == "llama"


async def test_parsing_is_skipped_when_the_model_asks_for_that(driver: Driver, node: FetcherNode) -> None:
    write(node, "config.json", CONFIG)

    await driver.hold("a", "local:///models/mine", skip_parsing=True)
    state = await driver.state("a", NODE_PHASE_READY)

    assert not state.HasField("facts")
    assert not state.HasField("parse_problem")


@pytest.mark.parametrize(("content", "reason"), [("{not json", REASON_PARSE_FAILED), (None, REASON_NO_CONFIG)])
async def test_a_model_that_cannot_be_parsed_is_ready_with_the_reason_and_no_retry(
    driver: Driver, node: FetcherNode, content: str | None, reason: int
) -> None:
    write(node, "config.json" if content else "notes.txt", content or "")

    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.parse_problem.reason == reason
    assert not state.parse_problem.HasField("retry_at")


async def test_facts_follow_when_the_files_of_a_local_model_change(driver: Driver, node: FetcherNode) -> None:
    write(node, "config.json", CONFIG)
    await driver.hold("a", "local:///models/mine")
    await driver.state("a", NODE_PHASE_READY)

    write(node, "config.json", CONFIG.replace("4096", "8192"))

    await driver.state("a", lambda state: state.facts.context_length == 8192)


async def test_a_parser_that_is_away_costs_the_facts_only_until_it_is_back(
    driver: Driver, node: FetcherNode, tmp_path: Path
) -> None:
    write(node, "config.json", CONFIG)
    await node.stop()
    await node.start(OME_PARSER_ADDRESS="127.0.0.1:1")
    await driver.hold("a", "local:///models/mine")
    state = await driver.state("a", NODE_PHASE_READY)
    assert state.parse_problem.reason == REASON_UNAVAILABLE
    assert state.parse_problem.HasField("retry_at")

    await node.stop()
    await node.start()

    await driver.state("a", lambda state: state.facts.model_type == "llama" and not state.HasField("parse_problem"))


async def test_a_fetcher_without_its_certificate_for_the_parser_is_not_ready_and_holds_models_all_the_same(
    driver: Driver, node: FetcherNode, tmp_path: Path
) -> None:
    write(node, "config.json", CONFIG)
    await node.stop()
    await node.launch(OME_PARSER_TLS_DIR=str(tmp_path / "none"))
    await driver.hold("a", "local:///models/mine")

    state = await driver.state("a", NODE_PHASE_READY)

    why = f"OME_PARSER_TLS_DIR: {tmp_path / 'none' / 'tls.crt'} cannot be read"
    assert why in state.parse_problem.message
    await node.unready(why)
