"""What the artifact store promises about names, copies and deletion, on a real file system with a real origin."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile
from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, Unavailable
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.artifacts import Store
from services.fetcher.store.ingest import LINKED_BYTES
from services.fetcher.store.scopes import Claimant, claimant_of
from services.fetcher.store.space import FileSystem, Reservations
from services.fetcher.transfer import acquire as acquiring
from services.fetcher.transfer.progress import Progress
from services.fetcher.transfer.proving import RANGE_BYTES, RANGES, WHOLE_BYTES
from tests.support.origin import Fault, OriginServer
from tests.support.small_disk import small_disk
from tests.support.transfers import (
    CLAIMANT,
    PATIENT,
    UrlOrigin,
    acquire,
    contents_of,
    leftovers,
    manifest_of,
    new_store,
    serve,
    small_model,
)

ONE, OTHER = "uid-1", "uid-2"
OLD = small_model(seed=1, weights_bytes=200_000)
NEW = OLD | {"config.json": b"{}"}
OLD_MANIFEST, NEW_MANIFEST = manifest_of(OLD), manifest_of(NEW)


class World:
    """A store and an origin that has two revisions of a model."""

    def __init__(self, store: Store, server: OriginServer) -> None:
        self.store = store
        self.server = server
        self.old = serve(server, OLD, "/old")
        self.new = serve(server, NEW, "/new")
        self.root = store.directory

    def hold_old(self) -> str:
        """Fetch the old revision."""
        acquire(self.store, OLD_MANIFEST, self.old, StopFlag(), limits=PATIENT)
        return OLD_MANIFEST.digest

    def hold_new(self) -> str:
        """Fetch the new revision."""
        acquire(self.store, NEW_MANIFEST, self.new, StopFlag(), limits=PATIENT)
        return NEW_MANIFEST.digest


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with OriginServer() as server, new_store(tmp_path / "models") as store:
        yield World(store, server)


def test_a_published_model_is_a_relative_link_to_its_files(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "team/a/model", digest)
    link = world.root / "team" / "a" / "model"
    assert os.readlink(link) == f"../../.ome/artifacts/{digest.replace(':', '-')}"
    assert contents_of(link) == OLD


def test_publishing_again_changes_nothing(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "model", digest)
    before = (world.root / "model").lstat().st_ino
    world.store.publish(ONE, "model", digest)
    assert (world.root / "model").lstat().st_ino == before


def test_a_new_revision_replaces_the_link_and_frees_the_old_copy(world: World) -> None:
    old = world.hold_old()
    world.store.publish(ONE, "model", old)
    new = world.hold_new()
    world.store.publish(ONE, "model", new)
    assert contents_of(world.root / "model") == NEW
    assert world.store.holds(new)
    assert not world.store.holds(old)
    with pytest.raises(Missing):
        world.store.manifest(old)


def test_two_models_share_one_copy_and_it_goes_with_the_last_name(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "one", digest)
    world.store.publish(OTHER, "two", digest)
    assert world.store.unpublish(ONE)
    assert not (world.root / "one").exists()
    assert contents_of(world.root / "two") == OLD
    assert world.store.unpublish(OTHER)
    assert not world.store.holds(digest)
    assert leftovers(world.store) == []
    assert not world.store.unpublish(OTHER)


def test_what_is_reserved_stays_for_nobody_and_survives_a_restart(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "team/one", digest)
    world.store.reserve(ONE)
    world.store.reserve(ONE)
    world.store.abandon(digest)
    assert world.store.publications() == {}
    assert world.store.publication(ONE) is None
    world.store.close()
    world.store.open()
    assert world.store.collect([]) == []
    assert contents_of(world.root / "team" / "one") == OLD
    assert world.store.publications() == {}


def test_a_model_takes_over_what_was_reserved_at_its_path_and_it_goes_with_that(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "team/one", digest)
    world.store.reserve(ONE)
    world.store.check_path(OTHER, "team/one")
    world.store.publish(OTHER, "team/one", digest)
    assert contents_of(world.root / "team" / "one") == OLD
    assert world.store.unpublish(OTHER)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]
    assert leftovers(world.store) == []


def test_what_is_reserved_serves_a_model_with_the_same_files_at_another_path(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "one", digest)
    world.store.reserve(ONE)
    assert world.store.may_share(digest, CLAIMANT)
    world.store.publish(OTHER, "two", digest)
    assert world.store.age_reserved(11, limit_seconds=10) == ["one"]
    assert contents_of(world.root / "two") == OLD
    assert not (world.root / "one").is_symlink()


def test_what_is_reserved_goes_when_its_time_is_over_and_restarts_do_not_begin_it_anew(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "team/one", digest)
    world.store.publish(OTHER, "two", world.hold_new())
    world.store.reserve(ONE)
    assert world.store.age_reserved(6, limit_seconds=10) == []
    world.store.close()
    world.store.open()
    assert world.store.age_reserved(4, limit_seconds=10) == []
    assert contents_of(world.root / "team" / "one") == OLD
    assert world.store.age_reserved(1, limit_seconds=10) == ["team/one"]
    assert not (world.root / "team").exists()
    assert not world.store.holds(digest)
    assert contents_of(world.root / "two") == NEW


def test_a_model_that_takes_over_what_is_reserved_ends_its_time(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "one", digest)
    world.store.reserve(ONE)
    world.store.age_reserved(9, limit_seconds=10)
    world.store.publish(OTHER, "one", digest)
    assert world.store.age_reserved(100, limit_seconds=10) == []
    assert contents_of(world.root / "one") == OLD


def test_another_revision_at_the_path_frees_what_was_reserved(world: World) -> None:
    old = world.hold_old()
    world.store.publish(ONE, "one", old)
    world.store.reserve(ONE)
    world.store.publish(OTHER, "one", world.hold_new())
    assert contents_of(world.root / "one") == NEW
    assert not world.store.holds(old)


def test_what_was_reserved_goes_at_the_next_start_when_its_link_was_removed(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "one", digest)
    world.store.reserve(ONE)
    (world.root / "one").unlink()
    world.store.close()
    world.store.open()
    assert world.store.collect([]) == [digest]
    assert leftovers(world.store) == []


def test_a_model_that_moves_leaves_its_old_path(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "team/model", digest)
    world.store.publish(ONE, "other/model", digest)
    assert sorted(path.name for path in world.root.iterdir()) == [".ome", "other"]
    assert contents_of(world.root / "other" / "model") == OLD


def test_directories_made_for_a_model_go_with_it_unless_they_are_used(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "made/used/model", digest)
    (world.root / "made" / "kept.txt").write_text("someone else's")
    world.store.unpublish(ONE)
    assert contents_of(world.root / "made") == {"kept.txt": b"someone else's"}
    assert not (world.root / "made" / "used").exists()


@pytest.mark.parametrize("what", ["directory", "file", "link", "link of the right shape in another root"])
def test_what_stands_at_the_path_and_is_not_ours_stays(what: str, world: World, tmp_path: Path) -> None:
    path = world.root / "model"
    if what == "directory":
        path.mkdir()
        (path / "precious").write_text("x")
    elif what == "file":
        path.write_text("x")
    else:
        path.symlink_to(tmp_path if what == "link" else "../.ome/artifacts/sha256-" + "0" * 64)
    digest = world.hold_old()
    with pytest.raises(Unavailable) as raised:
        world.store.publish(ONE, "model", digest)
    assert raised.value.reason == "PathOccupied"
    assert "/models/model" in raised.value.message
    with pytest.raises(Unavailable):
        world.store.check_path(ONE, "model")
    assert os.path.lexists(path)
    assert (what != "directory") or (path / "precious").exists()
    assert world.store.publications() == {}


def test_an_empty_directory_at_the_path_gives_way_to_the_model(world: World) -> None:
    # As the kubelet leaves one for a Pod that came first, with a hostPath of type DirectoryOrCreate.
    (world.root / "team" / "model").mkdir(parents=True)
    digest = world.hold_old()
    world.store.check_path(ONE, "team/model")
    world.store.publish(ONE, "team/model", digest)
    assert contents_of(world.root / "team" / "model") == OLD
    world.store.unpublish(ONE)
    assert [entry.name for entry in (world.root / "team").iterdir()] == []


@pytest.mark.parametrize("inside", ["a file", "a folder"])
def test_a_directory_that_is_filled_before_the_link_is_set_stays(
    inside: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, digest, remove = world.root / "model", world.hold_old(), os.rmdir
    folder.mkdir()

    def filled_first(path: str, *, dir_fd: int | None = None) -> None:
        if path == "model":
            (folder / "precious").mkdir() if inside == "a folder" else (folder / "precious").write_text("x")
        remove(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", filled_first)
    with pytest.raises(Unavailable) as raised:
        world.store.publish(ONE, "model", digest)
    assert raised.value.reason == "PathOccupied"
    assert (folder / "precious").exists()


def test_a_path_through_a_link_is_refused_and_nothing_is_made_behind_it(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (world.root / "link").symlink_to(outside)
    digest = world.hold_old()
    with pytest.raises(Invalid) as raised:
        world.store.publish(ONE, "link/deep/model", digest)
    assert raised.value.reason == "InvalidPath"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(("first", "second"), [("model", "model/inner"), ("model/inner", "model")])
def test_a_path_above_or_below_another_model_is_refused_for_as_long_as_that_stands(
    first: str, second: str, world: World
) -> None:
    old, new = world.hold_old(), world.hold_new()
    world.store.publish(ONE, first, old)
    with pytest.raises(Unavailable) as raised:
        world.store.publish(OTHER, second, new)
    assert raised.value.reason == "PathConflict"
    assert contents_of(world.root / first) == OLD
    world.store.unpublish(ONE)
    world.store.publish(OTHER, second, new)
    assert contents_of(world.root / second) == NEW


def test_two_models_swap_their_paths(world: World) -> None:
    old, new = world.hold_old(), world.hold_new()
    world.store.publish(ONE, "made/one", old)
    world.store.publish(OTHER, "made/other", new)
    world.store.publish(ONE, "made/other", old, leaving={OTHER}.__contains__)
    assert contents_of(world.root / "made/other") == OLD
    assert not world.store.publications()[OTHER].intact
    world.store.publish(OTHER, "made/one", new, leaving={ONE}.__contains__)
    assert contents_of(world.root / "made/other") == OLD
    assert contents_of(world.root / "made/one") == NEW
    world.store.unpublish(ONE)
    world.store.unpublish(OTHER)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]


def test_a_directory_that_two_models_share_goes_with_the_last_of_them(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "made/one", digest)
    world.store.publish(OTHER, "made/other", digest)
    world.store.unpublish(ONE)
    world.store.unpublish(OTHER)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]


def test_a_store_whose_directory_is_removed_by_hand_starts_anew_and_keeps_its_names(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "made/model", digest)
    shutil.rmtree(world.root / ".ome")
    world.store.check_path(ONE, "made/model")
    assert not world.store.holds(digest)
    world.store.publish(ONE, "made/model", world.hold_old())
    assert contents_of(world.root / "made/model") == OLD
    with pytest.raises(Conflict):
        new_store(world.root).open()
    shutil.rmtree(world.root / ".ome")
    world.store.unpublish(ONE)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]


def test_a_model_that_goes_leaves_the_path_to_the_one_that_took_it_over(world: World) -> None:
    old, new = world.hold_old(), world.hold_new()
    world.store.publish(ONE, "made/model", old)
    world.store.publish(OTHER, "made/model", new, leaving={ONE}.__contains__)
    world.store.unpublish(ONE)
    assert contents_of(world.root / "made/model") == NEW
    assert not world.store.holds(old)
    world.store.unpublish(OTHER)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]


@pytest.mark.parametrize("path", ["", "../model", "a/../../model", ".ome/artifacts/x", "a//b"])
def test_a_path_out_of_the_root_or_into_the_state_is_refused(path: str, world: World) -> None:
    digest = world.hold_old()
    with pytest.raises(Invalid):
        world.store.publish(ONE, path, digest)
    assert [entry.name for entry in world.root.iterdir()] == [".ome"]


def test_two_models_do_not_take_each_others_path(world: World) -> None:
    old, new = world.hold_old(), world.hold_new()
    world.store.publish(ONE, "model", old)
    with pytest.raises(Unavailable) as raised:
        world.store.publish(OTHER, "model", new)
    assert raised.value.reason == "PathConflict"
    assert contents_of(world.root / "model") == OLD
    world.store.unpublish(ONE)
    world.store.publish(OTHER, "model", new)
    assert contents_of(world.root / "model") == NEW


def test_removing_a_model_leaves_what_someone_put_in_its_place(world: World) -> None:
    world.store.publish(ONE, "model", world.hold_old())
    (world.root / "model").unlink()
    (world.root / "model").mkdir()
    assert not world.store.publications()[ONE].intact
    world.store.unpublish(ONE)
    assert (world.root / "model").is_dir()


def test_a_restart_knows_what_was_published_without_a_network(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "model", digest)
    world.store.close()
    world.server.close()
    with new_store(world.root) as store:
        publication = store.publications()[ONE]
        assert (publication.path, publication.digest, publication.intact) == ("model", digest, True)
        assert store.manifest(digest) == OLD_MANIFEST
        assert store.check(digest) == ()


def test_an_artifact_that_is_not_held_cannot_be_published(world: World) -> None:
    with pytest.raises(Conflict):
        world.store.publish(ONE, "model", OLD_MANIFEST.digest)


def test_a_check_finds_missing_and_short_files_and_a_scrub_finds_flipped_bits(world: World) -> None:
    digest = world.hold_old()
    artifact = world.store.artifact_path(digest)
    rot(artifact / "model.safetensors", 77_777)
    assert world.store.check(digest) == ()
    assert world.store.scrub(digest, StopFlag(), bytes_per_second=1e9) == ("model.safetensors",)
    assert world.store.scrub(digest, StopFlag(), paths=("config.json",)) == ()
    os.truncate(artifact / "config.json", 3)
    (artifact / "tokenizer" / "vocab.json").unlink()
    assert world.store.check(digest) == ("config.json", "tokenizer/vocab.json")


def modes(directory: Path) -> set[tuple[bool, int]]:
    """Whether something is a directory, and its mode, of all that an artifact consists of."""
    found = [directory, *directory.rglob("*")]
    return {(path.is_dir(), path.stat().st_mode & 0o7777) for path in found}


READ_ONLY = {(True, 0o755), (False, 0o444)}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_nobody_but_the_owner_of_directories_may_write_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with OriginServer() as server, new_store(tmp_path / "models") as store:
            acquire(store, OLD_MANIFEST, serve(server, OLD), StopFlag(), limits=PATIENT)
            store.publish(ONE, "team/model", OLD_MANIFEST.digest)
            assert modes(store.artifact_path(OLD_MANIFEST.digest)) == READ_ONLY
            for folder in ("", "team", ".ome", ".ome/artifacts"):
                assert (store.directory / folder).stat().st_mode & 0o7777 == 0o755, folder
            assert (store.directory / ".ome" / "staging").stat().st_mode & 0o077 == 0, "nobody reads what is not proven"
            store.unpublish(ONE)
            assert leftovers(store) == []
    finally:
        os.umask(before)


def test_a_write_into_a_small_file_of_one_model_changes_no_other_model(world: World) -> None:
    old, new = world.hold_old(), world.hold_new()
    for path in ("tokenizer/vocab.json", "model.safetensors"):
        flip(world.store.artifact_path(old) / path, 7)
    assert contents_of(world.store.artifact_path(new)) == NEW


def test_large_files_are_shared_between_models(tmp_path: Path) -> None:
    model = {"model.safetensors": bytes(LINKED_BYTES), "config.json": b"{ }"}
    other = {**model, "config.json": b"{}"}
    with OriginServer() as server, new_store(tmp_path / "models") as store:
        for prefix, contents in (("/model", model), ("/other", other)):
            acquire(store, manifest_of(contents), serve(server, contents, prefix), StopFlag(), limits=PATIENT)
        directories = [store.artifact_path(manifest_of(contents).digest) for contents in (model, other)]
        assert server.bytes_sent < 2 * LINKED_BYTES
        assert modes(directories[0]) == modes(directories[1]) == READ_ONLY


def test_a_check_notices_a_write_that_keeps_the_size(world: World) -> None:
    digest = world.hold_old()
    assert world.store.check(digest) == ()
    flip(world.store.artifact_path(digest) / "model.safetensors", 77_777)
    assert world.store.check(digest) == ("model.safetensors",)
    replacement = world.store.artifact_path(digest) / "config.json"
    replacement.unlink()
    replacement.write_bytes(bytes(len(OLD["config.json"])))
    os.utime(replacement, ns=(0, 0))
    assert world.store.check(digest) == ("config.json", "model.safetensors")
    acquire(world.store, OLD_MANIFEST, world.old, StopFlag(), limits=PATIENT, damaged=world.store.check(digest))
    assert world.store.check(digest) == ()
    assert contents_of(world.store.artifact_path(digest)) == OLD


def test_a_file_that_was_touched_and_is_right_is_not_fetched_again(world: World) -> None:
    digest = world.hold_old()
    for path in ("config.json", "model.safetensors"):
        os.utime(world.store.artifact_path(digest) / path)
    damaged, sent = world.store.check(digest), world.server.bytes_sent
    assert damaged == ("config.json", "model.safetensors")
    acquire(world.store, OLD_MANIFEST, world.old, StopFlag(), limits=PATIENT, damaged=damaged)
    assert world.server.bytes_sent == sent
    assert world.store.check(digest) == ()


def test_an_artifact_from_before_gets_its_modes_without_a_download(world: World) -> None:
    digest = world.hold_old()
    artifact = world.store.artifact_path(digest)
    world.store.close()
    shutil.rmtree(world.root / ".ome" / "marks")
    for path in (artifact, *artifact.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    world.store.open()
    sent = world.server.bytes_sent
    assert world.store.check(digest) == ()
    assert modes(artifact) == READ_ONLY
    flip(artifact / "config.json", 7)
    assert world.store.check(digest) == ("config.json",)
    assert world.server.bytes_sent == sent


@pytest.mark.parametrize("left", [b"", b"\0" * 100, b'{"directory": 1, "fi'], ids=["empty", "zeros", "part"])
def test_marks_that_a_power_cut_has_torn_are_taken_anew_without_a_download(world: World, left: bytes) -> None:
    digest = world.hold_old()
    (record,) = (world.root / ".ome" / "marks").iterdir()
    world.store.close()
    record.write_bytes(left)
    world.store.open()
    sent = world.server.bytes_sent
    assert world.store.check(digest) == ()
    flip(world.store.artifact_path(digest) / "config.json", 7)
    assert world.store.check(digest) == ("config.json",)
    assert world.server.bytes_sent == sent


def test_what_fsgroup_of_a_pod_opens_for_writing_is_closed_again_by_the_next_look(world: World) -> None:
    artifact = world.store.artifact_path(world.hold_old())
    for path in (artifact, *artifact.rglob("*")):
        # The kubelet does this to a whole volume that a Pod with fsGroup mounts for writing.
        if os.geteuid() == 0:
            os.chown(path, -1, 4711)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    sent = world.server.bytes_sent
    assert world.store.check(OLD_MANIFEST.digest) == ()
    assert modes(artifact) == READ_ONLY
    assert world.server.bytes_sent == sent


def test_what_a_kill_left_linked_in_staging_is_not_written_through(world: World) -> None:
    old = world.hold_old()
    staging = world.root / ".ome" / "staging" / CLAIMANT.staging(NEW_MANIFEST.digest) / "files"
    staging.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        os.link(world.store.artifact_path(old) / name, staging / name)
    flip(world.store.artifact_path(old) / "model.safetensors", 7)
    world.hold_new()
    assert world.store.artifact_path(old).joinpath("config.json").read_bytes() == OLD["config.json"]
    flip(world.store.artifact_path(old) / "model.safetensors", 7)
    assert contents_of(world.store.artifact_path(old)) == OLD


def test_a_scrub_stops_when_told_to(world: World) -> None:
    digest, stop = world.hold_old(), StopFlag()
    stop.set()
    with pytest.raises(Stopped):
        world.store.scrub(digest, stop, bytes_per_second=1)


def test_a_repair_fetches_the_damaged_files_alone_and_keeps_the_name(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "model", digest)
    flip(world.store.artifact_path(digest) / "tokenizer" / "vocab.json", 5)
    sent = world.server.bytes_sent
    damaged = world.store.scrub(digest, StopFlag())
    acquire(world.store, OLD_MANIFEST, world.old, StopFlag(), limits=PATIENT, damaged=damaged)
    assert world.server.bytes_sent - sent == len(OLD["tokenizer/vocab.json"])
    assert contents_of(world.root / "model") == OLD
    assert leftovers(world.store) == []


def test_a_damaged_manifest_is_noticed(world: World) -> None:
    digest = world.hold_old()
    (manifest,) = (world.root / ".ome" / "manifests").iterdir()
    manifest.write_text(manifest.read_text().replace("config", "c0nfig"))
    with pytest.raises(Corrupt) as raised:
        world.store.check(digest)
    assert raised.value.reason == "ArtifactDamaged"


def test_a_file_that_another_revision_has_is_not_fetched_again(world: World) -> None:
    world.store.publish(ONE, "model", world.hold_old())
    sent = world.server.bytes_sent
    new = world.hold_new()
    assert world.server.bytes_sent - sent == len(NEW["config.json"])
    assert contents_of(world.store.artifact_path(new)) == NEW


def test_a_file_that_another_revision_has_damaged_is_fetched(world: World) -> None:
    old = world.hold_old()
    flip(world.store.artifact_path(old) / "model.safetensors", 9)
    new = world.hold_new()
    assert contents_of(world.store.artifact_path(new)) == NEW


def another(uid: str, *scopes: str) -> Claimant:
    return claimant_of(uid, scopes)


def test_another_scope_has_an_artifact_once_ranges_of_every_file_have_come_from_its_own_origin(tmp_path: Path) -> None:
    model = small_model(weights_bytes=3 * WHOLE_BYTES)
    manifest = manifest_of(model)
    with OriginServer() as server, new_store(tmp_path / "models") as store:
        acquire(store, manifest, serve(server, model), StopFlag(), limits=PATIENT)
        own = serve(server, model, "/own")
        before, stranger = server.bytes_sent, another(OTHER, "other")
        acquiring.acquire(store, manifest, own, StopFlag(), stranger, limits=PATIENT)
        asked = [request.target for request in server.requests if request.target.startswith("/own")]
        assert {path for path, content in model.items() if content} == {path.removeprefix("/own/") for path in asked}
        assert asked.count("/own/model.safetensors") == RANGES
        small = sum(len(content) for content in model.values() if len(content) <= WHOLE_BYTES)
        assert server.bytes_sent - before == small + RANGES * RANGE_BYTES
        assert leftovers(store) == []
        store.close()
        store.open()
        server.close()
        acquiring.acquire(store, manifest, own, StopFlag(), another("third", "other"), limits=PATIENT)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, headers={"Retry-After": "0"}, times=2),
        Fault("cut", after_bytes=100, times=2, skip=1),
        Fault("reset", after_bytes=100, times=2, skip=3),
        Fault("close", times=3),
        Fault("garbage", times=2),
        Fault("chunked", times=999),
        Fault("other_range", times=2, skip=2),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_proof_survives_what_a_download_survives(fault: Fault, tmp_path: Path) -> None:
    model = small_model(weights_bytes=3 * WHOLE_BYTES)
    manifest, stranger = manifest_of(model), another(OTHER, "other")
    with OriginServer() as server, new_store(tmp_path / "models") as store:
        acquire(store, manifest, serve(server, model), StopFlag(), limits=PATIENT)
        own = serve(server, model, "/own")
        before, injected = server.bytes_sent, server.inject(replace(fault, path="/own/model.safetensors"))
        acquiring.acquire(store, manifest, own, StopFlag(), stranger, limits=PATIENT)
        assert injected.fired
        assert server.bytes_sent - before < 2 * WHOLE_BYTES, "it was not fetched"
        assert store.may_share(manifest.digest, stranger)


def test_a_proof_follows_the_origin_to_where_the_bytes_are(tmp_path: Path) -> None:
    model = small_model(weights_bytes=3 * WHOLE_BYTES)
    manifest, stranger = manifest_of(model), another(OTHER, "other")
    with OriginServer() as server, OriginServer() as cdn, new_store(tmp_path / "models") as store:
        acquire(store, manifest, serve(server, model), StopFlag(), limits=PATIENT)
        cdn.add("/weights", model["model.safetensors"])
        own = serve(server, model, "/own")
        server.redirect("/own/model.safetensors", f"{cdn.url}/weights")
        acquiring.acquire(store, manifest, own, StopFlag(), stranger, limits=PATIENT)
        assert len(cdn.requests) == RANGES
        assert len(server.requested("/own/model.safetensors")) == 1
        assert store.may_share(manifest.digest, stranger)


def test_a_proof_ends_when_it_is_told_to(world: World) -> None:
    world.hold_old()
    stop, own = StopFlag(), serve(world.server, OLD, "/own")
    world.server.inject(Fault("stall", "/own/model.safetensors", times=99))
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        acquiring.acquire(world.store, OLD_MANIFEST, own, stop, another(OTHER, "other"), limits=PATIENT)
    timer.join()


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_an_origin_that_lacks_a_file_gets_none_of_an_artifact(world: World, lacking: str) -> None:
    digest, stranger = world.hold_old(), another(OTHER, "other")
    forged = {**OLD, lacking: bytes(len(OLD[lacking]))}
    hostile = serve(world.server, forged, "/hostile")
    for _ in range(2):
        with pytest.raises(Corrupt) as raised:
            acquiring.acquire(world.store, OLD_MANIFEST, hostile, StopFlag(), stranger, limits=PATIENT)
        assert raised.value.reason == "ChecksumMismatch"
        assert not world.store.may_share(digest, stranger)
    for path in OLD:
        world.server.remove(f"/hostile/{path}")
    with pytest.raises(Missing):
        acquiring.acquire(world.store, OLD_MANIFEST, hostile, StopFlag(), another("third", "x"), limits=PATIENT)
    assert contents_of(world.store.artifact_path(digest)) == OLD


def test_an_origin_that_sends_no_ranges_is_asked_for_everything(tmp_path: Path) -> None:
    model = small_model(weights_bytes=3 * WHOLE_BYTES)
    manifest = manifest_of(model)
    with OriginServer() as server, new_store(tmp_path / "models") as store:
        acquire(store, manifest, serve(server, model), StopFlag(), limits=PATIENT)
        held = store.artifact_path(manifest.digest).stat().st_ino
        server.inject(Fault("whole", "/own/model.safetensors", times=999))
        stranger = another(OTHER, "other")
        acquiring.acquire(store, manifest, serve(server, model, "/own"), StopFlag(), stranger, limits=PATIENT)
        assert store.may_share(manifest.digest, stranger)
        assert store.artifact_path(manifest.digest).stat().st_ino == held, "whoever has it open keeps it"
        assert leftovers(store) == []


def test_what_one_scope_has_begun_to_fetch_is_not_another_ones(world: World) -> None:
    stop = StopFlag()
    world.server.inject(Fault("stall", "/old/model.safetensors", times=99, after_bytes=100_000))
    with pytest.raises(Stopped):
        acquire(
            world.store, OLD_MANIFEST, world.old, stop, lambda progress: stop_after(progress, 70_000, stop), PATIENT
        )
    world.server.heal()
    own = serve(world.server, OLD, "/own")
    before = world.server.bytes_sent
    acquiring.acquire(world.store, OLD_MANIFEST, own, StopFlag(), another(OTHER, "other"), limits=PATIENT)
    assert world.server.bytes_sent - before == OLD_MANIFEST.size_bytes


def stop_after(progress: Progress, count: int, stop: StopFlag) -> None:
    if progress.bytes_done > count:
        stop.set()


def test_a_file_that_another_scope_has_is_fetched(world: World) -> None:
    world.hold_old()
    before = world.server.bytes_sent
    acquiring.acquire(world.store, NEW_MANIFEST, world.new, StopFlag(), another(OTHER, "other"), limits=PATIENT)
    assert world.server.bytes_sent - before == NEW_MANIFEST.size_bytes


def test_a_model_from_before_there_were_scopes_keeps_what_it_has_and_others_prove_it(world: World) -> None:
    digest = world.hold_old()
    world.store.publish(ONE, "model", digest)
    world.store.close()
    shutil.rmtree(world.root / ".ome" / "scopes")
    world.store.open()
    before = len(world.server.requests)
    acquiring.acquire(world.store, OLD_MANIFEST, world.old, StopFlag(), another(ONE, "any"), limits=PATIENT)
    assert len(world.server.requests) == before
    assert not world.store.may_share(digest, another(OTHER, "other"))
    acquiring.acquire(world.store, OLD_MANIFEST, world.old, StopFlag(), another(OTHER, "other"), limits=PATIENT)
    assert len(world.server.requests) > before


def test_scopes_go_with_the_artifact(world: World) -> None:
    world.store.publish(ONE, "model", world.hold_old())
    assert list((world.root / ".ome" / "scopes").iterdir())
    world.store.unpublish(ONE)
    assert not list((world.root / ".ome" / "scopes").iterdir())


def test_what_nobody_wants_is_collected_and_the_rest_stays(world: World) -> None:
    published, wanted = world.hold_old(), world.hold_new()
    world.store.publish(ONE, "model", published)
    assert world.store.collect({wanted}) == []
    assert world.store.collect(()) == [wanted]
    assert world.store.holds(published)
    assert contents_of(world.root / "model") == OLD


def test_an_abandoned_download_leaves_no_file_and_is_not_waited_for(world: World) -> None:
    stop, stalled = StopFlag(), threading.Event()
    fault = world.server.inject(Fault("stall", "/old/model.safetensors", times=99))

    def note(_: Progress) -> None:
        if fault.fired:
            stalled.set()

    thread = threading.Thread(target=expect_stopped, args=(world, stop, note))
    thread.start()
    assert stalled.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert leftovers(world.store)
    world.store.abandon(OLD_MANIFEST.digest)
    assert leftovers(world.store) == []


def test_other_models_can_be_removed_while_a_download_hangs(world: World) -> None:
    world.store.publish(ONE, "model", world.hold_new())
    stop, stalled = StopFlag(), threading.Event()
    world.server.inject(Fault("stall", "/old/config.json", times=99))
    thread = threading.Thread(target=expect_stopped, args=(world, stop, lambda _: stalled.set()))
    thread.start()
    assert stalled.wait(30)
    assert world.store.unpublish(ONE)
    assert thread.is_alive()
    stop.set()
    thread.join(30)


def test_two_models_with_one_artifact_fetch_it_once(world: World) -> None:
    threads = [threading.Thread(target=world.hold_old) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.server.bytes_sent == OLD_MANIFEST.size_bytes
    assert contents_of(world.store.artifact_path(OLD_MANIFEST.digest)) == OLD


def test_a_model_that_is_too_large_is_refused_with_both_numbers_before_the_first_byte(world: World) -> None:
    huge = Manifest("r", (ManifestFile("huge", 1 << 60, ChecksumAlgorithm.SHA256, "0" * 64),))
    with pytest.raises(Unavailable) as raised:
        acquire(world.store, huge, world.old, StopFlag(), limits=PATIENT)
    assert raised.value.reason == "InsufficientDisk"
    assert re.search(r"^/models has [\d.]+ \wiB free; the model needs 1 EiB\.", raised.value.message)
    assert world.server.requests == []


def test_room_that_is_promised_to_one_download_is_not_promised_to_another(tmp_path: Path) -> None:
    reservations = Reservations()
    one, other = (FileSystem(name, tmp_path, reservations) for name in ("/models", "/raid/models"))
    most = one.capacity().free_bytes * 2 // 3
    promise = one.admit(most)
    with pytest.raises(Unavailable, match=r"free, of which other downloads need [\d.]+ \wiB; the model needs"):
        other.admit(most)
    promise.release()
    promise.release()
    other.admit(most).release()


def test_a_disk_that_fills_up_in_the_middle_says_so_and_the_download_resumes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 6 << 20), OriginServer() as server:
        model = small_model(weights_bytes=4 << 20)
        manifest, origin = manifest_of(model), serve(server, model)
        with new_store(disk) as store:

            def fill(_: Progress) -> None:
                if not (disk / "other").exists():
                    (disk / "other").write_bytes(bytes(3 << 20))

            with pytest.raises(Unavailable) as raised:
                acquire(store, manifest, origin, StopFlag(), fill, PATIENT)
            assert raised.value.reason == "InsufficientDisk"
            # How much is available depends on whether a small file is refused while the large one takes its room.
            assert re.search(r"has [\d.]+ (bytes|[KM]iB) free.*; the model needs [\d.]+ MiB", raised.value.message)
            assert "other downloads" not in raised.value.message
            assert not store.holds(manifest.digest)
            (disk / "other").unlink()
            acquire(store, manifest, origin, StopFlag(), limits=PATIENT)
            assert contents_of(store.artifact_path(manifest.digest)) == model
            assert leftovers(store) == []


def test_a_root_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(Unavailable) as raised:
        new_store(tmp_path / "models").open()
    assert raised.value.reason == "DiskError"


def test_a_root_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path, 1 << 20) as disk:
        disk.make_read_only()
        with pytest.raises(Unavailable, match="/models cannot be used") as raised:
            new_store(tmp_path).open()
        assert raised.value.reason == "DiskError"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\0b"])
def test_a_manifest_with_an_unsafe_name_creates_nothing(name: str, world: World) -> None:
    manifest = Manifest("r", (ManifestFile(name, 1, ChecksumAlgorithm.NONE, ""),))
    with pytest.raises(InvalidValue):
        acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert leftovers(world.store) == []
    assert world.server.requests == []


def test_a_file_without_a_checksum_is_held_to_its_size(world: World) -> None:
    manifest = unchecked(OLD_MANIFEST)
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert contents_of(world.store.artifact_path(manifest.digest)) == OLD
    world.server.add("/old/model.safetensors", b"short")
    world.store.collect(())
    with pytest.raises(Corrupt):
        acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)


def test_a_scrub_finds_flipped_bits_of_files_for_which_the_source_has_no_checksum(world: World) -> None:
    manifest = unchecked(OLD_MANIFEST)
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert world.store.scrub(manifest.digest, StopFlag()) == ()
    artifact = world.store.artifact_path(manifest.digest)
    rot(artifact / "model.safetensors", 77_777)
    rot(artifact / "config.json", 7)
    damaged = world.store.scrub(manifest.digest, StopFlag())
    assert damaged == ("config.json", "model.safetensors")
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT, damaged=damaged[:1])
    # What a repair has taken over is still held to what first arrived.
    assert world.store.scrub(manifest.digest, StopFlag()) == damaged[1:]
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT, damaged=damaged[1:])
    assert world.store.scrub(manifest.digest, StopFlag()) == ()
    assert contents_of(artifact) == OLD


def test_what_was_verified_before_a_download_was_resumed_is_scrubbed_too(world: World) -> None:
    manifest = unchecked(OLD_MANIFEST)
    refused = world.server.inject(Fault("status", path="/old/tokenizer/vocab.json", status=403, times=99))
    with pytest.raises(Missing):
        acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert refused.fired > 0
    world.server.heal()
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    for path in ("config.json", "model.safetensors", "tokenizer/vocab.json"):
        flip(world.store.artifact_path(manifest.digest) / path, 1)
    assert world.store.scrub(manifest.digest, StopFlag()) == (
        "config.json",
        "model.safetensors",
        "tokenizer/vocab.json",
    )


def test_a_record_holds_a_line_for_each_file_and_what_arrived_of_it(world: World) -> None:
    manifest = unchecked(OLD_MANIFEST)
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    (record,) = (world.root / ".ome" / "manifests").iterdir()
    header, *rows = map(json.loads, record.read_text().splitlines())
    assert header == {"sourceRevision": manifest.source_revision}
    assert {path: (size, arrived) for path, size, _, _, _, arrived in rows} == {
        path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in OLD.items()
    }


def test_what_arrived_without_a_checksum_serves_a_model_that_has_one(world: World) -> None:
    acquire(world.store, unchecked(OLD_MANIFEST), world.old, StopFlag(), limits=PATIENT)
    sent = world.server.bytes_sent
    world.hold_old()
    # Small files are known by Git's hash there.
    assert world.server.bytes_sent - sent == len(OLD["config.json"])


@pytest.mark.parametrize(
    ("algorithm", "checksum"),
    [
        (ChecksumAlgorithm.SHA384, hashlib.sha384(OLD["model.safetensors"]).hexdigest()),
        (ChecksumAlgorithm.MD5, hashlib.md5(OLD["model.safetensors"]).hexdigest()),
        (ChecksumAlgorithm.CRC32C, f"{google_crc32c.value(OLD['model.safetensors']):08x}"),
    ],
)
def test_each_kind_of_checksum_is_verified_on_arrival_and_by_a_scrub(
    world: World, algorithm: ChecksumAlgorithm, checksum: str
) -> None:
    (weights,) = (file for file in OLD_MANIFEST.files if file.path == "model.safetensors")
    manifest = Manifest("r", (replace(weights, algorithm=algorithm, checksum=checksum),))
    world.server.add("/old/model.safetensors", OLD["model.safetensors"][::-1])
    with pytest.raises(Corrupt) as raised:
        acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert raised.value.reason == "ChecksumMismatch"
    world.server.add("/old/model.safetensors", OLD["model.safetensors"])
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    flip(world.store.artifact_path(manifest.digest) / "model.safetensors", 99_999)
    assert world.store.scrub(manifest.digest, StopFlag()) == ("model.safetensors",)


def test_a_file_of_the_same_crc_is_not_taken_for_another(world: World) -> None:
    (weights,) = (file for file in OLD_MANIFEST.files if file.path == "model.safetensors")
    crc = replace(
        weights, algorithm=ChecksumAlgorithm.CRC32C, checksum=f"{google_crc32c.value(OLD['model.safetensors']):08x}"
    )
    for version in ("one", "another"):
        manifest = Manifest("r", (replace(crc, version=version),))
        sent = world.server.bytes_sent
        acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
        assert world.server.bytes_sent - sent == len(OLD["model.safetensors"])


def unchecked(manifest: Manifest) -> Manifest:
    """The same files from a source that has no checksums."""
    files = tuple(replace(file, algorithm=ChecksumAlgorithm.NONE, checksum="") for file in manifest.files)
    return Manifest(manifest.source_revision, files)


def test_many_small_files_are_fetched_over_few_connections(world: World) -> None:
    model = {f"part-{number % 7}/{number}.json": os.urandom(50 + number) for number in range(300)}
    manifest, origin = manifest_of(model), serve(world.server, model, "/many")
    acquire(world.store, manifest, origin, StopFlag(), limits=PATIENT)
    assert contents_of(world.store.artifact_path(manifest.digest)) == model
    assert 1 < world.server.connections <= PATIENT.connections
    assert len(world.server.requests) == 300


def expect_stopped(world: World, stop: StopFlag, note: object) -> None:
    """Fetch the old revision in a thread that is going to be stopped."""
    with pytest.raises(Stopped):
        acquire(world.store, OLD_MANIFEST, UrlOrigin("test://old", world.old.base_url), stop, note, PATIENT)


def rot(path: Path, position: int) -> None:
    """Change one bit of a file as a disk does: nothing else shows it."""
    before = path.stat().st_mtime_ns
    flip(path, position)
    os.utime(path, ns=(before, before))


def flip(path: Path, position: int) -> None:
    """Change one bit of a file and keep its size."""
    with path.open("r+b") as content:
        content.seek(position)
        value = content.read(1)[0]
        content.seek(position)
        content.write(bytes([value ^ 1]))


def test_a_manifest_keeps_the_versions_of_an_object_store(world: World) -> None:
    files = tuple(replace(file, version="etag") for file in unchecked(OLD_MANIFEST).files)
    manifest = Manifest("r", files, "https://store/bucket")
    acquire(world.store, manifest, world.old, StopFlag(), limits=PATIENT)
    assert world.store.manifest(manifest.digest) == manifest


def test_a_root_whose_records_could_not_be_read_can_be_taken_when_they_can_be(tmp_path: Path) -> None:
    unreadable = tmp_path / "models" / ".ome" / "owners" / "x.json"
    with new_store(tmp_path / "models") as store:
        store.close()
        unreadable.mkdir()
        with pytest.raises(IsADirectoryError):
            store.open()
        unreadable.rmdir()
        store.open()


def test_leftovers_that_are_removed_meanwhile_never_take_the_manifest_of_an_artifact_that_is_coming(
    world: World,
) -> None:
    """Room is made while other downloads end, so both happen at once, again and again."""
    ended = threading.Event()

    def remove_leftovers() -> None:
        while not ended.is_set():
            world.store.collect([])

    removing = threading.Thread(target=remove_leftovers)
    removing.start()
    try:
        for number in range(12):
            content = {"config.json": b"%d" % number}
            manifest = manifest_of(content)
            origin = serve(world.server, content, f"/{number}")
            with world.store.kept(manifest.digest):
                acquire(world.store, manifest, origin, StopFlag(), limits=PATIENT)
                assert world.store.manifest(manifest.digest) == manifest
    finally:
        ended.set()
        removing.join()
