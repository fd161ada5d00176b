"""Owns the folder of a cluster of the command line: whose it is, whether it runs, how others join in."""

import contextlib
import fcntl
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_LOCK = ".lock"
_OUTPUT = "up.log"


class FolderInUse(RuntimeError):
    """A cluster runs in the folder, or the folder holds something that is not a cluster's."""


class StateFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.output = self.path / _OUTPUT
        self._env = self.path / "env"

    def create(self) -> None:
        """Make the folder readable by its owner alone; refuses one that holds other things than an earlier cluster."""
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / _LOCK).exists():
            raise FolderInUse(
                f"{self.path} is not empty and was not made by the local cluster: choose another --state-dir"
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        (self.path / _LOCK).touch(mode=0o600)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one cluster of this folder, which is emptied first. The claim ends with the process in any case."""
        self.create()
        with (self.path / _LOCK).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderInUse(f"a local cluster runs in {self.path} already (pid {lock.read().strip()})") from None
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            for entry in self.path.iterdir():
                if entry.name in (_LOCK, _OUTPUT):
                    continue
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            try:
                yield
            finally:
                self._env.unlink(missing_ok=True)
                lock.seek(0)
                lock.truncate()

    def running_pid(self) -> int | None:
        """The process that holds the claim: while it does, its number cannot belong to anyone else."""
        try:
            lock = (self.path / _LOCK).open()
        except FileNotFoundError:
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text else None
            return None

    def write_env(self, variables: Mapping[str, str]) -> None:
        """Lines of NAME=value that a shell can source; the file appears at once and whole."""
        temporary = self._env.with_name(".env.new")
        temporary.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
        temporary.rename(self._env)

    def read_env(self) -> dict[str, str] | None:
        """None until the cluster is up."""
        if not self._env.exists():
            return None
        pairs = (line.partition("=") for line in self._env.read_text().splitlines())
        return {name: " ".join(shlex.split(value)) for name, _, value in pairs}


def default_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "state")
    return Path(base) / "ome" / "localcluster"
