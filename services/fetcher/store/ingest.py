"""One artifact on its way into the store: files in staging, and what of them is verified.

Decides what of an earlier attempt can be believed. Must not talk to an origin: the transfer engine writes through this,
the only way a byte gets in.
"""

import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from libs.artifact.manifest import ChecksumAlgorithm, Manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt
from services.fetcher.failpoints import failpoint
from services.fetcher.store import linux
from services.fetcher.store.checksums import RunningChecksum, new_checksum
from services.fetcher.store.files import (
    DIRECTORY_MODE,
    FILE_MODE,
    LOST_ERRNOS,
    blocks_bytes,
    protect,
    sync_directory,
    write_all,
)
from services.fetcher.store.journal import FileRecord, Journal
from services.fetcher.store.space import FileSystem, Reservation, on_disk_bytes

# What O_DIRECT asks of offsets and lengths on every disk with sectors of 4 KiB or less.
_ALIGNMENT = 4096
# Files below this size are copied from one artifact to another. A larger one, which is weights, may be one file with
# two names: a second copy would cost too much.
LINKED_BYTES = 64 << 20
# While a file is written; seal gives it the mode under which it is read.
_UNFINISHED_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1 << 20
# Above this, one syncfs is cheaper than an fsync per file.
_MOST_SINGLE_SYNCS = 64


class Ingest:
    """The staging of one artifact. Only one exists per digest and root at a time. Safe for use from several threads."""

    def __init__(self, manifest: Manifest, staging: Path, file_system: FileSystem, reservation: Reservation) -> None:
        self.manifest = manifest
        self.file_system = file_system
        self.reservation = reservation
        self.files = staging / "files"
        # For what a source must write beside the files; goes with staging at the latest.
        self.scratch = staging / "scratch"
        self._lock = threading.Lock()
        # Names as strings here and below: thousands of small files are bound by what each costs in Python.
        self._prefix = f"{self.files}/"
        self._directories: set[str] = set()
        self._unsynced: list[int] = []
        self._done: set[int] = set()
        with file_system.errors(staging):
            self.files.mkdir(parents=True, exist_ok=True)
            self._direct = linux.prefers_direct(staging)
            self.journal = Journal(staging / "journal")

    @property
    def done(self) -> frozenset[int]:
        """Indexes of the files that are complete and verified."""
        return frozenset(self._done)

    def is_done(self, index: int) -> bool:
        """Whether a file is complete and verified; unlike done it copies nothing, so it may be asked for each file."""
        return index in self._done

    def path(self, index: int) -> Path:
        """Where a file lies in staging."""
        return Path(self._prefix + self.manifest.files[index].path)

    def finish_synced(self) -> None:
        """Count each file as done that an earlier attempt has verified and synced and that is unchanged since."""
        for index, file in enumerate(self.manifest.files):
            record = self.journal.records.get(index)
            if index in self._done or record is None or record.synced_mtime_ns is None:
                continue
            try:
                status = self.path(index).lstat()
            except OSError:
                continue
            expected = (file.size_bytes, record.synced_mtime_ns)
            if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == expected:
                self.finish(index, synced=True)

    def rehash(
        self, index: int, scratch: memoryview, check: Callable[[], None], seen: Callable[[int], None]
    ) -> tuple[int, RunningChecksum]:
        """Hash what an earlier attempt has left of a file; return how many bytes can be believed, and their checksum.

        Reads through scratch, calls check for each buffer (it may raise to stop) and seen with the verified length.
        """
        believed, trusted = 0, new_checksum(self.manifest.files[index])
        prefixes = self.journal.records.get(index, FileRecord()).prefixes
        try:
            fd = os.open(self.path(index), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) if prefixes else -1
        except OSError:
            return believed, trusted
        if fd < 0:
            return believed, trusted
        try:
            with self.file_system.errors(self.path(index)):
                if os.fstat(fd).st_nlink > 1:
                    # An artifact has it too, so it was finished once and is taken from there again or not at all.
                    return believed, trusted
                running = trusted.copy()
                for length, digest in prefixes:
                    for position in range(believed, length, len(scratch)):
                        check()
                        running.update(_read(fd, position, scratch[: min(len(scratch), length - position)]))
                    if running.hexdigest() != digest or not self._resumable(index, length):
                        break
                    believed, trusted = length, running.copy()
                    seen(believed)
        finally:
            os.close(fd)
        return believed, trusted

    def open(self, index: int) -> "IncomingFile":
        """Open a large file for ranges, with room for all of it. Raises Unavailable (InsufficientDisk, DiskError)."""
        self._make_parents(index)
        return IncomingFile(self, index, self._direct)

    def write_small(self, index: int, content: memoryview, digest: str) -> None:
        """Write a whole verified file; seal syncs it. Raises Unavailable (InsufficientDisk, DiskError)."""
        self._make_parents(index)
        path = self._prefix + self.manifest.files[index].path
        with self.file_system.errors(path, self.reservation):
            try:
                fd = os.open(path, _FLAGS | os.O_EXCL, _UNFINISHED_MODE)
            except FileExistsError:
                # It may have a second name in an artifact, which must not be written through.
                os.unlink(path)
                fd = os.open(path, _FLAGS | os.O_EXCL, _UNFINISHED_MODE)
            try:
                write_all(fd, content, 0)
            finally:
                os.close(fd)
            self.journal.verified(index, len(content), digest)
        self.reservation.take(on_disk_bytes(len(content)))
        self.finish(index, synced=False)
        failpoint("file-verified")

    def adopt_verified(self, index: int, source: Path, scratch: memoryview, check: Callable[[], None]) -> bool:
        """Adopt a file that ought to have the right content, after reading it: damage must not spread."""
        file = self.manifest.files[index]
        if not self._bring(index, source):
            return False
        running, right = new_checksum(file), False
        try:
            with self.path(index).open("rb", buffering=0) as content:
                while count := content.readinto(scratch):
                    check()
                    running.update(scratch[:count])
            right = running.hexdigest() == file.checksum
        except OSError:
            right = False
        finally:
            if not right:
                with self.file_system.errors(self.path(index)):
                    self.path(index).unlink(missing_ok=True)
        if right:
            self._adopted(index)
        return right

    def adopt(self, index: int, source: Path) -> bool:
        """Take a verified file from this file system; False when that is impossible."""
        if not self._bring(index, source):
            return False
        self._adopted(index)
        return True

    def _bring(self, index: int, source: Path) -> bool:
        """Give a file of this file system a second life in staging: by reflink, as a copy or, if large, as a link."""
        self._make_parents(index)
        path, large = self.path(index), self.manifest.files[index].size_bytes >= LINKED_BYTES
        try:
            path.unlink(missing_ok=True)
            with source.open("rb", buffering=0) as original, path.open("xb", buffering=0) as copy:
                os.fchmod(copy.fileno(), _UNFINISHED_MODE)
                done = linux.clone(original.fileno(), copy.fileno())
                if not done and not large:
                    shutil.copyfileobj(original, copy, _COPY_BYTES)
                    done = True
            if not done:
                path.unlink()
                os.link(source, path, follow_symlinks=False)
        except OSError:
            with self.file_system.errors(path):
                path.unlink(missing_ok=True)
            return False
        return True

    def _adopted(self, index: int) -> None:
        self.reservation.take(on_disk_bytes(self.manifest.files[index].size_bytes))
        self.finish(index, synced=False)

    def finish(self, index: int, synced: bool) -> None:
        """A whole verified file lies in staging."""
        with self._lock:
            self._done.add(index)
            if not synced:
                self._unsynced.append(index)

    def seal(self) -> None:
        """Bring everything to disk. Raises Corrupt when a file is missing or too short; staging stays."""
        with self.file_system.errors(self.files):
            for index, file in enumerate(self.manifest.files):
                status = os.lstat(self._prefix + file.path) if index in self._done else None
                if status is None or status.st_size != file.size_bytes:
                    raise Corrupt(
                        Reason.CHECKSUM_MISMATCH, f"{file.path} is not complete, so the artifact is not committed"
                    )
                protect(self._prefix + file.path, FILE_MODE, status.st_mode)
            self._sync_small_files()
            for directory in sorted(directories_of(self.manifest), reverse=True):
                protect(self._prefix + directory, DIRECTORY_MODE)
                sync_directory(Path(self._prefix + directory))
            protect(self.files, DIRECTORY_MODE)
            sync_directory(self.files)
        failpoint("ingest-complete")

    def received(self) -> dict[str, str]:
        """SHA-256 by path of what arrived of the files for which the source has no checksum."""
        unchecked = {i: file for i, file in enumerate(self.manifest.files) if file.algorithm is ChecksumAlgorithm.NONE}
        if not unchecked:
            return {}
        with self.file_system.errors(self.files):
            prefixes = self.journal.longest_prefixes()
        return {
            file.path: prefixes[i][1]
            for i, file in unchecked.items()
            if i in prefixes and prefixes[i][0] == file.size_bytes
        }

    def forget(self, index: int) -> None:
        """Have a file fetched again by the next attempt, because syncing it has failed.

        The kernel says once that it could not write a page and then takes the page for clean: a second fsync succeeds,
        and reading finds in memory what the disk has never seen. So no checksum can be believed any more.
        """
        try:
            self.journal.reset(index)
        finally:
            self.path(index).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave staging as it is, for a later attempt. Idempotent."""
        self.journal.close()
        self.reservation.release()

    def _resumable(self, index: int, length: int) -> bool:
        size = self.manifest.files[index].size_bytes
        return length == size or (length < size and length % _ALIGNMENT == 0)

    def _make_parents(self, index: int) -> None:
        directory = self.manifest.files[index].path.rpartition("/")[0]
        if not directory or directory in self._directories:
            return
        with self.file_system.errors(self._prefix + directory):
            os.makedirs(self._prefix + directory, exist_ok=True)
        with self._lock:
            while directory:
                self._directories.add(directory)
                directory = directory.rpartition("/")[0]

    def _sync_small_files(self) -> None:
        try:
            self._sync_unsynced()
        except OSError:
            for index in self._unsynced:
                self.forget(index)
            raise

    def _sync_unsynced(self) -> None:
        if len(self._unsynced) > _MOST_SINGLE_SYNCS:
            fd = os.open(self.files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                linux.sync_file_system(fd)
            finally:
                os.close(fd)
            return
        for index in self._unsynced:
            fd = os.open(self.path(index), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def directories_of(manifest: Manifest) -> set[str]:
    """The directories below an artifact that its files lie in."""
    directories: set[str] = set()
    for file in manifest.files:
        directory = file.path.rpartition("/")[0]
        while directory and directory not in directories:
            directories.add(directory)
            directory = directory.rpartition("/")[0]
    return directories


def _make_own(path: Path) -> None:
    """Make sure that a file which is about to be written has no second name in an artifact, and may be written."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if status.st_nlink > 1:
        os.unlink(path)
    elif stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IWUSR:
        os.chmod(path, _UNFINISHED_MODE)


def _read(fd: int, position: int, view: memoryview) -> memoryview:
    """Bytes of a file; none where the disk cannot give them back, so that no checksum agrees and they come anew."""
    try:
        return view[: os.preadv(fd, [view], position)]
    except OSError as error:
        if error.errno not in LOST_ERRNOS:
            raise
        return view[:0]


class IncomingFile:
    """One large file in staging. write may be called from several threads at once for ranges that do not overlap."""

    def __init__(self, ingest: Ingest, index: int, direct: bool) -> None:
        self._ingest = ingest
        self._index = index
        self._path = ingest.path(index)
        self._size = ingest.manifest.files[index].size_bytes
        with ingest.file_system.errors(self._path, ingest.reservation):
            _make_own(self._path)
            before = blocks_bytes(self._path)
            self._fd = os.open(self._path, _FLAGS, _UNFINISHED_MODE)
            try:
                linux.allocate(self._fd, self._size)
            except OSError:
                os.close(self._fd)
                raise
            self._direct = direct and self._set_direct(True)
            ingest.reservation.take(blocks_bytes(self._path) - before)

    def write(self, offset: int, buffer: memoryview, length: int) -> None:
        """Write buffer[:length] at offset, a multiple of 4096.

        The buffer must be page-aligned and reach to length rounded up to 4096: what lies behind length may be
        overwritten with zeros. Raises Unavailable (InsufficientDisk, DiskError).
        """
        with self._ingest.file_system.errors(self._path, self._ingest.reservation):
            if not self._direct or not self._write_direct(offset, buffer, length):
                write_all(self._fd, buffer[:length], offset)
                linux.start_writeback(self._fd, offset, length)
        failpoint("chunk-written")

    def record(self, length: int, digest: str) -> None:
        """Remember that the first length bytes are written and have this running digest."""
        with self._ingest.file_system.errors(self._path):
            self._ingest.journal.verified(self._index, length, digest)
        failpoint("chunk-recorded")

    def finish(self) -> None:
        """Cut the padding, bring the verified file to disk, close it, and remember that it is done."""
        with self._ingest.file_system.errors(self._path):
            os.ftruncate(self._fd, self._size)
            failpoint("file-verified")
            self._flush()
            failpoint("file-flushed")
            self._ingest.journal.synced(self._index, os.fstat(self._fd).st_mtime_ns)
        failpoint("file-synced")
        self.close()
        self._ingest.finish(self._index, synced=True)

    def _flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            self._ingest.forget(self._index)
            raise

    def restart(self) -> None:
        """Forget every byte: the content was wrong."""
        with self._ingest.file_system.errors(self._path):
            self._ingest.journal.reset(self._index)

    def close(self) -> None:
        """Close the file and leave it as it is. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write_direct(self, offset: int, buffer: memoryview, length: int) -> bool:
        padded = on_disk_bytes(length)
        buffer[length:padded] = bytes(padded - length)
        try:
            write_all(self._fd, buffer[:padded], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # The file system takes the flag and refuses the write: some want larger blocks.
            self._direct = self._set_direct(False)
            return False
        return True

    def _set_direct(self, wanted: bool) -> bool:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
        except OSError:
            return False
        return wanted
