"""SIGKILL at every named point of a transfer: right bytes in the end, nothing verified fetched twice, no leftovers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.chassis.errors import Conflict
from services.fetcher.failpoints import FAILPOINTS
from services.fetcher.store.artifacts import Store
from services.fetcher.transfer.stop import StopFlag
from tests.support.origin import OriginServer
from tests.support.transfers import (
    MODEL_UID,
    QUICK,
    contents_of,
    leftovers,
    manifest_of,
    new_store,
    serve,
    small_model,
    write_manifest,
)

MODEL = small_model()
MANIFEST = manifest_of(MODEL)
# What may be on the wire, or wait for an earlier range, when a process dies.
UNVERIFIED_BYTES = (QUICK.buffers + QUICK.connections * QUICK.pipelined_ranges) * QUICK.range_bytes
REMOVING = ("link-removed", "owner-removed", "artifact-trashed")
FETCHING = tuple(name for name in FAILPOINTS if name not in REMOVING)


class Node:
    """A root, an origin, and a process that fetches and may be killed."""

    def __init__(self, directory: Path, server: OriginServer) -> None:
        self.root = directory / "models"
        self.server = server
        self.origin = serve(server, MODEL)
        self._manifest = directory / "manifest.json"
        write_manifest(MANIFEST, self._manifest)

    def run(self, failpoint: str = "", *options: str) -> int:
        """Fetch, publish, and remove if asked to; return the exit code."""
        command = [sys.executable, "-m", "tests.support.transfers", str(self.root), self.origin.base_url]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OME_FAILPOINT": failpoint}
        return subprocess.run(
            [*command, str(self._manifest), *options], env=environment, timeout=60, check=False
        ).returncode

    def store(self) -> Store:
        """The store, to be opened when no process holds it."""
        return new_store(self.root)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with OriginServer() as server:
        yield Node(tmp_path, server)


def assert_published(node: Node) -> None:
    with node.store() as store:
        publication = store.publications()[MODEL_UID]
        assert publication.intact
        assert contents_of(node.root / "team" / "model") == MODEL
        assert store.scrub(MANIFEST.digest, StopFlag()) == ()
        assert leftovers(store) == []


@pytest.mark.parametrize(
    ("failpoint", "passage"),
    [(name, 1) for name in FETCHING]
    + [("chunk-written", 3), ("chunk-written", 12), ("chunk-recorded", 12), ("file-verified", 3)],
)
def test_after_a_kill_only_what_was_not_verified_is_fetched_again(failpoint: str, passage: int, node: Node) -> None:
    assert node.run(f"{failpoint}:{passage}") == -signal.SIGKILL
    if failpoint in FETCHING[: FETCHING.index("link-renamed")]:
        assert not (node.root / "team" / "model").exists()
    assert node.run() == 0
    assert_published(node)
    assert node.server.bytes_sent <= MANIFEST.size_bytes + UNVERIFIED_BYTES
    if failpoint in FETCHING[FETCHING.index("file-synced") :]:
        assert node.server.bytes_sent - MANIFEST.size_bytes <= sum(
            len(content) for path, content in MODEL.items() if path != "model.safetensors"
        )


@pytest.mark.parametrize("failpoint", REMOVING)
def test_after_a_kill_a_removal_is_finished(failpoint: str, node: Node) -> None:
    assert node.run(failpoint, "--remove") == -signal.SIGKILL
    with node.store() as store:
        store.unpublish(MODEL_UID)
        store.collect(())
        assert store.publications() == {}
        assert not store.holds(MANIFEST.digest)
        assert leftovers(store) == []
        assert contents_of(node.root / ".ome" / "manifests") == {}
    assert [path.name for path in node.root.iterdir()] == [".ome"]


def test_many_kills_in_a_row_still_end_ready(node: Node) -> None:
    for passage in range(2, 10, 2):
        assert node.run(f"chunk-recorded:{passage}") == -signal.SIGKILL
    assert node.run() == 0
    assert_published(node)


def test_bytes_that_the_disk_lost_are_fetched_again(node: Node) -> None:
    assert node.run("chunk-recorded:12") == -signal.SIGKILL
    (weights,) = node.root.glob(".ome/staging/*/files/model.safetensors")
    # The file has its full size from the start: as after a power cut, a part of what was recorded reads as zeros.
    assert weights.stat().st_size >= len(MODEL["model.safetensors"])
    with weights.open("r+b") as content:
        content.seek(3 * QUICK.range_bytes)
        content.write(bytes(QUICK.range_bytes))
    sent = node.server.bytes_sent
    assert node.run() == 0
    assert_published(node)
    fetched_again = node.server.bytes_sent - sent
    damaged = len(MODEL["model.safetensors"]) - 3 * QUICK.range_bytes
    small_files = MANIFEST.size_bytes - len(MODEL["model.safetensors"])
    assert damaged <= fetched_again <= damaged + small_files


def test_a_preallocated_file_without_a_journal_is_not_taken_for_data(node: Node) -> None:
    assert node.run("chunk-recorded:5") == -signal.SIGKILL
    (journal,) = node.root.glob(".ome/staging/*/journal")
    journal.unlink()
    assert node.run() == 0
    assert_published(node)


def test_a_torn_journal_is_believed_up_to_the_tear(node: Node) -> None:
    assert node.run("chunk-recorded:12") == -signal.SIGKILL
    (journal,) = node.root.glob(".ome/staging/*/journal")
    content = journal.read_bytes()
    journal.write_bytes(content[:-20])
    assert node.run("chunk-recorded:3") == -signal.SIGKILL
    assert node.run() == 0
    assert_published(node)


def test_a_second_process_on_the_same_root_is_refused_and_harms_nothing(node: Node) -> None:
    with node.store() as store:
        with pytest.raises(Conflict, match="another fetcher"), node.store():
            pass
        assert node.run() == 1
        assert store.publications() == {}
    assert node.run() == 0
    assert_published(node)
