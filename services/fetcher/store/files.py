"""Small operations on files that must survive a power cut: whole or not at all."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from services.fetcher.failpoints import failpoint

# What a disk answers for a block that it cannot give back, and a file system for one whose structure or checksum is
# wrong. Whatever was there is lost; the file has to be written anew.
LOST_ERRNOS = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
# Of the name under which write_durably writes; a kill leaves such a file behind.
UNFINISHED_SUFFIX = ".new"


# Everybody may read a model and nobody may write into one, whatever the umask. The owner, which is the fetcher, may
# change directories, as it has to when it removes them.
FILE_MODE, DIRECTORY_MODE = 0o444, 0o755
# Of directories that hold what is nobody's yet, or nobody's business.
PRIVATE_MODE = 0o700


def protect(path: Path | str, mode: int, found: int | None = None) -> None:
    """Give a file or directory its mode; found is the mode that it has, where the caller knows that.

    One that belongs to somebody else keeps what it has.
    """
    if found is None:
        found = os.stat(path).st_mode
    if stat.S_IMODE(found) != mode:
        with contextlib.suppress(PermissionError):
            os.chmod(path, mode)


def foreign_owner(path: Path | str) -> tuple[str, int] | None:
    """Of a path and the directory that it is in, what belongs to another user than this process, and that user's id."""
    for candidate in (str(path), os.path.dirname(path)):
        with contextlib.suppress(OSError):
            uid = os.lstat(candidate).st_uid
            if uid != os.geteuid():
                return candidate, uid
    return None


def sync_directory(directory: Path) -> None:
    """Bring the entries of a directory to disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes | bytearray) -> None:
    """Replace a file in one step, on disk when this returns. The directory must be the caller's own."""
    temporary = path.with_name(path.name + UNFINISHED_SUFFIX)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_all(fd, memoryview(content), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        failpoint("record-flushed")
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step, for what may be lost in a power cut, when the file may also end up torn."""
    temporary = path.with_name(path.name + UNFINISHED_SUFFIX)
    try:
        temporary.write_bytes(content)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Write the whole view at offset."""
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def blocks_bytes(path: Path) -> int:
    """Bytes that a file takes on disk now; 0 when it does not exist."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
