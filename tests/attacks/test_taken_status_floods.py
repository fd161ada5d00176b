"""The status service is taken over and asks the controller without end: planning still has most of the time."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.names import FILES_SUBJECT, MANIFESTS_BUCKET, SOURCE_CHANGED_SUBJECT
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats
from libs.model.manifest_codec import checked_manifest
from ome.fetch.v1.fetch_pb2 import FilesReply, FilesRequest, SourceChanged
from services.controller.file_lists import FileListServer
from services.controller.source_changes import SourceChangesServer
from services.controller.streams import ensure_streams
from services.fetcher.fleet.manifests import ManifestStore
from tests.support.nats_server import running_nats

BUSY_SECONDS = 0.005


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        running_nats(tmp_path) as server,
        connect_nats(server.url, Health(), "test", ca_file=server.authority) as connected,
    ):
        await ensure_streams(connected.jetstream(), 1, 30)
        yield connected


class Fleet:
    """A large one, a look at which takes a while."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    def changed(self, repository: str, revisions: object) -> int:
        """A look at each model, whether it follows the repository."""
        self.looks.append(time.monotonic())
        while time.monotonic() < self.looks[-1] + BUSY_SECONDS:
            pass
        return 0


async def listened(client: Client, subject: str, request: bytes) -> Msg:
    """The first answer that comes, once somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await client.request(subject, request, timeout=5)
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.01)


async def test_changes_that_are_announced_without_end_take_a_tenth_of_the_time(client: Client) -> None:
    fleet = Fleet()
    await SourceChangesServer(fleet.changed).serve(client)
    said = SourceChanged(repository="org/name").SerializeToString()
    for _ in range(200):
        await client.publish(SOURCE_CHANGED_SUBJECT, said, reply=client.new_inbox())
    async with asyncio.timeout(20):
        while len(fleet.looks) < 6:
            await asyncio.sleep(0.01)
    assert fleet.looks[5] - fleet.looks[0] >= 5 * 9 * BUSY_SECONDS


async def test_announcements_that_no_event_can_hold_are_not_looked_at(client: Client) -> None:
    fleet = Fleet()
    await SourceChangesServer(fleet.changed).serve(client)
    for said in (
        SourceChanged(repository="x" * 1000),
        SourceChanged(repository="org/name", revisions=["main"] * 10_000),
    ):
        await client.publish(SOURCE_CHANGED_SUBJECT, said.SerializeToString(), reply=client.new_inbox())
    await client.publish(SOURCE_CHANGED_SUBJECT, SourceChanged(repository="org/name").SerializeToString())
    await listened(client, SOURCE_CHANGED_SUBJECT, SourceChanged(repository="org/name").SerializeToString())
    assert len(fleet.looks) == 1


async def test_lists_of_many_artifacts_are_read_for_a_part_of_the_time(client: Client) -> None:
    js, stored = client.jetstream(), []
    for number in range(3):
        files = [ManifestFile(f"{number}-{n}", n, ChecksumAlgorithm.SHA256, f"{n:064x}") for n in range(3_000)]
        stored.append(new_manifest("r", files))
        await ManifestStore(js).put(stored[-1])
    store, reads = await js.object_store(MANIFESTS_BUCKET), []
    for _ in range(5):
        started = time.monotonic()
        for manifest in stored:
            checked_manifest(manifest.digest, (await store.get(manifest.digest)).data or b"")
        reads.append(time.monotonic() - started)
    serving = asyncio.create_task(FileListServer(client, js, lambda digest: digest != "none").run())
    try:
        await listened(client, FILES_SUBJECT, FilesRequest(digest="none").SerializeToString())
        started = time.monotonic()
        asked = [FilesRequest(digest=manifest.digest).SerializeToString() for manifest in stored]
        found = await asyncio.gather(*(client.request(FILES_SUBJECT, each, timeout=30) for each in asked))
        assert [FilesReply.FromString(each.data).total for each in found] == [3_000] * 3
        assert time.monotonic() - started >= 1.5 * min(reads)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
