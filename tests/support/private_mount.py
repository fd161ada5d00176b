"""Runs a program that has a file system of its own at a directory, in memory, which nobody else sees and nobody must be
root for: a user namespace and a mount namespace.

    python -m tests.support.private_mount DIRECTORY BYTES FILES MODULE [ARGUMENT ...]

PrivateMount changes it from outside while the program runs. Some machines allow no user namespaces.
"""

import ctypes
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

# <linux/sched.h> and <sys/mount.h>.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_MOVE = 1, 32, 4096, 8192
_MNT_DETACH = 2
# Stands for the flags of a mount when something is to be unmounted.
_UNMOUNT = -1
_libc = ctypes.CDLL(None, use_errno=True)


class PrivateMount:
    """The file system of a running program, as seen and changed from outside."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._pid = pid
        self._directory = directory

    def path(self, relative: str) -> Path:
        """A path on the file system."""
        return Path(f"/proc/{self._pid}/root{self._directory}") / relative

    def resize(self, size: int, files: int) -> None:
        """Let it hold so many bytes and files."""
        self._change("", str(self._directory), _MS_REMOUNT, f"size={size},nr_inodes={files}")

    def make_read_only(self) -> None:
        """Refuse writes by whoever opens something from now on; the kernel allows no more while a file is open."""
        directory = str(self._directory)
        self._change(directory, directory, _MS_BIND, "")
        self._change("", directory, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, "")

    def make_writable(self) -> None:
        """Undo make_read_only."""
        self._change("", str(self._directory), _UNMOUNT, "")

    def move(self, start: Path, end: Path) -> None:
        """Take it away from one directory and mount it at another."""
        end.mkdir(exist_ok=True)
        self._change(str(start), str(end), _MS_MOVE, "")

    def _change(self, source: str, target: str, flags: int, options: str) -> None:
        arguments = [str(self._pid), source, target, str(flags), options]
        subprocess.run([sys.executable, "-m", __name__, "enter", *arguments], check=True)


def supported() -> bool:
    """Whether this machine lets an ordinary process mount something for itself."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", __name__, directory, "1048576", "100", "this"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Become the program, or change the mount of one that runs."""
    if sys.argv[1] == "enter":
        pid, source, target, flags, options = sys.argv[2:]
        for kind in ("user", "mnt"):
            fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
            _check(_libc.setns(fd, 0))
            os.close(fd)
        if int(flags) == _UNMOUNT:
            _check(_libc.umount2(target.encode(), _MNT_DETACH))
        else:
            _mount(source, target, int(flags), options)
        return
    directory, size, files, module, *arguments = sys.argv[1:]
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    Path(directory).mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", directory, 0, f"size={size},nr_inodes={files}")
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _mount(source: str, target: str, flags: int, options: str) -> None:
    _check(_libc.mount(source.encode(), target.encode(), b"tmpfs", ctypes.c_ulong(flags), options.encode()))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main()
