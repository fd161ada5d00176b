"""Which files an artifact has, asked over NATS as the status service asks the controller."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.names import FILES_SUBJECT, MANIFESTS_BUCKET
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from ome.fetch.v1.fetch_pb2 import ChecksumAlgorithm as Algorithm
from ome.fetch.v1.fetch_pb2 import FilesReply, FilesRequest
from ome.model.v1.model_pb2 import REASON_NOT_FOUND, REASON_OVERLOADED
from services.controller.file_lists import FileListServer
from services.controller.streams import ensure_streams
from services.fetcher.fleet.manifests import ManifestStore
from services.status.file_lists import FileLists
from tests.support.nats_server import running_nats


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        running_nats(tmp_path) as server,
        connect_nats(server.url, Health(), "test", ca_file=server.authority) as connected,
    ):
        await ensure_streams(connected.jetstream(), 1, 30)
        yield connected


def manifest(files: int, name: str = "weights") -> Manifest:
    return new_manifest(
        "r", [ManifestFile(f"{name}-{n:04}", n, ChecksumAlgorithm.SHA256, f"{n:064x}") for n in range(1, files + 1)]
    )


async def answered(lists: FileLists, digest: str) -> object:
    """What is told, once the controller listens; an error as it is raised."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await lists.files(digest)
            except Unavailable:
                await asyncio.sleep(0.02)
            except ServiceError as error:
                return error


async def test_the_largest_files_of_an_artifact_that_a_model_names_are_told(client: Client) -> None:
    js, stored, unnamed, lists = client.jetstream(), manifest(300), manifest(2, "unnamed"), FileLists()
    missing, spoiled = manifest(1, "missing"), manifest(1, "spoiled")
    for each in (stored, unnamed):
        await ManifestStore(js).put(each)
    await (await js.object_store(MANIFESTS_BUCKET)).put(spoiled.digest, b"\xff\xff")
    with pytest.raises(Unavailable, match="not connected"):
        await lists.files(stored.digest)
    lists.connected(client)
    named = {stored.digest, missing.digest, spoiled.digest}
    serving = asyncio.create_task(FileListServer(client, js, named.__contains__).run())
    try:
        found = await answered(lists, stored.digest)
        assert found.total == 300  # type: ignore[attr-defined]
        files = found.files  # type: ignore[attr-defined]
        assert [file.path for file in files] == [f"weights-{number:04}" for number in range(300, 100, -1)]
        assert (files[0].size_bytes, files[0].checksum.algorithm) == (300, Algorithm.CHECKSUM_ALGORITHM_SHA256)
        assert files[0].checksum.value == f"{300:064x}"
        # Nobody asks for those of artifacts whose model is gone, nor is told of a list that is not what it is called.
        assert isinstance(await answered(lists, unnamed.digest), Missing)
        assert isinstance(await answered(lists, missing.digest), Missing)
        assert isinstance(await answered(lists, spoiled.digest), Corrupt)
        reply = FilesReply.FromString((await client.request(FILES_SUBJECT, b"\xff", timeout=5)).data)
        assert reply.problem.message
        # More than anybody honest asks at a time.
        asked = FilesRequest(digest=missing.digest).SerializeToString()
        many = await asyncio.gather(*(client.request(FILES_SUBJECT, asked, timeout=10) for _ in range(200)))
        reasons = {FilesReply.FromString(each.data).problem.reason for each in many}
        assert reasons == {REASON_NOT_FOUND, REASON_OVERLOADED}
    finally:
        serving.cancel()
    await asyncio.wait([serving])
    # What was told once is known without the controller.
    assert await lists.files(stored.digest) is found
