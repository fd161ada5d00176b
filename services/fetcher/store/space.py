"""The file system below one model root: whether a download fits beside those that run, and what its errors mean."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.reasons import Reason
from libs.artifact.sizes import shown_size
from libs.chassis.errors import Unavailable
from libs.model.eviction import lacking_bytes
from services.fetcher.store.files import foreign_owner

# The block size of the file systems that models lie on: a file takes whole blocks.
BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Capacity:
    """Size of a file system and what an unprivileged user can still write to it, in bytes.

    Of the latter, downloads under way have been promised the reserved ones.
    """

    total_bytes: int
    free_bytes: int
    reserved_bytes: int = 0


def on_disk_bytes(size: int) -> int:
    """Bytes that a file of this size takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Reservations:
    """What running downloads have been promised and have not yet taken, by device: roots may share a file system.

    One instance per process. Safe for use from several threads.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reserved: dict[int, int] = {}


class FileSystem:
    """The file system of one model root. name is what the node calls the root."""

    def __init__(self, name: str, directory: Path, reservations: Reservations) -> None:
        self.name = name
        self._directory = directory
        self.device = os.stat(directory).st_dev
        self._reservations = reservations

    def capacity(self) -> Capacity:
        """The figures of this moment; reservations are not subtracted."""
        status = os.statvfs(self._directory)
        return Capacity(
            status.f_blocks * status.f_frsize,
            status.f_bavail * status.f_frsize,
            self._reservations.reserved.get(self.device, 0),
        )

    def admit(self, needed: int) -> "Reservation":
        """Promise room, or raise Unavailable with reason InsufficientDisk and the numbers."""
        with self._reservations.lock:
            reserved = self._reservations.reserved.get(self.device, 0)
            if lacking_bytes(needed, self.capacity().free_bytes, reserved):
                raise self._insufficient(needed, reserved)
            self._reservations.reserved[self.device] = reserved + needed
        return Reservation(self, needed)

    def give_back(self, size: int) -> None:
        """Take so many bytes out of the promises."""
        with self._reservations.lock:
            self._reservations.reserved[self.device] -= size

    @contextmanager
    def errors(self, path: Path | str, reservation: "Reservation | None" = None) -> Iterator[None]:
        """Turn OSError inside the block, about path unless it names another, into Unavailable.

        The reason is InsufficientDisk or DiskError; the message has the path as the node sees it. reservation is that
        of the download which writes: what is left of it is what the disk still had to take.
        """
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                if (status := os.statvfs(self._directory)).f_files and not status.f_favail:
                    # Some file systems, ext4 among them, take a number of files that is fixed when they are made.
                    raise Unavailable(
                        Reason.INSUFFICIENT_DISK,
                        f"{self.name} has no room for another file, as all of its {status.f_files} inodes are in use. "
                        "Remove some files or choose a storage.path below another root",
                    ) from error
                needed = reservation.left if reservation else None
                with self._reservations.lock:
                    others = self._reservations.reserved.get(self.device, 0) - (needed or 0)
                    raise self._insufficient(needed, others) from error
            named = error.filename if isinstance(error.filename, str) and os.path.isabs(error.filename) else path
            if isinstance(error, PermissionError) and (found := foreign_owner(named)):
                raise Unavailable(Reason.DISK_ERROR, self.belonging(*found, "change")) from error
            raise Unavailable(
                Reason.DISK_ERROR, f"the node's disk refused {self._shown(named)}: {error.strerror or error}"
            ) from error

    def belonging(self, path: str, uid: int, verb: str) -> str:
        """The sentence about something that belongs to somebody else and is in the way."""
        own = os.geteuid()
        return (
            f"{self._shown(path)} belongs to uid {uid}, so the fetcher, which runs as uid {own}, may not {verb} it: "
            f"give it to uid {own} by chown, or remove it on the node"
        )

    def _shown(self, path: Path | str) -> str:
        relative = os.path.relpath(path, self._directory)
        return os.path.normpath(os.path.join(self.name, relative))

    def _insufficient(self, needed: int | None, reserved: int) -> Unavailable:
        free = self.capacity().free_bytes
        said = f"{self.name} is full"
        # A disk may refuse what its figures have room for, as by a quota of one user: then the need explains nothing.
        if needed is not None and needed > max(free - reserved, 0):
            promised = f", of which other downloads need {shown_size(reserved)}" if reserved else ""
            said = f"{self.name} has {shown_size(free)} free{promised}; the model needs {shown_size(needed)}"
        return Unavailable(
            Reason.INSUFFICIENT_DISK, f"{said}. Free some space or choose a storage.path below another root"
        )


class Reservation:
    """The room that one download has been promised and has not yet taken."""

    def __init__(self, file_system: FileSystem, size: int) -> None:
        self._file_system = file_system
        self._lock = threading.Lock()
        self._left = size

    @property
    def left(self) -> int:
        """Bytes that are promised and not taken yet."""
        with self._lock:
            return self._left

    def take(self, size: int) -> None:
        """So many bytes now show as used on the file system and need no promise any more."""
        with self._lock:
            taken = max(min(size, self._left), 0)
            self._left -= taken
        self._file_system.give_back(taken)

    def release(self) -> None:
        """The download has ended. Idempotent."""
        self.take(self._left)
