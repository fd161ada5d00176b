"""Which directory of the node a user-supplied path means, and whether a model may stand there.

No path from a spec reaches the file system but through here. The node's own view ("/raid/models/x") and the fetcher's
view ("<host root>/raid/models/x") are kept apart by type: str is the node's, Path is the fetcher's.
"""

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing

STATE_DIRECTORY = ".ome"

_NAME_BYTES = 255
_PATH_BYTES = 3500
# As many as Linux follows (path_resolution(7)).
_MOST_LINKS = 40


@dataclass(frozen=True)
class Place:
    """A place for a model: one of the model roots, and a normalised path below it that is never empty."""

    root: str
    relative: str

    @property
    def path(self) -> str:
        """The place as the node sees it."""
        return posixpath.join(self.root, self.relative)


def place_model(path: str, roots: Sequence[str]) -> Place:
    """Find the model root that holds path, the innermost one when roots are nested.

    Raises InvalidValue with reason InvalidPath, saying which paths are possible.
    """
    parts = _parts(path)
    containing = [root for root in roots if _below(parts, _root_parts(root))]
    if not containing and any(parts == _root_parts(root) for root in roots):
        below = posixpath.join(path, "NAME")
        raise _refused(path, f"is itself a model root: choose a directory below it, such as {below}")
    if not containing:
        raise _refused(path, f"is not below a model root of this node ({', '.join(roots)})")
    root = max(containing, key=lambda candidate: len(_root_parts(candidate)))
    relative = parts[len(_root_parts(root)) :]
    if STATE_DIRECTORY in relative:
        raise _refused(path, f"leads into {STATE_DIRECTORY}, which the fetcher keeps for itself")
    return Place(posixpath.normpath(root), "/".join(relative))


def default_path(first_root: str, kind: str, namespace: str, name: str) -> str:
    """Where a model lies that names no storage.path: <first root>/<kind>[/<namespace>]/<name>, kind in lower case."""
    return posixpath.join(first_root, kind.lower(), *([namespace] if namespace else []), name)


def host_path(host_root: Path, node_path: str) -> Path:
    """The fetcher's view of a path that is known to be safe, such as a model root."""
    return host_root / node_path.lstrip("/")


def resolve_local(host_root: Path, roots: Sequence[str], path: str) -> Path:
    """Find the existing directory that a local:// URI means, following links as the node would.

    An absolute link means what it means on the node, not in the fetcher's own file system. Raises InvalidValue with
    reason InvalidPath when the path or a link leads out of the model roots; Missing with reason NotFound when nothing
    is there, or no directory.
    """
    pending = _parts(path)[::-1]
    allowed = [_root_parts(root) for root in roots]
    if not any(_within(pending[::-1], root) for root in allowed):
        raise _refused(path, f"is not below a model root of this node ({', '.join(roots)})")
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del resolved[-1:]
            continue
        entry = host_root.joinpath(*resolved, part)
        try:
            mode = entry.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Missing(Reason.NOT_FOUND, f"{path} does not exist on this node") from error
        if not stat.S_ISLNK(mode):
            resolved.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise _refused(path, "leads through too many symbolic links")
        target = os.readlink(entry)
        if target.startswith("/"):
            resolved.clear()
        pending.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    if not any(_within(resolved, root) for root in allowed):
        raise _refused(path, f"is a link that leads out of the model roots of this node ({', '.join(roots)})")
    directory = host_root.joinpath(*resolved)
    if not directory.is_dir():
        raise Missing(Reason.NOT_FOUND, f"{path} is not a directory on this node")
    return directory


def _parts(path: str) -> list[str]:
    if not path.startswith("/"):
        raise _refused(path, "is not absolute")
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000 for character in path):
        raise _refused(path, "holds a control character or is not valid Unicode")
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise _refused(path, "contains '.' or '..'")
    if any(len(part.encode()) > _NAME_BYTES for part in parts) or len(path.encode()) > _PATH_BYTES:
        raise _refused(path, "is too long")
    return parts


def _root_parts(root: str) -> list[str]:
    return [part for part in root.split("/") if part]


def _within(parts: Sequence[str], root: Sequence[str]) -> bool:
    return list(parts[: len(root)]) == list(root)


def _below(parts: Sequence[str], root: Sequence[str]) -> bool:
    return _within(parts, root) and len(parts) > len(root)


def _refused(path: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PATH, f"{path!r} {why}")
