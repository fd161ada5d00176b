"""A disk that fails under the engine: real errors of the kernel in a process of its own, and what is left of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from tests.support.broken_disk import SUPPORTED
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

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="no numbers of system calls for this machine")

MODEL = small_model()
MANIFEST = manifest_of(MODEL)
WEIGHTS = "model.safetensors"
CONTENT = f"pwrite>={QUICK.range_bytes}"
STAGED = "/models/.ome/staging/sha256-"


class Node:
    """A root, an origin, and a process that fetches, perhaps with a broken disk."""

    def __init__(self, directory: Path, server: OriginServer) -> None:
        self.root = directory / "models"
        self.server = server
        self._url = serve(server, MODEL).base_url
        self._manifest = directory / "manifest.json"
        write_manifest(MANIFEST, self._manifest)

    def run(self, *options: str, broken: tuple[str, str] | None = None, failpoint: str = "") -> str:
        """Fetch, publish, and what the options of tests.support.transfers say; return what went wrong, if anything."""
        under = ["tests.support.broken_disk", *broken] if broken else []
        command = [sys.executable, "-m", *under, "tests.support.transfers", str(self.root), self._url]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OME_FAILPOINT": failpoint}
        ended = subprocess.run(
            [*command, str(self._manifest), *options],
            env=environment,
            timeout=60,
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.stderr == "", "nothing ends in a traceback"
        assert failpoint or (ended.returncode == 0) == (ended.stdout == "")
        return ended.stdout.strip()

    def store(self) -> Store:
        """The store, to be opened when no process holds it."""
        return new_store(self.root)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with OriginServer() as server:
        node = Node(tmp_path, server)
        with node.store():
            # The layout exists: it is not the start that fails.
            pass
        yield node


def assert_heals(node: Node) -> None:
    """The same program on a disk that works ends in the right bytes, with nothing left over."""
    assert node.run() == ""
    with node.store() as store:
        assert store.publications()[MODEL_UID].intact
        assert contents_of(node.root / "team" / "model") == MODEL
        assert store.scrub(MANIFEST.digest, StopFlag()) == ()
        assert leftovers(store) == []
        assert not list(node.root.glob(".ome/*/*.new"))


CASES = {
    "content cannot be written": ("EIO", CONTENT, "DiskError", STAGED),
    "content cannot be synced": ("EIO", "fsync", "DiskError", STAGED),
    "no directory can be made": ("EIO", "mkdir", "DiskError", STAGED),
    "room cannot be reserved": ("EIO", "allocate", "DiskError", STAGED),
    "nothing can be renamed": ("EIO", "rename", "DiskError", "/models/.ome/manifests/sha256-"),
    "no link can be made": ("EIO", "symlink", "DiskError", "/models/team/model"),
    "the file system became read-only": ("EROFS", CONTENT, "DiskError", STAGED),
    "a directory on a read-only file system": ("EROFS", "mkdir", "DiskError", STAGED),
    "the disk is full when room is reserved": ("ENOSPC", "allocate", "InsufficientDisk", "/models is full"),
    "the disk is full when content is written": ("ENOSPC", CONTENT, "InsufficientDisk", "/models is full"),
    "the quota is used up": ("EDQUOT", CONTENT, "InsufficientDisk", "/models is full"),
}


@pytest.mark.parametrize(("code", "operation", "reason", "where"), CASES.values(), ids=CASES.keys())
def test_an_error_of_the_disk_is_said_with_its_place_and_leaves_nothing_half_done(
    code: str, operation: str, reason: str, where: str, node: Node
) -> None:
    said = node.run(broken=(code, operation))
    assert said.startswith(f"{reason} ")
    assert where in said
    if reason == "DiskError":
        assert ("Input/output error" if code == "EIO" else "Read-only file system") in said
    assert not os.path.lexists(node.root / "team" / "model")
    with node.store() as store:
        assert not any(publication.intact for publication in store.publications().values())
    assert_heals(node)


def test_what_could_not_be_synced_is_not_believed_although_reading_finds_it(node: Node) -> None:
    assert node.run(broken=("EIO", "fsync")).startswith("DiskError ")
    (journal,) = node.root.glob(".ome/staging/*/journal")
    assert f" {len(MODEL[WEIGHTS])} " in journal.read_text(), "all of it had come and was verified"
    sent = node.server.bytes_sent
    assert_heals(node)
    assert node.server.bytes_sent - sent >= len(MODEL[WEIGHTS])


def test_small_files_that_could_not_be_synced_are_fetched_again(tmp_path: Path) -> None:
    contents = {f"{number}.json": os.urandom(100) for number in range(100)}
    manifest, path = manifest_of(contents), tmp_path / "manifest.json"
    write_manifest(manifest, path)
    with OriginServer() as server:
        url = serve(server, contents).base_url
        command = [sys.executable, "-m", "tests.support.transfers", str(tmp_path / "models"), url, str(path)]
        broken = [*command[:2], "tests.support.broken_disk", "EIO", "sync_file_system", *command[2:]]
        ended = subprocess.run(broken, capture_output=True, text=True, check=False, cwd=os.getcwd())
        assert "DiskError" in ended.stdout
        sent = server.bytes_sent
        subprocess.run(command, check=True)
        assert server.bytes_sent - sent == manifest.size_bytes
    with new_store(tmp_path / "models") as store:
        assert store.scrub(manifest.digest, StopFlag()) == ()


def test_what_cannot_be_read_back_is_fetched_again(node: Node) -> None:
    node.run(failpoint="chunk-recorded:12")
    sent = node.server.bytes_sent
    assert sent >= 12 * QUICK.range_bytes
    assert node.run(broken=("EIO", "preadv")) == ""
    assert node.server.bytes_sent - sent >= len(MODEL[WEIGHTS])
    assert_heals(node)


def test_a_scrub_that_cannot_read_a_file_calls_it_damaged_and_a_repair_brings_it_anew(node: Node) -> None:
    assert node.run() == ""
    sent = node.server.bytes_sent
    assert node.run("--scrub", broken=("EIO", "read>=1048576")) == ""
    assert node.server.bytes_sent - sent == MANIFEST.size_bytes, "no file could be read"
    assert_heals(node)


def test_a_repair_that_cannot_take_the_place_of_the_damaged_artifact_leaves_that_and_is_not_forgotten(
    node: Node,
) -> None:
    assert node.run() == ""
    (node.root / "team" / "model" / "config.json").write_bytes(b"x" * len(MODEL["config.json"]))
    assert node.run("--scrub", broken=("EIO", "exchange")).startswith("DiskError ")
    with node.store() as store:
        assert store.check(MANIFEST.digest) == ("config.json",)
    assert_heals(node)
