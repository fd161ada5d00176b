"""Small operations on files that must survive a power cut: whole or not at all."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Bring the entries of a directory to disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step, on disk when this returns. The directory must be the caller's own."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, memoryview(content), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(path.parent)


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
