"""The fetcher with a private model of ModelScope: listed and fetched with a token that nobody sees."""

import hashlib

from ome.model.v1.model_pb2 import NODE_PHASE_READY, REASON_FORBIDDEN
from tests.integration.fetcher.ground import digests
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.modelscope import ModelScope
from tests.support.transfers import small_model

MODEL = {**small_model(), "config.json": b'{"model_type": "llama"}'}
CONTENT = {path: hashlib.sha256(content).hexdigest() for path, content in MODEL.items()}
NAME, TOKEN = "acme/tiny", "ms-s3cret-token"
URI = f"ms://{NAME}"


async def test_a_private_model_of_modelscope_is_fetched_with_its_token(driver: Driver, node: FetcherNode) -> None:
    with ModelScope() as hub:
        commit = hub.push(NAME, MODEL, private=True)
        hub.add_token(TOKEN, [NAME])
        await node.stop()
        await node.start(MODELSCOPE_ENDPOINT=hub.endpoint)
        refused = await driver.resolve(URI)
        assert refused.problem.reason == REASON_FORBIDDEN
        assert "create a Secret" in refused.problem.message

        driver.secrets = {"a": {"token": TOKEN.encode()}}
        artifact = await driver.artifact(URI, "a")
        assert artifact.source_revision == commit
        await driver.hold("a", URI, artifact, "/models/a")
        assert (await driver.state("a", NODE_PHASE_READY)).artifact == artifact
        assert digests(node.path("/models/a")) == CONTENT
        assert TOKEN not in node.log
