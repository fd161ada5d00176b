"""The artifacts below one model root: fetched once per digest, published by links, gone with the last of them.

Layout, all below <root>/.ome, which belongs to one fetcher process at a time:

    lock                     held while the store is open
    staging/<digest>.<scope>/  files and journal of a download in a trust scope; survives a crash, is resumed
    artifacts/<digest>/      verified files; never changed
    manifests/<digest>.json  what the artifact must hold, and the SHA-256 of what arrived where the source told no
                             checksum; written before the artifact appears
    owners/<model uid>.json  who published it where, and whether it stays although the model is gone
    scopes/<digest>.json     the trust scopes that may have the artifact without fetching it
    marks/<digest>.json      what the files looked like when they were right, to notice a write at once
    damaged/<digest>.json    which files of an artifact reading has found wrong, until it is repaired
    releases/<name>.json     a name that an artifact had until it moved or went: Pods may still read under it
    replaced/<digest>.<id>/  what a repair has put another copy in place of, while Pods may still read it
    evicted/<model uid>.json a model that has given up its copy, and what brings it back
    trash/                   what is being deleted

Must not talk to the network, and deletes nothing outside .ome but its own links.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from libs.artifact.digest import digest_directory, is_digest
from libs.artifact.manifest import Manifest, new_manifest
from libs.artifact.places import STATE_DIRECTORY, overlap
from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Corrupt, Missing, Unavailable
from services.fetcher.failpoints import failpoint
from services.fetcher.stop import StopFlag
from services.fetcher.store import linux
from services.fetcher.store.checks import Pace, has_content, status_of
from services.fetcher.store.contents import equal_files
from services.fetcher.store.damage import Damage
from services.fetcher.store.evictions import Eviction, eviction_records
from services.fetcher.store.files import (
    DIRECTORY_MODE,
    FILE_MODE,
    PRIVATE_MODE,
    blocks_bytes,
    foreign_owner,
    protect,
    sync_directory,
)
from services.fetcher.store.ingest import Ingest, directories_of
from services.fetcher.store.links import Links
from services.fetcher.store.marks import Marks, mark_of
from services.fetcher.store.owners import Owner, Owners
from services.fetcher.store.record import Record, Records
from services.fetcher.store.releases import Release, Releases
from services.fetcher.store.scopes import Claimant, Scopes
from services.fetcher.store.space import Capacity, FileSystem, Reservations, on_disk_bytes

# How soon one who waits for another download of the same artifact notices that it should stop.
_WAIT_SECONDS = 0.2


def _nobody_leaves(uid: str) -> bool:
    return False


class PathTaken(Unavailable):
    """Another model stands at a path, or above or below it, with reason PathConflict."""

    def __init__(self, model_uid: str, path: str, asked: str, name: str = "") -> None:
        """path is the other model's and asked the one that it is in the way of; name is for those who may know it."""
        where = path if name or path == asked else f"{asked} or a path above or below it"
        super().__init__(
            Reason.PATH_CONFLICT,
            f"{name or 'another model'} already uses {where}; give one of the two models another storage.path",
        )
        self.model_uid = model_uid
        self.path = path
        self.asked = asked


class ForeignLeftovers(Unavailable):
    """All of a model is removed but files of somebody else that were among its own, with reason DiskError."""


@dataclass(frozen=True)
class Publication:
    """What a model uid has published. intact says that path leads to the artifact now and the artifact is there."""

    uid: str
    path: str
    digest: str
    intact: bool


@dataclass(frozen=True)
class Name:
    """A name, relative to the root, and the time of day when what it leads to was last used, or published."""

    path: str
    digest: str
    last_used: float
    # It stays although its model is gone.
    reserved: bool


class Store:
    """The artifacts of one root, for use from any thread. directory is the fetcher's view of it, name the node's."""

    def __init__(
        self,
        directory: Path,
        name: str,
        reservations: Reservations,
        release_time: Callable[[], float | None] = lambda: None,
    ) -> None:
        """release_time tells the time of day, from which the files of a name that goes or moves stay for those who have
        them open, until forget_releases; while it tells none, they go with their last name.
        """
        self._release_time = release_time
        self.name = name
        self.directory = directory
        self._state = directory / STATE_DIRECTORY
        self._artifacts = self._state / "artifacts"
        self._records = Records(self._state / "manifests", name)
        self._staging = self._state / "staging"
        self._trash = self._state / "trash"
        self._owners = Owners(self._state / "owners")
        self._damage = Damage(self._state / "damaged")
        self._scopes = Scopes(self._state / "scopes")
        self._marks = Marks(self._state / "marks")
        self._releases = Releases(self._state / "releases")
        self._evictions = eviction_records(self._state / "evicted")
        self._replaced = self._state / "replaced"
        self._links = Links(directory, name)
        self._reservations = reservations
        self._changed = threading.Condition(threading.RLock())
        self._claims: dict[str, int] = {}
        self._ingesting: set[str] = set()
        self._lock_fd = -1

    def __enter__(self) -> "Store":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take the root, make the layout, read the records, and finish deletions that a crash has interrupted.

        Raises Conflict when another process holds the root, Unavailable with reason DiskError when it cannot be
        written.
        """
        try:
            if not self.directory.exists():
                self.directory.mkdir(parents=True)
                protect(self.directory, DIRECTORY_MODE)
            for directory in (self._state, self._artifacts):
                directory.mkdir(exist_ok=True)
                protect(directory, DIRECTORY_MODE)
            for directory in (
                self._staging,
                self._trash,
                self._records.directory,
                self._owners.directory,
                self._scopes.directory,
                self._marks.directory,
                self._damage.directory,
                self._releases.directory,
                self._evictions.directory,
                self._replaced,
            ):
                directory.mkdir(exist_ok=True)
                protect(directory, PRIVATE_MODE)
            self._lock_fd = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                Reason.DISK_ERROR, f"{self.name} cannot be used for models: {self._why_unusable(error)}"
            ) from error
        try:
            # The kernel drops the lock with the process: none is left behind by a crash.
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise Conflict(Reason.UNAVAILABLE, f"another fetcher already keeps the models below {self.name}") from error
        try:
            self._recover()
        except BaseException:
            # A lock that stayed behind would be taken for another fetcher's at the next attempt.
            self.close()
            raise

    def _why_unusable(self, error: OSError) -> str:
        if isinstance(error, PermissionError) and (found := foreign_owner(self.directory)):
            uid, own = found[1], os.geteuid()
            return (
                f"it belongs to uid {uid}, and the fetcher runs as uid {own}. Give it to uid {own} by chown, "
                f"or set runAsUser of the fetcher's chart to {uid}"
            )
        if error.errno == errno.EROFS:
            return (
                "its file system is read-only. Name a directory on a writable one in modelRoots of the fetcher's chart"
            )
        return str(error.strerror)

    def close(self) -> None:
        """Give the root back. Idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def device(self) -> int:
        """The file system that the root is on, which it may share with other roots."""
        return self._file_system.device

    def capacity(self) -> Capacity:
        """Size and free space of the root's file system."""
        return self._file_system.capacity()

    def holds(self, digest: str) -> bool:
        """Whether the artifact was committed here; check says whether it is still whole."""
        return self._artifact(digest).is_dir()

    def artifact_path(self, digest: str) -> Path:
        """The directory of a committed artifact. Raises Missing with reason NotFound."""
        path = self._artifact(digest)
        if not path.is_dir():
            raise Missing(Reason.NOT_FOUND, f"{digest} is not held below {self.name}")
        return path

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a committed artifact. Raises Missing (NotFound) or Corrupt (ArtifactDamaged)."""
        return self._records.get(digest).manifest

    def check(self, digest: str) -> tuple[str, ...]:
        """Files that are missing, not regular, of a wrong size, noted as damaged, or written since they were right.

        A moment's work: nothing is read. Gives files and directories of the artifact their modes again. Raises as
        manifest does.
        """
        damaged, changed = self._look(digest)
        return tuple(sorted((*damaged, *changed)))

    def changed(self, digest: str) -> frozenset[str]:
        """Of the files that check names, those that may be right all the same: only reading tells."""
        try:
            return frozenset(self._look(digest)[1])
        except (Missing, Corrupt):
            return frozenset()

    def _look(self, digest: str) -> tuple[list[str], list[str]]:
        artifact, noted, manifest = self._artifact(digest), self._damage.of(digest), self.manifest(digest)
        marks = self._marks.of(digest, artifact)
        damaged, changed = list[str](), list[str]()
        for file in manifest.files:
            path = artifact / file.path
            status = None if file.path in noted else status_of(path, file)
            if status is None:
                damaged.append(file.path)
            elif marks is not None and marks.get(file.path) != mark_of(status):
                changed.append(file.path)
            else:
                protect(path, FILE_MODE, status.st_mode)
        if not damaged:
            for directory in ("", *directories_of(manifest)):
                protect(artifact / directory, DIRECTORY_MODE)
        if not damaged and marks is None:
            # It is from before there were marks: what reading finds wrong later is noted as ever.
            with self._file_system.errors(self._marks.directory):
                self._marks.take(digest, artifact, manifest.files)
        return damaged, changed

    def may_share(self, digest: str, claimant: Claimant) -> bool:
        """Whether a claimant may have an artifact that is held here without fetching any of it.

        What a model has published itself it may have in any case, also from before there were scopes.
        """
        with self._changed:
            owner = self._owners.get(claimant.uid)
            return self._scopes.include(digest, claimant) or (owner is not None and owner.digest == digest)

    def grant(self, digest: str, claimant: Claimant) -> None:
        """Remember that a claimant has brought or proven all of an artifact."""
        with self._changed, self._file_system.errors(self._scopes.directory):
            if self.holds(digest):
                self._scopes.grant(digest, claimant)

    def refute(self, digest: str, claimant: Claimant) -> None:
        """Remember, while this process lasts, that a claimant's source has not sent what is held."""
        with self._changed:
            self._scopes.refute(digest, claimant)

    def is_refuted(self, digest: str, claimant: Claimant) -> bool:
        """Whether refute has said so."""
        with self._changed:
            return self._scopes.is_refuted(digest, claimant)

    def kept(self, digest: str) -> AbstractContextManager[None]:
        """In the block, an artifact is not removed although its last name may go."""
        return self._claim(digest)

    def is_whole(self, digest: str) -> bool:
        """Whether an artifact is held of which check finds nothing wrong."""
        try:
            return self.holds(digest) and not self.check(digest)
        except (Missing, Corrupt):
            return False

    def note_damage(self, digest: str, files: Collection[str]) -> None:
        """Remember what scrub has found, across restarts, until the artifact is repaired or gone."""
        with self._changed, self._file_system.errors(self._damage.directory):
            if self.holds(digest):
                self._damage.note(digest, files)
        failpoint("damage-recorded")

    def scrub(
        self, digest: str, stop: StopFlag, bytes_per_second: float | None = None, paths: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Read and hash an artifact's files, all or those in paths, no faster than told; return the damaged ones.

        A file for which the source has no checksum must be what it was when it arrived. Raises Stopped when the flag is
        set, otherwise as manifest does.
        """
        artifact = self._artifact(digest)
        pace = Pace(stop, bytes_per_second)
        record = self._records.get(digest)
        files = [file for file in record.manifest.files if paths is None or file.path in paths]
        return tuple(
            file.path
            for file in files
            if status_of(artifact / file.path, file) is None
            or not has_content(artifact / file.path, file, record.received.get(file.path), pace)
        )

    def publications(self) -> dict[str, Publication]:
        """What each model uid has published here."""
        with self._changed:
            owners = self._owners.all()
        return {uid: self._publication(uid, owner) for uid, owner in owners.items() if not owner.reserved}

    def publication(self, uid: str) -> Publication | None:
        """What one model uid has published here."""
        with self._changed:
            owner = self._owners.get(uid)
        return self._publication(uid, owner) if owner and not owner.reserved else None

    def check_path(self, uid: str, path: str, leaving: Callable[[str], bool] = _nobody_leaves) -> None:
        """Raise what publish would raise about the path, before anything is fetched for it.

        Takes the root anew when somebody has removed or replaced the store's own directory meanwhile.
        """
        with self._changed:
            self._retake_lost_root()
            self._refuse_conflict(uid, path, leaving)
            self._check_free(path)

    def publish(self, uid: str, path: str, digest: str, leaving: Callable[[str], bool] = _nobody_leaves) -> None:
        """Let path, relative to the root, lead to an artifact on behalf of a model. Atomic for readers; idempotent.

        What the model had published before, at this path or another, is released. A path where a model stands of which
        leaving says so is taken over: two models that swap their paths would otherwise wait for each other for ever.
        Raises Conflict when the artifact is not here (fetch it again), Unavailable with reason PathOccupied or
        PathConflict, Invalid with reason InvalidPath.
        """
        with self._changed, self._file_system.errors(self.directory / path):
            if not self.holds(digest):
                raise Conflict(Reason.ARTIFACT_DAMAGED, f"{digest} is no longer held below {self.name}")
            self._refuse_conflict(uid, path, leaving)
            self._check_free(path)
            previous = self._owners.get(uid)
            replaced = {self._links.read(path), previous.digest if previous else None}
            # Before any link moves: a crash in between leaves a record too many, and never one too few.
            self._release(uid, path, self._links.read(path), digest)
            if previous:
                self._release(uid, previous.path, previous.digest, digest if previous.path == path else "")
            failpoint("release-written")
            if previous and previous.path != path:
                # Before the record is replaced: a link that no record names would stay for ever.
                self._remove_name(uid, previous)
                failpoint("old-name-removed")
            # Whoever is the last to leave a directory that was made for models removes it.
            kept = (made for made in self._made_directories() if path.startswith(f"{made}/"))
            make = self._links.missing_parents(path)
            owner = Owner(path, digest, tuple(sorted({*kept, *make})))
            if owner != previous:
                self._owners.put(uid, owner)
            failpoint("owner-written")
            if self._links.read(path) != digest:
                self._links.place(path, digest, make)
            failpoint("link-renamed")
            for other_uid, other_owner in self._owners.all().items():
                if other_owner.reserved and other_owner.path == path:
                    # What was kept has a model again, or has made room for one.
                    self._owners.remove(other_uid)
                    replaced.add(other_owner.digest)
            for other in replaced:
                if other and other != digest:
                    self._drop_unreferenced(other)
        self._empty_trash()

    def unpublish(self, uid: str) -> bool:
        """Release what a model has published; the artifact goes with its last publication. False if there was none.

        Idempotent. Something that is not ours at the path stays.
        """
        with self._changed:
            owner = self._owners.get(uid)
            if owner is None:
                return False
            self._retake_lost_root()
            with self._file_system.errors(self.directory / owner.path):
                self._release(uid, owner.path, owner.digest, "")
                failpoint("release-written")
                self._remove_name(uid, owner)
                failpoint("link-removed")
                self._owners.remove(uid)
                failpoint("owner-removed")
                self._drop_unreferenced(owner.digest)
        self._empty_trash()
        return True

    def releases(self) -> list[Release]:
        """The names that copies had, and under which they may still be read."""
        with self._changed:
            return self._releases.all()

    def forget_releases(self, releases: Collection[Release]) -> list[str]:
        """Nobody reads under these names any more: remove their copies that have no other name. Idempotent.

        Sentences about what stays of these copies, because it belongs to another user; it is removed as soon as that is
        possible. One that was released anew meanwhile stays. Raises Unavailable (DiskError).
        """
        with self._changed, self._file_system.errors(self._releases.directory):
            self._retake_lost_root()
            known = set(self._releases.all())
            forgotten = [each for each in releases if each in known]
            self._releases.remove(forgotten)
            failpoint("release-forgotten")
            digests = {each.digest for each in forgotten}
            for digest in digests:
                self._drop_unreferenced(digest)
            self._discard_replaced()
        return [
            self._file_system.belonging(path, uid, "remove")
            for entry_name, (path, uid) in self._empty_trash().items()
            if entry_name.startswith(tuple(map(digest_directory, digests)))
        ]

    def names(self) -> dict[str, Name]:
        """The names that models have here, also those that stay although their models are gone, by uid."""
        with self._changed:
            owners = self._owners.all().items()
            return {
                uid: Name(each.path, each.digest, self._owners.touched_at(uid), each.reserved) for uid, each in owners
            }

    def note_use(self, uid: str) -> None:
        """What a model has published is used now."""
        with self._changed:
            self._owners.touch(uid)

    def freed_bytes(self, digest: str) -> int:
        """What the disk gets back when an artifact goes: files that another one has as well are not gained."""
        found = 0
        for directory, _, files in os.walk(self._artifact(digest)):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(directory, name))
                    found += status.st_blocks * 512 if status.st_nlink == 1 else 0
        return found

    def eviction(self, uid: str) -> Eviction | None:
        """That a model has given up its copy here, if it has. Waits for nothing."""
        return self._evictions.get(uid)

    def evictions(self) -> dict[str, Eviction]:
        """The models that have given up their copy here, by uid."""
        with self._changed:
            return self._evictions.all()

    def evict(self, uid: str, size: int, demand: str) -> bool:
        """Have a model give up its copy, and remember that; False if it has none. The copy goes as by unpublish."""
        with self._changed, self._file_system.errors(self._evictions.directory):
            owner = self._owners.get(uid)
            if owner is None or owner.reserved:
                return False
            # First: a copy that goes without it would be fetched again at once.
            self._evictions.put(uid, Eviction(owner.digest, owner.path, size, demand))
        return self.unpublish(uid)

    def readmit(self, uid: str) -> None:
        """Forget that a model has given up its copy. Idempotent."""
        with self._changed, self._file_system.errors(self._evictions.directory):
            self._evictions.remove([uid])

    def lacking_bytes(self, manifest: Manifest, claimant: Claimant) -> int:
        """How many bytes ingest would miss for an artifact; 0 or less when there is room for it."""
        capacity = self.capacity()
        return self._room(manifest, claimant) - (capacity.free_bytes - capacity.reserved_bytes)

    def reserve(self, uid: str) -> None:
        """Keep what a model has published when the model goes: link and files stay, and belong to nobody. Idempotent.

        A model that is published at the path takes them over. They go with their link: whoever removes it by hand has
        the files collected when the store is opened next.
        """
        with self._changed:
            owner = self._owners.get(uid)
            if owner is None:
                return
            self._retake_lost_root()
            with self._file_system.errors(self.directory / owner.path):
                self._owners.put(uid, replace(owner, reserved=True))

    def age_reserved(self, elapsed_seconds: float, limit_seconds: float) -> list[str]:
        """Count the time of what is reserved, and remove what has been so for longer than the limit; its paths.

        elapsed_seconds is the time since the last call, or since the store was opened.
        """
        expired = {}
        with self._changed, self._file_system.errors(self._owners.directory):
            for uid, owner in self._owners.all().items():
                if owner.reserved:
                    aged = replace(owner, reserved_seconds=owner.reserved_seconds + elapsed_seconds)
                    self._owners.put(uid, aged)
                    if aged.reserved_seconds > limit_seconds:
                        expired[uid] = owner.path
        # One that a model takes over in this moment is not there any more.
        return [path for uid, path in expired.items() if self.unpublish(uid)]

    def abandon(self, digest: str, wanted_by: Collection[Claimant] = ()) -> None:
        """Remove the staging of downloads that nobody wants, and the artifact where no name leads to it.

        wanted_by are those who still want it, for whose scopes staging stays. Does not wait: a download that has been
        told to stop finds its files gone. Idempotent. Raises ForeignLeftovers when files of another user stay, which
        are removed as soon as that is possible, and Unavailable (DiskError).
        """
        kept = {claimant.staging(digest) for claimant in wanted_by}
        with self._changed, self._file_system.errors(self._artifacts):
            for entry in self._staging.glob(f"{digest_directory(digest)}*"):
                if entry.name not in kept and entry.name not in self._ingesting:
                    self._discard(entry)
            if not wanted_by and not self._claims.get(digest):
                self._drop_unreferenced(digest)
        stuck = self._empty_trash()
        for entry_name, (path, uid) in stuck.items():
            if entry_name.startswith(digest_directory(digest)):
                raise ForeignLeftovers(Reason.DISK_ERROR, self._file_system.belonging(path, uid, "remove"))

    def collect(self, wanted: Collection[str]) -> list[str]:
        """Remove staging and artifacts that are not wanted, published or being fetched; return their digests.

        To be called once desired state is known: what a crash or a lost record has left behind goes.
        """
        removed = set()
        with self._changed:
            referenced = self._referenced()
            for directory in (self._staging, self._artifacts):
                for entry in directory.iterdir():
                    if directory == self._artifacts and _is_set_aside(entry):
                        continue
                    digest = _digest_of(entry.name)
                    # Staging beside a held artifact is a repair that was cut short: it begins anew.
                    finished = directory == self._staging and is_digest(digest) and self.holds(digest)
                    kept = digest in wanted or digest in referenced or bool(self._releases.of(entry.name))
                    if not self._claims.get(digest) and (finished or not kept):
                        removed.add(digest)
                        self._discard(entry)
                        failpoint("leftover-trashed")
            for digest in {*removed, *self._scopes.digests(), *self._marks.digests()}:
                if is_digest(digest) and not self.holds(digest):
                    self._damage.forget(digest)
                    self._scopes.forget(digest)
                    self._marks.forget(digest)
            for entry in self._records.directory.iterdir():
                # That of an artifact which is being fetched is written some moments before it appears.
                if not (self._artifacts / entry.stem).exists() and not self._claims.get(_digest_of(entry.name)):
                    entry.unlink(missing_ok=True)
        self._empty_trash()
        return sorted(removed)

    def clear(self) -> list[str]:
        """Take all names and artifacts out of the root, and .ome itself; sentences about what has to stay, by owner.

        For a node that is given back, and not to be used afterwards. What is no link of ours stays. Idempotent, and to
        be repeated after a crash. Raises Unavailable (DiskError).
        """
        with self._changed:
            for uid, owner in self._owners.all().items():
                with self._file_system.errors(self.directory / owner.path):
                    self._links.remove(owner.path, owner.made_directories)
                    failpoint("link-removed")
                    self._owners.remove(uid)
            with self._file_system.errors(self._state):
                for entry in (*self._staging.iterdir(), *self._artifacts.iterdir(), *self._replaced.iterdir()):
                    if entry.parent != self._artifacts or not _is_set_aside(entry):
                        self._discard(entry)
                        failpoint("leftover-trashed")
            stuck = list(self._empty_trash().values())
            if not stuck and (found := _remove_tree(self._state)):
                stuck = [found]
            return [self._file_system.belonging(path, uid, "remove") for path, uid in stuck]

    def contents(self, wanted: Manifest, claimant: Claimant) -> dict[int, str]:
        """Names of other artifacts' files that ought to have the content of wanted files, by index of those.

        Only artifacts count that the claimant may have. What is damaged of the artifact itself is not taken for its own
        repair, even if it can be read just now. Raises Unavailable (DiskError).
        """
        own = digest_directory(wanted.digest)
        with self._file_system.errors(self._artifacts):
            present = (entry.name for entry in self._artifacts.iterdir() if not _is_set_aside(entry))
            names = [name for name in present if name != own]
        held = [name for name in names if self.may_share(_digest_of(name), claimant)]
        return equal_files(wanted, self._held_records(held)) if held else {}

    @contextmanager
    def ingest(self, manifest: Manifest, stop: StopFlag, claimant: Claimant) -> Iterator[Ingest | None]:
        """Open the staging of an artifact, or yield None when another thread has committed it while this one waited.

        Waits for its turn when the same artifact is being fetched in the same scope. Raises Stopped; Unavailable with
        reason InsufficientDisk when it does not fit; InvalidValue with reason InvalidListing for a manifest with unsafe
        names. What is not committed in the block stays in staging for a resume.
        """
        digest = manifest.digest
        new_manifest(manifest.source_revision, manifest.files, manifest.place)
        with self._claim(digest):
            held_before = self.holds(digest)
            with self._turn(claimant.staging(digest), stop):
                if self.holds(digest) and not held_before:
                    yield None
                    return
                staging = self._staging / claimant.staging(digest)
                reservation = self._file_system.admit(self._room(manifest, claimant))
                try:
                    ingest = Ingest(manifest, staging, self._file_system, reservation)
                except BaseException:
                    reservation.release()
                    raise
                try:
                    yield ingest
                finally:
                    ingest.close()

    def commit(self, ingest: Ingest, claimant: Claimant, repairs: bool) -> None:
        """Make a complete ingest visible as an artifact: all of it is on disk before its name is.

        Replaces an artifact of the same digest in one step where that is to be repaired, and releases what was there;
        one that is whole stays as it is, for those who have it open. Raises Corrupt when a file is missing.
        """
        digest = ingest.manifest.digest
        ingest.seal()
        artifact = self._artifact(digest)
        with self._file_system.errors(artifact):
            with self._changed:
                whole = not repairs and self.is_whole(digest)
            if not whole:
                # A repair takes over files that it has not fetched.
                received = {**self._records.received(digest), **ingest.received()}
                self._records.put(Record(ingest.manifest, received))
                failpoint("manifest-written")
            with self._changed:
                # First: an artifact that a crash has left without a scope would have to be proven.
                self._scopes.grant(digest, claimant)
                if not whole:
                    self._marks.take(digest, ingest.files, ingest.manifest.files)
                    self._replace(digest, ingest.files)
                    sync_directory(self._artifacts)
                    failpoint("artifact-renamed")
                    self._damage.forget(digest)
                self._discard(ingest.files.parent)
        self._empty_trash()

    def _replace(self, digest: str, files: Path) -> None:
        """Put files in the place of an artifact, in one step where the file system can; what was there is released."""
        artifact, released_at = self._artifact(digest), self._release_time()
        readers = [(uid, each.path) for uid, each in self._owners.all().items() if each.digest == digest]
        earlier = self._releases.of(artifact.name)
        if artifact.exists() and released_at is not None and (readers or earlier):
            replaced = self._replaced / f"{artifact.name}.{uuid.uuid4().hex}"
            for uid, path in readers:
                self._releases.put(Release(replaced.name, digest, uid, path, released_at))
            for release in earlier:
                # Who still reads under an earlier name reads what is replaced, and no other copy from now on.
                self._releases.put(replace(release, copy=replaced.name))
            self._releases.remove(earlier)
            failpoint("release-written")
            # From where it changes places with the artifact, what is replaced need not be moved afterwards.
            os.rename(files, replaced)
            if not linux.exchange(replaced, artifact):
                os.rename(replaced, files)
                os.rename(artifact, replaced)
                os.rename(files, artifact)
        elif not artifact.exists() or not linux.exchange(files, artifact):
            self._discard(artifact)
            os.rename(files, artifact)

    def _room(self, manifest: Manifest, claimant: Claimant) -> int:
        """Bytes that an artifact takes on disk beyond what of it is in staging."""
        staging = self._staging / claimant.staging(manifest.digest)
        with self._file_system.errors(staging):
            return sum(
                max(on_disk_bytes(file.size_bytes) - blocks_bytes(staging / "files" / file.path), 0)
                for file in manifest.files
            )

    def _held_records(self, names: Iterable[str]) -> Iterator[tuple[str, Record]]:
        for name in names:
            try:
                with self._file_system.errors(self._records.directory):
                    record = self._records.get(name.replace("-", ":", 1))
            except (Missing, Corrupt):
                continue
            yield f"{self._artifacts}/{name}", record

    @contextmanager
    def _claim(self, digest: str) -> Iterator[None]:
        with self._changed:
            self._claims[digest] = self._claims.get(digest, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._claims[digest] -= 1
                if not self._claims[digest]:
                    del self._claims[digest]

    @contextmanager
    def _turn(self, staging: str, stop: StopFlag) -> Iterator[None]:
        with self._changed:
            while staging in self._ingesting:
                stop.check()
                self._changed.wait(_WAIT_SECONDS)
            self._ingesting.add(staging)
        try:
            yield
        finally:
            with self._changed:
                self._ingesting.discard(staging)
                self._changed.notify_all()

    def _recover(self) -> None:
        self._file_system = FileSystem(self.name, self.directory, self._reservations)
        self._owners.load()
        self._damage.load()
        self._scopes.load()
        self._marks.load()
        self._releases.load()
        self._evictions.load()
        self._recover_releases()
        for uid, owner in self._owners.all().items():
            if owner.reserved and self._links.read(owner.path) != owner.digest:
                self._owners.remove(uid)
        for entry in self._staging.iterdir():
            # A kill between the rename of an artifact and the end of its staging leaves the one. The other was begun
            # before there were scopes: nobody knows whose it is.
            if not (entry / "files").exists() or "." not in entry.name:
                self._discard(entry)
        self._empty_trash()

    def _retake_lost_root(self) -> None:
        if self._lock_fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._lock_fd), os.lstat(self._state / "lock")):
                    return
        if _device_of(self.directory) != self._file_system.device:
            raise Unavailable(
                Reason.DISK_ERROR,
                f"{self.name} shows another file system than when the fetcher began: it was unmounted, or something "
                "was mounted over it. Mount it again, or restart the fetcher to use what is there now",
            )
        # A lock on a file that has no name keeps nobody out; the links still stand, so the records do too.
        owners = self._owners.all()
        self.close()
        try:
            self.open()
        except Conflict as error:
            raise Unavailable(error.reason, error.message) from error
        for uid, owner in owners.items():
            self._owners.put(uid, owner)

    def _publication(self, uid: str, owner: Owner) -> Publication:
        intact = self._links.read(owner.path) == owner.digest and self.holds(owner.digest)
        return Publication(uid, owner.path, owner.digest, intact)

    def _artifact(self, digest: str) -> Path:
        return self._artifacts / digest_directory(digest)

    def _check_free(self, path: str) -> None:
        self._links.check_free(path)
        if self._links.read(path) is None:
            self._links.check_parents(path, self._made_directories())

    def _made_directories(self) -> set[str]:
        return {made for each in self._owners.all().values() for made in each.made_directories}

    def _remove_name(self, uid: str, owner: Owner) -> None:
        others = [each for other, each in self._owners.all().items() if other != uid and each.path == owner.path]
        standing = self._links.read(owner.path)
        if others and (standing != owner.digest or any(each.digest == standing for each in others)):
            # Another model has taken the path over, and its link stands there.
            return
        self._links.remove(owner.path, owner.made_directories)

    def _refuse_conflict(self, uid: str, path: str, leaving: Callable[[str], bool]) -> None:
        for other, owner in self._owners.all().items():
            if other == uid or self._links.read(owner.path) is None:
                continue
            if overlap(owner.path, path) and not (owner.path == path and (owner.reserved or leaving(other))):
                root = self.name.rstrip("/")
                raise PathTaken(other, f"{root}/{owner.path}", f"{root}/{path}")

    def _referenced(self) -> set[str]:
        # What a link really points to counts too: after a crash between record and link they differ.
        owners = self._owners.all().values()
        linked = (self._links.read(owner.path) for owner in owners)
        return {owner.digest for owner in owners} | {digest for digest in linked if digest}

    def _release(self, uid: str, path: str, digest: str | None, unless: str) -> None:
        """Note that path no longer leads to an artifact, unless it is the one that it leads to from now on."""
        released_at = self._release_time()
        if released_at is not None and digest and digest != unless and self.holds(digest):
            self._releases.put(Release(digest_directory(digest), digest, uid, path, released_at))

    def _recover_releases(self) -> None:
        for release in self._releases.all():
            if self._copy(release).is_dir():
                continue
            if self.holds(release.digest):
                # A repair was about to put it aside.
                self._releases.put(replace(release, copy=digest_directory(release.digest)))
            self._releases.remove([release])
        self._discard_replaced()

    def _copy(self, release: Release) -> Path:
        """The directory that a release is about."""
        whole = release.copy == digest_directory(release.digest)
        return (self._artifacts if whole else self._replaced) / release.copy

    def _discard_replaced(self) -> None:
        kept = {each.copy for each in self._releases.all()}
        for entry in self._replaced.iterdir():
            if entry.name not in kept:
                self._discard(entry)

    def _drop_unreferenced(self, digest: str) -> None:
        used = digest in self._referenced() or self._claims.get(digest) or self._releases.of(digest_directory(digest))
        if not used:
            self._discard(self._artifact(digest))
            failpoint("artifact-trashed")
            self._records.remove(digest)
            self._damage.forget(digest)
            self._scopes.forget(digest)
            self._marks.forget(digest)

    def _discard(self, directory: Path) -> None:
        # Renaming takes a moment whatever the size; the bytes are freed after the lock is given back.
        name = f"{directory.name}.{uuid.uuid4().hex}"
        try:
            os.rename(directory, self._trash / name)
        except FileNotFoundError:
            return
        except PermissionError:
            # Only its owner may take a directory elsewhere, as that changes what its ".." leads to. It may have another
            # name where it is.
            if directory.parent != self._artifacts or _is_set_aside(directory):
                raise
            os.rename(directory, directory.with_name(name))

    def _empty_trash(self) -> dict[str, tuple[str, int]]:
        """Remove what is in the trash; what belongs to somebody else and stays, with its owner, by name of the entry.

        Other threads may be at it too; what cannot be removed now is tried again with the next deletion.
        """
        stuck: dict[str, tuple[str, int]] = {}
        with contextlib.suppress(OSError):
            for entry in (*self._trash.iterdir(), *filter(_is_set_aside, self._artifacts.iterdir())):
                if not entry.is_dir() or entry.is_symlink():
                    entry.unlink(missing_ok=True)
                elif found := _remove_tree(entry):
                    stuck[entry.name] = found
        return stuck


def _remove_tree(directory: Path) -> tuple[str, int] | None:
    """Remove as much of a directory as this process may; the first thing that belongs to somebody else, and to whom."""
    found: list[tuple[str, int]] = []

    def note(_: Any, path: str, raised: tuple[type[BaseException], BaseException, TracebackType]) -> None:
        if isinstance(raised[1], PermissionError) and (owner := foreign_owner(path)):
            found.append(owner)

    shutil.rmtree(directory, onerror=note)
    return found[0] if found else None


def _is_set_aside(entry: Path) -> bool:
    """Of an entry of artifacts: whether it is trash of somebody else, which could not be moved from there."""
    return "." in entry.name


def _digest_of(name: str) -> str:
    """The digest that an entry of artifacts or staging is about."""
    return name.partition(".")[0].replace("-", ":", 1)


def _device_of(directory: Path) -> int:
    """The device that a directory lies on, or would lie on if it were made."""
    while not directory.exists():
        directory = directory.parent
    return os.stat(directory).st_dev
