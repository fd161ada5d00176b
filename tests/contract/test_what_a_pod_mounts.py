"""What a Pod sees of a model, by what it mounts: the promises of docs/guides/using-models.md, on a real file system.

A container sees nothing outside of its mounts, so a link that leads out of one leads nowhere.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from tests.support.origin import OriginServer
from tests.support.transfers import (
    MODEL_UID,
    QUICK,
    acquire,
    contents_of,
    manifest_of,
    new_store,
    serve,
    small_model,
)

OLD, NEW = small_model(1, weights_bytes=20_000), small_model(2, weights_bytes=20_000)
PATH = "meta/llama"


class Mount:
    """A volume of a container: the directory that its path led to when the container started."""

    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve()

    def read(self, path: str) -> bytes | None:
        """A file below the volume as the container reads it; None where a link leads out of the volume."""
        followed = Path(os.path.normpath(self._root / path))
        for part in (*reversed(followed.parents), followed):
            if part != self._root and part.is_relative_to(self._root) and part.is_symlink():
                target = Path(os.path.normpath(part.parent / part.readlink()))
                if not target.is_relative_to(self._root):
                    return None
        return followed.read_bytes() if followed.exists() else None


class World:
    """A model root with one revision of a model, and another one that comes."""

    def __init__(self, root: Path, server: OriginServer) -> None:
        self.root = root
        self.store: Store = new_store(root, release_time=lambda: 1000.0)
        self.store.open()
        self._origins = [(OLD, serve(server, OLD, "/old")), (NEW, serve(server, NEW, "/new"))]

    def publish(self, number: int) -> None:
        """Have a revision at the path."""
        model, origin = self._origins[number]
        manifest = manifest_of(model)
        acquire(self.store, manifest, origin, StopFlag(), limits=QUICK)
        self.store.publish(MODEL_UID, PATH, manifest.digest)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with OriginServer() as server:
        world = World(tmp_path / "models", server)
        world.publish(0)
        yield world
        world.store.close()


def test_the_path_of_a_model_shows_the_model_and_stays_with_its_revision(world: World) -> None:
    mounted = Mount(world.root / PATH)
    world.publish(1)
    assert mounted.read("config.json") == OLD["config.json"]
    assert Mount(world.root / PATH).read("config.json") == NEW["config.json"]


def test_a_directory_of_a_model_stays_with_its_revision(world: World) -> None:
    mounted = Mount(world.root / PATH / "tokenizer")
    world.publish(1)
    assert mounted.read("vocab.json") == OLD["tokenizer/vocab.json"]


def test_the_model_root_follows_the_link_at_each_open(world: World) -> None:
    mounted = Mount(world.root)
    assert mounted.read(f"{PATH}/config.json") == OLD["config.json"]
    world.publish(1)
    assert mounted.read(f"{PATH}/config.json") == NEW["config.json"]


def test_a_folder_between_shows_a_link_that_leads_nowhere(world: World) -> None:
    assert Mount(world.root / "meta").read("llama/config.json") is None


def test_a_directory_that_a_pod_made_first_gives_way_to_the_model_and_the_pod_sees_it_empty(tmp_path: Path) -> None:
    with OriginServer() as server:
        world = World(tmp_path / "models", server)
        (world.root / PATH).mkdir(parents=True)
        descriptor = os.open(world.root / PATH, os.O_PATH)
        world.publish(0)
        assert contents_of(Path(f"/proc/self/fd/{descriptor}/")) == {}
        assert Mount(world.root / PATH).read("config.json") == OLD["config.json"]
        os.close(descriptor)
        world.store.close()


def test_nobody_but_root_may_write_what_a_pod_mounts(world: World) -> None:
    for path in (world.root / PATH).resolve().rglob("*"):
        assert not path.stat().st_mode & 0o022
