"""The links by which readers find an artifact: relative symbolic links below a model root, into the store's artifacts.

Walks every path part by part without following links, so that no user-supplied path leads anywhere else. Changes and
removes only links that point into the artifacts of the same root, and directories that were made for them and are
empty.
"""

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from libs.artifact.places import STATE_DIRECTORY
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Unavailable
from services.fetcher.failpoints import failpoint
from services.fetcher.store.files import DIRECTORY_MODE

# A folder with more entries than this is somebody's, whatever they are.
_MOST_ENTRIES = 10_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TARGET = re.compile(rf"(?P<up>(\.\./)*){re.escape(STATE_DIRECTORY)}/artifacts/sha256-(?P<hex>[0-9a-f]{{64}})")


class Links:
    """The links below one root; name is what the node calls it."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name

    def read(self, path: str) -> str | None:
        """Digest of the artifact that the link at path points to; None when there is no link of ours."""
        try:
            with self._parent(path, []) as (parent, name):
                return _digest_at(parent, name, path)
        except (Invalid, Unavailable, FileNotFoundError):
            return None

    def check_free(self, path: str) -> None:
        """Raise what place would raise for a path that cannot be used; nothing is created."""
        try:
            with self._parent(path, []) as (parent, name):
                self._refuse_foreign(parent, name, path)
        except FileNotFoundError:
            return

    def check_parents(self, path: str, made: Collection[str]) -> None:
        """Refuse a new link inside somebody else's folder, which is one that holds files; made lists those of ours.

        Raises Unavailable with reason PathOccupied.
        """
        parents = path.split("/")[:-1]
        for depth in range(len(parents)):
            parent = "/".join(parents[: depth + 1])
            if not os.path.lexists(self._root / parent):
                return
            if parent not in made and self._holds_files(parent):
                raise Unavailable(
                    Reason.PATH_OCCUPIED,
                    f"{self._shown(parent)} holds files that OME did not put there, so no model is placed inside it: "
                    "choose a storage.path outside, or move the files away",
                )

    def _holds_files(self, folder: str) -> bool:
        seen, unreadable = 0, list[OSError]()
        walk = os.fwalk(self._root / folder, onerror=unreadable.append, follow_symlinks=False)
        for place, directories, files, descriptor in walk:
            seen += 1 + len(directories) + len(files)
            inner = os.path.relpath(place, self._root)
            for name in (*directories, *files):
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode) and _digest_at(descriptor, name, f"{inner}/{name}") is None:
                    return True
            if seen > _MOST_ENTRIES or unreadable:
                return True
        return bool(unreadable)

    def missing_parents(self, path: str) -> tuple[str, ...]:
        """The directories above path that place would make."""
        parents = path.split("/")[:-1]
        paths = ["/".join(parents[: depth + 1]) for depth in range(len(parents))]
        return tuple(parent for parent in paths if not os.path.lexists(self._root / parent))

    def place(self, path: str, digest: str, make: Sequence[str]) -> None:
        """Let path lead to an artifact, replacing an earlier link of ours in one step; make lists parents to create.

        Raises Unavailable with reason PathOccupied when something else stands there, Invalid with reason InvalidPath
        when a link or another file system is in the way.
        """
        depth = path.count("/")
        target = "../" * depth + f"{STATE_DIRECTORY}/artifacts/{digest.replace(':', '-')}"
        with self._parent(path, make) as (parent, name):
            self._refuse_foreign(parent, name, path)
            if _digest_at(parent, name, path) is None:
                self._remove_empty(parent, name, path)
            try:
                # Creating fails where something else was put meanwhile, renaming would silently replace it.
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                self._refuse_foreign(parent, name, path, empty=False)
                self._replace(parent, name, path, target)
            os.fsync(parent)

    def remove(self, path: str, made_directories: Sequence[str]) -> None:
        """Remove a link of ours and the empty directories that were made for it, nothing else. Idempotent."""
        try:
            with self._parent(path, []) as (parent, name):
                if _digest_at(parent, name, path) is not None:
                    os.unlink(name, dir_fd=parent)
                    os.fsync(parent)
        except (Invalid, Unavailable, FileNotFoundError):
            return
        for directory in sorted(made_directories, key=len, reverse=True):
            try:
                with self._parent(directory, []) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
            except (Invalid, Unavailable, OSError):
                return

    def _replace(self, parent: int, name: str, path: str, target: str) -> None:
        temporary = self._root / STATE_DIRECTORY / "staging" / ".link"
        temporary.unlink(missing_ok=True)
        os.symlink(target, temporary)
        failpoint("link-staged")
        try:
            os.rename(temporary, name, dst_dir_fd=parent)
        except OSError as error:
            temporary.unlink()
            if error.errno == errno.EXDEV:
                raise Invalid(
                    Reason.INVALID_PATH, f"{self._shown(path)} is on another file system than {self._name}"
                ) from error
            raise

    def _remove_empty(self, parent: int, name: str, path: str) -> None:
        """Remove an empty directory, such as the kubelet makes for a Pod that came before the model."""
        try:
            # Fails if it holds anything, also what was put there a moment ago.
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._occupied(path, "a directory") from error
        failpoint("empty-directory-removed")

    def _refuse_foreign(self, parent: int, name: str, path: str, empty: bool = True) -> None:
        """Raise Unavailable (PathOccupied) for what is not ours; empty directories are fine unless said otherwise."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if _digest_at(parent, name, path) is None and not (empty and _is_empty_directory(parent, name)):
            what = "a directory" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a file"
            raise self._occupied(path, what)

    @contextmanager
    def _parent(self, path: str, make: Sequence[str]) -> Iterator[tuple[int, str]]:
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") for part in parts) or STATE_DIRECTORY in parts:
            raise Invalid(Reason.INVALID_PATH, f"{self._shown(path)} is no valid path for a model")
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, part in enumerate(parts[:-1]):
                upper = "/".join(parts[: depth + 1])
                if upper in make:
                    self._make(fd, part)
                try:
                    lower = os.open(part, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    raise self._blocked(fd, part, upper, error) from error
                os.close(fd)
                fd = lower
            yield fd, parts[-1]
        finally:
            os.close(fd)

    def _make(self, fd: int, part: str) -> None:
        try:
            os.mkdir(part, DIRECTORY_MODE, dir_fd=fd)
        except FileExistsError:
            return
        # The umask may have taken away what readers need.
        os.chmod(part, DIRECTORY_MODE, dir_fd=fd)
        os.fsync(fd)
        failpoint("directory-made")

    def _blocked(self, fd: int, part: str, upper: str, error: OSError) -> Exception:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            return error
        if stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
            return Invalid(
                Reason.INVALID_PATH,
                f"{self._shown(upper)} is a symbolic link; a model's path must not lead through one",
            )
        return self._occupied(upper, "a file")

    def _occupied(self, path: str, what: str) -> Unavailable:
        return Unavailable(
            Reason.PATH_OCCUPIED,
            f"{self._shown(path)} is {what} that OME did not create, and is left alone: "
            "move it away or choose another storage.path",
        )

    def _shown(self, path: str) -> str:
        return f"{self._name.rstrip('/')}/{path}"


def _is_empty_directory(parent: int, name: str) -> bool:
    """Whether an entry is an empty directory on the file system of its parent, rather than a mount point."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return False
    try:
        return os.fstat(fd).st_dev == os.fstat(parent).st_dev and not os.listdir(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _digest_at(parent: int, name: str, path: str) -> str | None:
    try:
        target = os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None
    match = _TARGET.fullmatch(target)
    if match is None or match["up"] != "../" * path.count("/"):
        return None
    return f"sha256:{match['hex']}"
