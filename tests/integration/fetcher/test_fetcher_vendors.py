"""The fetcher with models of vendors: by an index, by a program, and where the vendor's own tools put them."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.artifact.names import credentials_subject
from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    REASON_FORBIDDEN,
    REASON_UNSUPPORTED_BACKEND,
    Artifact,
)
from tests.integration.fetcher.ground import NODE, digests
from tests.support import vendor_driver
from tests.support.fetcher_node import Driver, FetcherNode
from tests.support.origin import OriginServer
from tests.support.transfers import small_model

MODEL = {**small_model(), "config.json": b'{"model_type": "llama"}'}
CONTENT = {path: hashlib.sha256(content).hexdigest() for path, content in MODEL.items()}
URI = "vendor://acme/models/llama"
DRIVERS = "OME_VENDOR_DRIVERS_FILE"


@pytest.fixture
def vendor() -> Iterator[OriginServer]:
    """A vendor whose model can be had with a token only."""
    files = [{"path": path, "size": len(content), "sha256": CONTENT[path]} for path, content in MODEL.items()]
    with OriginServer() as server:
        server.add("/models/llama/index.json", json.dumps({"revision": "v1", "files": files}).encode())
        for path, content in MODEL.items():
            server.add(f"/models/llama/v1/{path}", content)
        for path in ("index.json", *(f"v1/{path}" for path in MODEL)):
            server.require(f"/models/llama/{path}", "Authorization", "Bearer s3cret-token")
        yield server


def http_driver(vendor: OriginServer) -> dict[str, Any]:
    return {
        "driver": "http",
        "index": f"{vendor.url}/{{type}}/{{path}}/index.json",
        "file": f"{vendor.url}/{{type}}/{{path}}/{{revision}}/{{file}}",
        "headers": {"Authorization": "Bearer {secret:token}"},
    }


async def restart(node: FetcherNode, folder: Path, **drivers: Any) -> None:
    """Start the fetcher anew with drivers, as the chart does when they change."""
    await node.stop()
    file = folder / "drivers.json"
    file.write_text(json.dumps(drivers))
    await node.start(**{DRIVERS: str(file)})


async def test_a_model_behind_an_index_is_fetched_with_the_secret_that_nobody_sees(
    driver: Driver, node: FetcherNode, vendor: OriginServer, tmp_path: Path
) -> None:
    await restart(node, tmp_path, acme=http_driver(vendor))
    resolution = await driver.resolve(URI)
    assert resolution.problem.reason == REASON_FORBIDDEN
    assert "name a Secret with 'token'" in resolution.problem.message

    driver.secrets = {"a": {"token": b"s3cret-token"}}
    artifact = await driver.artifact(URI, "a")
    assert artifact.source_revision == "v1"
    await driver.hold("a", URI, artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_READY)

    assert state.artifact == artifact
    assert digests(node.path("/models/a")) == CONTENT
    assert "s3cret" not in node.log


async def test_a_model_of_a_program_is_fetched(driver: Driver, node: FetcherNode, tmp_path: Path) -> None:
    directory = tmp_path / "llama"
    with OriginServer() as server:
        for path, content in MODEL.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            server.add(f"/{path}", content)
            server.require(f"/{path}", "Authorization", "Bearer s3cret-token")
        command = [sys.executable, vendor_driver.__file__, str(directory), server.url]
        await restart(node, tmp_path, acme={"driver": "exec", "command": command})
        driver.secrets = {"a": {"token": b"s3cret-token"}}
        await driver.hold("a", URI, await driver.artifact(URI, "a"), "/models/a")
        await driver.state("a", NODE_PHASE_READY)

    assert digests(node.path("/models/a")) == CONTENT
    assert "s3cret" not in node.log


async def test_a_model_without_a_driver_is_read_in_place_and_its_secret_is_not_asked_for(
    driver: Driver, node: FetcherNode, tmp_path: Path
) -> None:
    driver.secrets = {"a": {"token": b"s3cret-token"}}
    asked_for = await driver.client.subscribe(credentials_subject(NODE))
    for drivers in ({}, {"acme": {"driver": "preprovisioned"}}):
        await restart(node, tmp_path, **drivers)
        resolution = await driver.resolve(URI, "a", attempt=1 + len(drivers))
        assert resolution.HasField("artifact")
        assert resolution.artifact == Artifact()
    assert asked_for.pending_msgs == 0

    directory = node.path("/models/theirs")
    directory.mkdir(parents=True)
    (directory / "config.json").write_bytes(MODEL["config.json"])
    await driver.hold("a", URI, resolution.artifact, "/models/theirs")
    state = await driver.state("a", NODE_PHASE_READY)
    assert state.path == "/models/theirs"
    assert not state.HasField("artifact")


async def test_a_node_without_the_driver_that_another_has_says_so_and_keeps_what_is_listed(
    driver: Driver, node: FetcherNode, vendor: OriginServer, tmp_path: Path
) -> None:
    driver.secrets = {"a": {"token": b"s3cret-token"}}
    await restart(node, tmp_path, acme=http_driver(vendor))
    artifact = await driver.artifact(URI, "a")
    await restart(node, tmp_path)

    await driver.hold("a", URI, artifact, "/models/a")
    state = await driver.state("a", NODE_PHASE_FAILED)
    assert state.problem.reason == REASON_UNSUPPORTED_BACKEND
    assert "vendorDrivers" in state.problem.message

    resolution = await driver.resolve(URI, "a", attempt=2)
    assert resolution.artifact == artifact, "else copies would be deleted for nothing"


async def test_mistakes_in_the_file_are_told_at_the_start_and_all_at_once(node: FetcherNode, tmp_path: Path) -> None:
    await node.stop()
    file = tmp_path / "drivers.json"
    file.write_text(json.dumps({"acme": {"driver": "ftp"}, "zenith": {"driver": "exec", "command": ["zenith"]}}))
    await node.launch(**{DRIVERS: str(file)})
    assert await node.ended() == 2
    assert "acme.driver is 'ftp'" in node.log
    assert "zenith.command must be a list that begins with an absolute path" in node.log
    assert "Traceback" not in node.log
