"""What the artifact store promises about copies that have lost their name, on a real file system."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from tests.support.origin import OriginServer
from tests.support.transfers import (
    QUICK,
    acquire,
    contents_of,
    leftovers,
    manifest_of,
    new_store,
    serve,
    small_model,
)

ONE, OTHER = "uid-1", "uid-2"
MODELS = [small_model(seed, weights_bytes=20_000) for seed in (1, 2, 3)]
MANIFESTS = [manifest_of(model) for model in MODELS]
DIGESTS = [manifest.digest for manifest in MANIFESTS]
OLD, NEW = DIGESTS[:2]


class World:
    """A store that keeps what loses its name, an origin with three revisions, and a clock."""

    def __init__(self, root: Path, server: OriginServer) -> None:
        self.root = root
        self.seconds = 1000.0
        self.server = server
        self.origins = [serve(server, model, f"/{number}") for number, model in enumerate(MODELS)]
        self.store = self.opened()

    def opened(self) -> Store:
        """The store, opened as after a restart."""
        self.store = new_store(self.root, release_time=lambda: self.seconds)
        self.store.open()
        return self.store

    def publish(self, number: int, uid: str = ONE, path: str = "model") -> None:
        """Have a revision at a path."""
        acquire(self.store, MANIFESTS[number], self.origins[number], StopFlag(), limits=QUICK)
        self.store.publish(uid, path, DIGESTS[number], (ONE, OTHER).__contains__)

    def mount(self, path: str = "model") -> Path:
        """What a container has of a path for as long as it runs, wherever the path leads later."""
        return Path(f"/proc/self/fd/{os.open(self.root / path, os.O_PATH)}/")

    def forget(self) -> None:
        """Nobody uses anything."""
        self.store.forget_releases(self.store.releases())


@pytest.fixture
def server() -> Iterator[OriginServer]:
    with OriginServer() as origin:
        yield origin


@pytest.fixture
def world(tmp_path: Path, server: OriginServer) -> Iterator[World]:
    world = World(tmp_path / "models", server)
    yield world
    world.store.close()


def test_an_earlier_revision_stays_whole_until_nobody_uses_it(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    world.publish(1)
    assert contents_of(world.root / "model") == MODELS[1]
    assert contents_of(mounted) == MODELS[0]
    (release,) = world.store.releases()
    assert (release.digest, release.uid, release.path, release.released_at) == (OLD, ONE, "model", 1000.0)
    world.forget()
    assert not world.store.holds(OLD)
    assert contents_of(mounted) == {}
    assert leftovers(world.store) == []


def test_a_model_that_is_removed_leaves_its_files_until_nobody_uses_them(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    world.store.unpublish(ONE)
    assert not (world.root / "model").exists()
    assert contents_of(mounted) == MODELS[0]
    world.forget()
    assert contents_of(mounted) == {}


def test_what_another_model_names_stays_when_nobody_uses_it_by_the_name_that_it_lost(world: World) -> None:
    world.publish(0)
    world.publish(0, OTHER, "other")
    world.store.unpublish(ONE)
    world.forget()
    assert contents_of(world.root / "other") == MODELS[0]


def test_what_two_models_named_stays_until_it_is_not_used_by_either_name(world: World) -> None:
    world.publish(0)
    world.publish(0, OTHER, "other")
    world.store.unpublish(ONE)
    world.store.unpublish(OTHER)
    first, second = world.store.releases()
    world.store.forget_releases([first])
    assert world.store.holds(OLD)
    world.store.forget_releases([second])
    assert not world.store.holds(OLD)


def test_a_model_that_moves_is_released_at_the_path_that_it_had(world: World) -> None:
    world.publish(0)
    world.publish(0, path="elsewhere")
    assert [each.path for each in world.store.releases()] == ["model"]
    world.forget()
    assert contents_of(world.root / "elsewhere") == MODELS[0]


def test_a_path_that_another_model_takes_over_is_released(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    world.publish(1, OTHER)
    world.store.unpublish(ONE)
    assert contents_of(mounted) == MODELS[0]
    assert {each.digest for each in world.store.releases()} == {OLD}


def test_going_back_to_a_revision_that_is_still_there_moves_no_bytes(world: World) -> None:
    world.publish(0)
    world.publish(1)
    sent = world.server.bytes_sent
    world.publish(0)
    assert world.server.bytes_sent == sent
    assert contents_of(world.root / "model") == MODELS[0]


def test_what_was_released_anew_is_not_forgotten_with_what_was_known_before(world: World) -> None:
    world.publish(0)
    world.publish(1)
    before = world.store.releases()
    world.publish(0)
    world.seconds = 2000.0
    world.publish(1)
    world.store.forget_releases(before)
    assert world.store.holds(OLD)
    assert [each.released_at for each in world.store.releases() if each.digest == OLD] == [2000.0]


def test_publishing_again_what_stands_releases_nothing(world: World) -> None:
    world.publish(0)
    world.publish(0)
    assert world.store.releases() == []


def test_a_repair_leaves_the_files_that_it_replaces_to_those_who_have_mounted_them(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    config = world.store.artifact_path(OLD) / "config.json"
    config.chmod(0o644)
    config.write_bytes(b"damaged")
    damaged = world.store.check(OLD)
    acquire(world.store, MANIFESTS[0], world.origins[0], StopFlag(), limits=QUICK, damaged=damaged)
    assert contents_of(world.root / "model") == MODELS[0]
    assert contents_of(mounted) == MODELS[0] | {"config.json": b"damaged"}
    world.forget()
    assert contents_of(mounted) == {}
    assert contents_of(world.root / "model") == MODELS[0]
    assert leftovers(world.store) == []


def test_who_used_an_earlier_name_of_a_damaged_copy_keeps_what_it_has_mounted(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    world.publish(0, OTHER, "other")
    world.store.unpublish(ONE)
    (world.store.artifact_path(OLD) / "config.json").unlink()
    acquire(world.store, MANIFESTS[0], world.origins[0], StopFlag(), limits=QUICK, damaged=("config.json",))
    assert "model.safetensors" in contents_of(mounted)
    assert {(each.uid, each.path) for each in world.store.releases()} == {(ONE, "model"), (OTHER, "other")}
    world.forget()
    assert contents_of(world.root / "other") == MODELS[0]


def test_a_restart_and_what_is_collected_after_it_leave_what_is_kept(world: World) -> None:
    world.publish(0)
    mounted = world.mount()
    world.publish(1)
    world.store.close()
    world.opened()
    world.store.collect([NEW])
    assert contents_of(mounted) == MODELS[0]
    assert [each.digest for each in world.store.releases()] == [OLD]


def test_a_record_that_makes_no_sense_is_dropped(world: World) -> None:
    world.publish(0)
    world.publish(1)
    (record,) = (world.root / ".ome" / "releases").iterdir()
    record.with_name("x.json").write_text("{}")
    record.with_name("y.json").write_text(record.read_text())
    world.store.close()
    world.opened()
    assert len(world.store.releases()) == 1
    assert [each.name for each in (world.root / ".ome" / "releases").iterdir()] == [record.name]


def test_a_node_that_is_given_back_keeps_nothing(world: World) -> None:
    world.publish(0)
    world.publish(1)
    assert world.store.clear() == []
    assert list(world.root.iterdir()) == []


def test_a_model_that_took_a_path_over_takes_its_link_along(world: World) -> None:
    world.publish(0, OTHER)
    world.publish(1)
    world.store.unpublish(ONE)
    assert not (world.root / "model").is_symlink()
    world.forget()
    assert {digest for digest in DIGESTS if world.store.holds(digest)} == {OLD}
    world.publish(0, OTHER)
    assert contents_of(world.root / "model") == MODELS[0]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2), st.sampled_from([ONE, OTHER]), st.sampled_from(["a", "b"])),
        st.tuples(st.just("unpublish"), st.sampled_from([ONE, OTHER])),
        st.tuples(st.just("forget"), st.integers(0, 5)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("collect")),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_what_is_named_or_kept_is_there_and_nothing_else(
    steps: list[tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with OriginServer() as server:
        world = World(tmp_path_factory.mktemp("root") / "models", server)
        for step in steps:
            world.seconds += 1
            match step:
                case ("publish", int(number), str(uid), str(path)):
                    world.publish(number, uid, path)
                case ("unpublish", str(uid)):
                    world.store.unpublish(uid)
                case ("forget", int(number)):
                    world.store.forget_releases(world.store.releases()[number : number + 1])
                case ("restart",):
                    world.store.close()
                    world.opened()
                case _:
                    world.store.collect(())
            named = {each.digest for each in world.store.publications().values()}
            kept = {each.digest for each in world.store.releases()}
            held = {digest for digest in DIGESTS if world.store.holds(digest)}
            assert named | kept == held
            assert all(world.store.check(digest) == () for digest in held)
        world.store.unpublish(ONE)
        world.store.unpublish(OTHER)
        world.forget()
        assert not any(world.store.holds(digest) for digest in DIGESTS)
        assert leftovers(world.store) == []
        world.store.close()
