"""What the tests of downloads share: names, sizes, and how files and requests are counted."""

import hashlib
from pathlib import Path
from typing import Any

from ome.model.v1.model_pb2 import (
    NODE_PHASE_READY,
    Artifact,
)
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.hub import Hub

NODE = "node-1"
SHARD = 8 << 20
MODEL, URI = "org/model", "hf://org/model"


NODE = "node-1.example.org"
SHARD = 8 << 20
MODEL, URI = "org/model", "hf://org/model"


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


async def hold_and_wait(driver: Driver, uid: str, path: str = "", uri: str = URI, **fields: Any) -> Artifact:
    artifact = await driver.artifact(uri)
    revision = await driver.hold(uid, uri, artifact, path, **fields)
    await driver.state(uid, NODE_PHASE_READY, revision)
    return artifact


def shards(node: FetcherNode, path: str) -> dict[str, str]:
    return {name: value for name, value in digests(node.path(path)).items() if name.endswith(".safetensors")}
