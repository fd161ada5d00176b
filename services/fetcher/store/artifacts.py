"""The artifacts below one model root: fetched once per digest, published by links, gone with the last of them.

Layout, all below <root>/.ome, which belongs to one fetcher process at a time:

    lock                     held while the store is open
    staging/<digest>/        files and journal of a download; survives a crash, is resumed
    artifacts/<digest>/      verified files; never changed
    manifests/<digest>.json  what the artifact must hold, and the SHA-256 of what arrived where the source told no
                             checksum; written before the artifact appears
    owners/<model uid>.json  who published it where
    damaged/<digest>.json    which files of an artifact reading has found wrong, until it is repaired
    trash/                   what is being deleted

Must not talk to the network, and deletes nothing outside .ome but its own links.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.digest import digest_directory, is_digest
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.chassis.errors import Conflict, Corrupt, Missing, Unavailable
from services.fetcher.failpoints import failpoint
from services.fetcher.stop import StopFlag
from services.fetcher.store import linux
from services.fetcher.store.checksums import matches, new_checksum
from services.fetcher.store.damage import Damage
from services.fetcher.store.files import LOST_ERRNOS, blocks_bytes, sync_directory, write_durably
from services.fetcher.store.ingest import Ingest
from services.fetcher.store.links import Links
from services.fetcher.store.owners import Owner, Owners
from services.fetcher.store.paths import STATE_DIRECTORY
from services.fetcher.store.space import Capacity, FileSystem, Reservations, on_disk_bytes

_SCRUB_BYTES = 1 << 20
# How soon one who waits for another download of the same artifact notices that it should stop.
_WAIT_SECONDS = 0.2
# A file of which this comes has to be fetched again.
_DAMAGED_ERRNOS = (errno.ENOENT, errno.ENOTDIR, *LOST_ERRNOS)


# What tells one content from another, whatever the file is called: size, algorithm and checksum.
_Content = tuple[int, ChecksumAlgorithm, str]


@dataclass(frozen=True)
class Publication:
    """What a model uid has published. intact says that path leads to the artifact now and the artifact is there."""

    uid: str
    path: str
    digest: str
    intact: bool


class Store:
    """The artifacts of one root, for use from any thread. directory is the fetcher's view of it, name the node's."""

    def __init__(self, directory: Path, name: str, reservations: Reservations) -> None:
        self.name = name
        self.directory = directory
        self._state = directory / STATE_DIRECTORY
        self._artifacts = self._state / "artifacts"
        self._manifests = self._state / "manifests"
        self._staging = self._state / "staging"
        self._trash = self._state / "trash"
        self._owners = Owners(self._state / "owners")
        self._damage = Damage(self._state / "damaged")
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
            self.directory.mkdir(parents=True, exist_ok=True)
            for directory in (self._artifacts, self._manifests, self._staging, self._trash):
                directory.mkdir(parents=True, exist_ok=True)
            for directory in (self._owners.directory, self._damage.directory):
                directory.mkdir(exist_ok=True)
            self._lock_fd = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable("DiskError", f"{self.name} cannot be used for models: {error.strerror}") from error
        try:
            # The kernel drops the lock with the process: none is left behind by a crash.
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise Conflict("Unavailable", f"another fetcher already keeps the models below {self.name}") from error
        try:
            self._recover()
        except BaseException:
            # A lock that stayed behind would be taken for another fetcher's at the next attempt.
            self.close()
            raise

    def close(self) -> None:
        """Give the root back. Idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

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
            raise Missing("NotFound", f"{digest} is not held below {self.name}")
        return path

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a committed artifact. Raises Missing (NotFound) or Corrupt (ArtifactDamaged)."""
        return self._record(digest).manifest

    def check(self, digest: str) -> tuple[str, ...]:
        """Files that are missing, not regular or of a wrong size, or noted as damaged: a moment's work.

        Raises as manifest does.
        """
        artifact, noted = self._artifact(digest), self._damage.of(digest)
        return tuple(
            file.path
            for file in self.manifest(digest).files
            if file.path in noted or not _has_size(artifact / file.path, file)
        )

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
        pace = _Pace(stop, bytes_per_second)
        record = self._record(digest)
        files = [file for file in record.manifest.files if paths is None or file.path in paths]
        return tuple(
            file.path
            for file in files
            if not _has_size(artifact / file.path, file)
            or not _has_content(artifact / file.path, file, record.received.get(file.path), pace)
        )

    def publications(self) -> dict[str, Publication]:
        """What each model uid has published here."""
        with self._changed:
            owners = self._owners.all()
        return {uid: self._publication(uid, owner) for uid, owner in owners.items()}

    def publication(self, uid: str) -> Publication | None:
        """What one model uid has published here."""
        with self._changed:
            owner = self._owners.get(uid)
        return self._publication(uid, owner) if owner else None

    def check_path(self, uid: str, path: str, leaving: Collection[str] = ()) -> None:
        """Raise what publish would raise about the path, before anything is fetched for it.

        Takes the root anew when somebody has removed or replaced the store's own directory meanwhile.
        """
        with self._changed:
            self._retake_lost_root()
            self._refuse_conflict(uid, path, leaving)
            self._links.check_free(path)

    def publish(self, uid: str, path: str, digest: str, leaving: Collection[str] = ()) -> None:
        """Let path, relative to the root, lead to an artifact on behalf of a model. Atomic for readers; idempotent.

        What the model had published before, at this path or another, goes. A path where one of the models in leaving
        stands is taken over: two models that swap their paths would otherwise wait for each other for ever. Raises
        Conflict when the artifact is not here (fetch it again), Unavailable with reason PathOccupied or PathConflict,
        Invalid with reason InvalidPath.
        """
        with self._changed, self._file_system.errors(self.directory / path):
            if not self.holds(digest):
                raise Conflict("ArtifactDamaged", f"{digest} is no longer held below {self.name}")
            self._refuse_conflict(uid, path, leaving)
            self._links.check_free(path)
            previous = self._owners.get(uid)
            replaced = {self._links.read(path), previous.digest if previous else None}
            if previous and previous.path != path:
                # Before the record is replaced: a link that no record names would stay for ever.
                self._remove_name(uid, previous)
                failpoint("old-name-removed")
            # Whoever is the last to leave a directory that was made for models removes it.
            known = {made for each in self._owners.all().values() for made in each.made_directories}
            kept = (made for made in known if path.startswith(f"{made}/"))
            make = self._links.missing_parents(path)
            owner = Owner(path, digest, tuple(sorted({*kept, *make})))
            if owner != previous:
                self._owners.put(uid, owner)
            failpoint("owner-written")
            if self._links.read(path) != digest:
                self._links.place(path, digest, make)
            failpoint("link-renamed")
            for other in replaced:
                if other and other != digest:
                    self._drop_unreferenced(other)
        self._empty_trash()

    def unpublish(self, uid: str) -> bool:
        """Remove what a model has published, and the artifact with its last publication; False if there was none.

        Idempotent. Something that is not ours at the path stays.
        """
        with self._changed:
            owner = self._owners.get(uid)
            if owner is None:
                return False
            self._retake_lost_root()
            with self._file_system.errors(self.directory / owner.path):
                self._remove_name(uid, owner)
                failpoint("link-removed")
                self._owners.remove(uid)
                failpoint("owner-removed")
                self._drop_unreferenced(owner.digest)
        self._empty_trash()
        return True

    def abandon(self, digest: str) -> None:
        """Remove the staging of a download that nobody wants, unless another model still fetches the artifact.

        Does not wait: a download that has been told to stop finds its files gone. Idempotent.
        """
        with self._changed:
            if self._claims.get(digest, 0) == 0:
                self._discard(self._staging / digest_directory(digest))
                self._drop_unreferenced(digest)
        self._empty_trash()

    def collect(self, wanted: Collection[str]) -> list[str]:
        """Remove staging and artifacts that are not wanted, published or being fetched; return their digests.

        To be called once desired state is known: what a crash or a lost record has left behind goes.
        """
        removed = set()
        with self._changed:
            referenced = self._referenced()
            for directory in (self._staging, self._artifacts):
                for entry in directory.iterdir():
                    digest = entry.name.replace("-", ":", 1)
                    # Staging beside a held artifact is a repair that was cut short: it begins anew.
                    finished = directory == self._staging and is_digest(digest) and self.holds(digest)
                    kept = digest in wanted or digest in referenced
                    if not self._claims.get(digest) and (finished or not kept):
                        removed.add(digest)
                        self._discard(entry)
                        failpoint("leftover-trashed")
            for digest in removed:
                if not self.holds(digest):
                    self._damage.forget(digest)
            for entry in self._manifests.iterdir():
                if not (self._artifacts / entry.stem).exists() and not (self._staging / entry.stem).exists():
                    entry.unlink()
        self._empty_trash()
        return sorted(removed)

    def contents(self, wanted: Manifest) -> dict[int, str]:
        """Names of other artifacts' files that ought to have the content of wanted files, by index of those.

        What is damaged of the artifact itself is not taken for its own repair, even if it can be read just now. Raises
        Unavailable (DiskError).
        """
        own = digest_directory(wanted.digest)
        with self._file_system.errors(self._artifacts):
            held = [name for name in os.listdir(self._artifacts) if name != own]
        if not held:
            return {}
        contents = {_content_of(file) for file in wanted.files if file.algorithm.identifies}
        found: dict[_Content, str] = {}
        for name in held:
            with contextlib.suppress(Missing, Corrupt), self._file_system.errors(self._manifests):
                record = self._record(name.replace("-", ":", 1))
                for file in record.manifest.files:
                    content, received = _content_of(file), record.received.get(file.path)
                    if received and not file.algorithm.identifies:
                        content = file.size_bytes, ChecksumAlgorithm.SHA256, received
                    if content in contents:
                        found.setdefault(content, f"{self._artifacts}/{name}/{file.path}")
        if not found:
            return {}
        names = ((index, found.get(_content_of(file))) for index, file in enumerate(wanted.files))
        return {index: name for index, name in names if name}

    @contextmanager
    def ingest(self, manifest: Manifest, stop: StopFlag) -> Iterator[Ingest | None]:
        """Open the staging of an artifact, or yield None when another thread has committed it while this one waited.

        Waits for its turn when the same artifact is being fetched. Raises Stopped; Unavailable with reason
        InsufficientDisk when it does not fit; InvalidValue with reason InvalidListing for a manifest with unsafe names.
        What is not committed in the block stays in staging for a resume.
        """
        digest = manifest.digest
        new_manifest(manifest.source_revision, manifest.files, manifest.place)
        with self._claim(digest):
            held_before = self.holds(digest)
            with self._turn(digest, stop):
                if self.holds(digest) and not held_before:
                    yield None
                    return
                staging = self._staging / digest_directory(digest)
                with self._file_system.errors(staging):
                    room = sum(
                        max(on_disk_bytes(file.size_bytes) - blocks_bytes(staging / "files" / file.path), 0)
                        for file in manifest.files
                    )
                reservation = self._file_system.admit(room)
                try:
                    ingest = Ingest(manifest, staging, self._file_system, reservation)
                except BaseException:
                    reservation.release()
                    raise
                try:
                    yield ingest
                finally:
                    ingest.close()

    def commit(self, ingest: Ingest) -> None:
        """Make a complete ingest visible as an artifact: all of it is on disk before its name is.

        Replaces a damaged artifact of the same digest in one step. Raises Corrupt when a file is missing.
        """
        digest = ingest.manifest.digest
        ingest.seal()
        artifact = self._artifact(digest)
        with self._file_system.errors(artifact):
            record = _Record(ingest.manifest, self._received(ingest))
            write_durably(self._manifest(digest), _record_lines(record))
            failpoint("manifest-written")
            with self._changed:
                if not artifact.exists() or not linux.exchange(ingest.files, artifact):
                    self._discard(artifact)
                    os.rename(ingest.files, artifact)
                sync_directory(self._artifacts)
                failpoint("artifact-renamed")
                self._damage.forget(digest)
                self._discard(ingest.files.parent)
        self._empty_trash()

    def _record(self, digest: str) -> "_Record":
        damaged = f"the manifest of {digest} below {self.name} is damaged"
        try:
            with self._manifest(digest).open(encoding="ascii") as lines:
                record = _parse_record(lines)
        except FileNotFoundError as error:
            raise Missing("NotFound", f"{digest} is not held below {self.name}") from error
        except OSError as error:
            if error.errno not in LOST_ERRNOS:
                raise
            raise Corrupt("ArtifactDamaged", damaged) from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise Corrupt("ArtifactDamaged", damaged) from error
        if record.manifest.digest != digest:
            raise Corrupt("ArtifactDamaged", damaged)
        return record

    def _received(self, ingest: Ingest) -> dict[str, str]:
        try:
            # A repair takes over files that it has not fetched.
            before = self._record(ingest.manifest.digest).received
        except (Missing, Corrupt):
            before = {}
        return {**before, **ingest.received()}

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
    def _turn(self, digest: str, stop: StopFlag) -> Iterator[None]:
        with self._changed:
            while digest in self._ingesting:
                stop.check()
                self._changed.wait(_WAIT_SECONDS)
            self._ingesting.add(digest)
        try:
            yield
        finally:
            with self._changed:
                self._ingesting.discard(digest)
                self._changed.notify_all()

    def _recover(self) -> None:
        self._file_system = FileSystem(self.name, self.directory, self._reservations)
        self._owners.load()
        self._damage.load()
        for entry in self._staging.iterdir():
            # A kill between the rename of an artifact and the end of its staging leaves this.
            if not (entry / "files").exists():
                self._discard(entry)
        self._empty_trash()

    def _retake_lost_root(self) -> None:
        if self._lock_fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._lock_fd), os.lstat(self._state / "lock")):
                    return
        if _device_of(self.directory) != self._file_system.device:
            raise Unavailable(
                "DiskError",
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

    def _manifest(self, digest: str) -> Path:
        return self._manifests / f"{digest_directory(digest)}.json"

    def _remove_name(self, uid: str, owner: Owner) -> None:
        others = self._owners.all().items()
        if any(other != uid and each.path == owner.path for other, each in others):
            # Another model has taken the path over, and its link stands there.
            return
        self._links.remove(owner.path, owner.made_directories)

    def _refuse_conflict(self, uid: str, path: str, leaving: Collection[str]) -> None:
        for other, owner in self._owners.all().items():
            if other == uid or self._links.read(owner.path) is None:
                continue
            taken = owner.path == path and other not in leaving
            if taken or path.startswith(f"{owner.path}/") or owner.path.startswith(f"{path}/"):
                raise Unavailable(
                    "PathConflict",
                    f"another model (uid {other}) already stands at {self.name.rstrip('/')}/{owner.path}; "
                    "give one of them another storage.path",
                )

    def _referenced(self) -> set[str]:
        # What a link really points to counts too: after a crash between record and link they differ.
        owners = self._owners.all().values()
        linked = (self._links.read(owner.path) for owner in owners)
        return {owner.digest for owner in owners} | {digest for digest in linked if digest}

    def _drop_unreferenced(self, digest: str) -> None:
        if digest not in self._referenced() and not self._claims.get(digest):
            self._discard(self._artifact(digest))
            failpoint("artifact-trashed")
            self._manifest(digest).unlink(missing_ok=True)
            self._damage.forget(digest)

    def _discard(self, directory: Path) -> None:
        # Renaming takes a moment whatever the size; the bytes are freed after the lock is given back.
        try:
            os.rename(directory, self._trash / uuid.uuid4().hex)
        except FileNotFoundError:
            return

    def _empty_trash(self) -> None:
        # Other threads may be at it too; what cannot be removed now is tried again with the next deletion.
        with contextlib.suppress(OSError):
            for entry in self._trash.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Record:
    """What is known of an artifact: its manifest, and SHA-256 by path of what arrived without a checksum to match."""

    manifest: Manifest
    received: Mapping[str, str]


class _Pace:
    """Keeps reading below a rate, and looks at the stop flag on the way."""

    def __init__(self, stop: StopFlag, bytes_per_second: float | None) -> None:
        self._stop = stop
        self._rate = bytes_per_second
        self._due = time.monotonic()

    def spend(self, count: int) -> None:
        self._stop.check()
        if self._rate:
            self._due = max(self._due, time.monotonic() - 1.0) + count / self._rate
            if self._stop.wait(max(self._due - time.monotonic(), 0)):
                self._stop.check()


def _device_of(directory: Path) -> int:
    """The device that a directory lies on, or would lie on if it were made."""
    while not directory.exists():
        directory = directory.parent
    return os.stat(directory).st_dev


def _content_of(file: ManifestFile) -> _Content:
    return file.size_bytes, file.algorithm, file.checksum


def _has_size(path: Path, file: ManifestFile) -> bool:
    try:
        status = path.lstat()
    except OSError as error:
        if error.errno in _DAMAGED_ERRNOS:
            return False
        raise
    return stat.S_ISREG(status.st_mode) and status.st_size == file.size_bytes


def _has_content(path: Path, file: ManifestFile, received: str | None, pace: _Pace) -> bool:
    running = new_checksum(file)
    buffer = memoryview(bytearray(_SCRUB_BYTES))
    try:
        with path.open("rb", buffering=0) as content:
            while count := content.readinto(buffer):
                pace.spend(count)
                running.update(buffer[:count])
            # A scrub must not push what models really use out of the page cache.
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if error.errno in _DAMAGED_ERRNOS:
            return False
        raise
    digest = running.hexdigest()
    return matches(file, digest) and received in (None, digest)


def _record_lines(record: _Record) -> bytearray:
    """One JSON document per line, the revision and then each file, so that a reader needs only one at a time."""
    manifest = record.manifest
    header = {"sourceRevision": manifest.source_revision} | ({"place": manifest.place} if manifest.place else {})
    lines = bytearray(json.dumps(header).encode() + b"\n")
    for file in manifest.files:
        row: list[str | int] = [file.path, file.size_bytes, file.algorithm.value, file.checksum]
        received = record.received.get(file.path)
        if file.version or received:
            row += [file.version, *filter(None, [received])]
        lines += json.dumps(row, separators=(",", ":")).encode() + b"\n"
    return lines


def _parse_record(lines: Iterator[str]) -> _Record:
    header = json.loads(next(lines, "null"))
    files, received = [], {}
    # Records of earlier releases are one document.
    for path, size, algorithm, checksum, *rest in header.get("files") or map(json.loads, lines):
        files.append(ManifestFile(path, size, ChecksumAlgorithm(algorithm), checksum, *rest[:1]))
        if len(rest) > 1:
            received[str(path)] = str(rest[1])
    return _Record(new_manifest(header["sourceRevision"], files, str(header.get("place", ""))), received)
