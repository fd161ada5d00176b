"""A file system that is full after a few bytes, for tests of what happens then."""

import ctypes
import os
from pathlib import Path

import pytest


class small_disk:  # noqa: N801
    """A file system of a few bytes at a directory, which only the superuser can make."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = os.fsencode(directory)
        self._size = size
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> "small_disk":
        if self._libc.mount(b"tmpfs", self._directory, b"tmpfs", 0, b"size=%d" % self._size) != 0:
            pytest.skip("only the superuser can mount a small file system")
        return self

    def make_read_only(self) -> None:
        """Refuse writes from now on."""
        # MS_REMOUNT and MS_RDONLY of <sys/mount.h>.
        assert self._libc.mount(b"tmpfs", self._directory, b"tmpfs", 32 | 1, None) == 0

    def __exit__(self, *_: object) -> None:
        self._libc.umount2(self._directory, 2)
