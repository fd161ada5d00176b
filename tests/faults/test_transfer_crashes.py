"""SIGKILL at every named point of a transfer: right bytes in the end, nothing verified fetched twice, no leftovers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.artifact.digest import digest_directory
from libs.chassis.errors import Conflict
from services.fetcher.failpoints import FAILPOINTS
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
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
NEXT = MODEL | {"config.json": b"{}"}
NEXT_MANIFEST = manifest_of(NEXT)
WEIGHTS = "model.safetensors"
# What may be on the wire, or wait for an earlier range, when a process dies.
UNVERIFIED_BYTES = (QUICK.buffers + QUICK.connections * QUICK.pipelined_ranges) * QUICK.range_bytes
FETCHING = (
    "chunk-written",
    "chunk-recorded",
    "file-verified",
    "file-flushed",
    "file-synced",
    "ingest-complete",
    "record-flushed",
    "manifest-written",
    "artifact-renamed",
    "owner-written",
    "directory-made",
    "link-renamed",
)
REMOVING = ("release-written", "link-removed", "owner-removed", "artifact-trashed")
REPLACING = ("artifact-renamed", "release-written", "owner-written", "link-staged", "link-renamed", "artifact-trashed")
MOVING = ("old-name-removed", "owner-written", "directory-made", "link-renamed")
EMPTYING = ("empty-directory-removed",)
COLLECTING = ("leftover-trashed",)
FORGETTING = ("release-forgotten", "artifact-trashed")
REPAIRING = (
    "damage-recorded",
    "chunk-recorded",
    "file-synced",
    "ingest-complete",
    "manifest-written",
    "artifact-renamed",
)


class Node:
    """A root, an origin with two revisions of a model, and a process that fetches and may be killed."""

    def __init__(self, directory: Path, server: OriginServer) -> None:
        self.root = directory / "models"
        self.server = server
        self._manifests = directory
        self._serve("first", MODEL)
        self._serve("next", NEXT)

    def run(self, failpoint: str = "", *options: str, revision: str = "first") -> int:
        """Fetch and publish a revision, and what the options of tests.support.transfers say; return the exit code."""
        command = [sys.executable, "-m", "tests.support.transfers", str(self.root), f"{self.server.url}/{revision}"]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OME_FAILPOINT": failpoint}
        return subprocess.run(
            [*command, str(self._manifests / f"{revision}.json"), *options], env=environment, timeout=60, check=False
        ).returncode

    def read(self, path: str = "team/model") -> dict[str, bytes]:
        """What a reader finds at a path."""
        return contents_of(self.root / path)

    def flip(self) -> None:
        """Change one bit of the published weights."""
        with (self.root / "team" / "model" / WEIGHTS).open("r+b") as content:
            content.seek(70_000)
            byte = content.read(1)[0]
            content.seek(70_000)
            content.write(bytes([byte ^ 1]))

    def _serve(self, revision: str, contents: dict[str, bytes]) -> None:
        serve(self.server, contents, f"/{revision}")
        write_manifest(manifest_of(contents), self._manifests / f"{revision}.json")

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


def test_every_named_point_has_its_kill() -> None:
    assert {*FETCHING, *REMOVING, *REPLACING, *MOVING, *EMPTYING, *COLLECTING, *REPAIRING, *FORGETTING} == set(
        FAILPOINTS
    )


@pytest.mark.parametrize(
    ("failpoint", "passage"),
    [(name, 1) for name in FETCHING]
    + [("chunk-written", 3), ("chunk-written", 12), ("chunk-recorded", 12), ("file-verified", 3)],
)
def test_after_a_kill_only_what_was_not_verified_is_fetched_again(failpoint: str, passage: int, node: Node) -> None:
    assert node.run(f"{failpoint}:{passage}") == -signal.SIGKILL
    if failpoint != "link-renamed":
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


@pytest.mark.parametrize("failpoint", REPLACING)
def test_a_kill_between_two_revisions_leaves_readers_the_one_or_the_other_whole(failpoint: str, node: Node) -> None:
    assert node.run() == 0
    assert node.run(failpoint, revision="next") == -signal.SIGKILL
    assert node.read() == (NEXT if failpoint in ("link-renamed", "artifact-trashed") else MODEL)
    assert node.run("", "--collect", revision="next") == 0
    assert node.read() == NEXT
    with node.store() as store:
        assert store.collect(()) == []
        assert not store.holds(MANIFEST.digest)
        assert leftovers(store) == []
        assert list(contents_of(node.root / ".ome" / "manifests")) == [f"{digest_directory(NEXT_MANIFEST.digest)}.json"]


@pytest.mark.parametrize("failpoint", MOVING)
def test_a_kill_while_a_model_moves_leaves_one_name_in_the_end(failpoint: str, node: Node) -> None:
    assert node.run() == 0
    sent = node.server.bytes_sent
    assert node.run(failpoint, "--path=other/model") == -signal.SIGKILL
    assert node.run("", "--path=other/model") == 0
    assert node.read("other/model") == MODEL
    assert sorted(path.name for path in node.root.iterdir()) == [".ome", "other"]
    assert node.server.bytes_sent == sent
    with node.store() as store:
        assert leftovers(store) == []


@pytest.mark.parametrize("failpoint", COLLECTING)
def test_a_kill_while_leftovers_are_collected_loses_nothing_that_is_published(failpoint: str, node: Node) -> None:
    assert node.run() == 0
    assert node.run("manifest-written", revision="next") == -signal.SIGKILL
    assert node.run(failpoint, "--collect") == -signal.SIGKILL
    with node.store() as store:
        store.collect(())
        assert store.publications()[MODEL_UID].intact
        assert leftovers(store) == []
        assert len(contents_of(node.root / ".ome" / "manifests")) == 1
    assert node.read() == MODEL


@pytest.mark.parametrize("failpoint", REPAIRING)
def test_damage_that_was_found_is_not_forgotten_by_a_kill_before_it_is_repaired(failpoint: str, node: Node) -> None:
    assert node.run() == 0
    node.flip()
    assert node.run(failpoint, "--scrub") == -signal.SIGKILL
    with node.store() as store:
        store.collect(())
        assert store.check(MANIFEST.digest) == (WEIGHTS,)
        assert store.publications()[MODEL_UID].intact, "readers of the other files are not cut off"
    sent = node.server.bytes_sent
    assert node.run() == 0
    assert node.server.bytes_sent - sent <= len(MODEL[WEIGHTS])
    assert_published(node)
    with node.store() as store:
        assert store.check(MANIFEST.digest) == ()
        assert contents_of(node.root / ".ome" / "damaged") == {}


@pytest.mark.parametrize("failpoint", [each for each in REPLACING if each != "artifact-trashed"])
def test_whoever_has_mounted_a_revision_keeps_it_through_a_kill_while_the_next_one_comes(
    failpoint: str, node: Node
) -> None:
    assert node.run() == 0
    mounted = os.open(node.root / "team" / "model", os.O_PATH)
    assert node.run(failpoint, "--keep", revision="next") == -signal.SIGKILL
    assert node.run("", "--keep", "--collect", revision="next") == 0
    assert node.read() == NEXT
    assert contents_of(Path(f"/proc/self/fd/{mounted}/")) == MODEL
    assert node.run("", "--keep", "--forget", revision="next") == 0
    assert contents_of(Path(f"/proc/self/fd/{mounted}/")) == {}
    os.close(mounted)
    with node.store() as store:
        assert store.releases() == []
        assert leftovers(store) == []


@pytest.mark.parametrize("failpoint", ["release-written", "artifact-renamed"])
def test_whoever_has_mounted_a_damaged_copy_keeps_its_files_through_a_kill_while_it_is_repaired(
    failpoint: str, node: Node
) -> None:
    assert node.run() == 0
    mounted = os.open(node.root / "team" / "model", os.O_PATH)
    node.flip()
    damaged = contents_of(Path(f"/proc/self/fd/{mounted}/"))
    assert node.run(failpoint, "--keep", "--scrub") == -signal.SIGKILL
    assert node.run("", "--keep", "--scrub") == 0
    assert_published(node)
    assert contents_of(Path(f"/proc/self/fd/{mounted}/")) == damaged
    assert node.run("", "--keep", "--forget") == 0
    assert contents_of(Path(f"/proc/self/fd/{mounted}/")) == {}
    os.close(mounted)
    assert_published(node)
    assert list((node.root / ".ome" / "replaced").iterdir()) == []


@pytest.mark.parametrize("failpoint", FORGETTING)
def test_a_kill_while_a_copy_goes_that_nobody_uses_leaves_nothing_in_the_end(failpoint: str, node: Node) -> None:
    assert node.run() == 0
    assert node.run(failpoint, "--keep", "--forget", revision="next") == -signal.SIGKILL
    assert node.run("", "--collect", revision="next") == 0
    with node.store() as store:
        assert store.releases() == []
        assert not store.holds(MANIFEST.digest)
        assert leftovers(store) == []
    assert node.read() == NEXT


@pytest.mark.parametrize("failpoint", EMPTYING)
def test_a_kill_when_an_empty_directory_has_made_way_leaves_the_path_free(failpoint: str, node: Node) -> None:
    (node.root / "team" / "model").mkdir(parents=True)
    assert node.run(failpoint) == -signal.SIGKILL
    assert not os.path.lexists(node.root / "team" / "model")
    assert node.run() == 0
    assert_published(node)


@pytest.mark.parametrize("passage", [1, 2])
def test_a_record_that_was_not_finished_leaves_no_file_behind(passage: int, node: Node) -> None:
    assert node.run(f"record-flushed:{passage}") == -signal.SIGKILL
    assert list(node.root.glob(".ome/*/*.new"))
    with node.store() as store:
        store.collect(())
    assert not list(node.root.glob(".ome/*/*.new"))


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
