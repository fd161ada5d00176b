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
from libs.artifact.places import KIND_FOLDERS, STATE_DIRECTORY, namespace_folder, own_place
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing

# Of a path in a message, so that the words after it are not cut off.
_SHOWN_CHARACTERS = 300
_NAME_BYTES = 255
_PATH_BYTES = 3500
# As many as Linux follows (path_resolution(7)).
_MOST_LINKS = 40
_CONFINED = (
    "An administrator confines models with a namespace to their folders by namespacedPaths of the controller's chart; "
    "the value any allows other paths"
)


@dataclass(frozen=True)
class Tenant:
    """The model that asks for a place, as far as its place depends on it. confined is what the operator says."""

    kind: str
    namespace: str
    name: str
    confined: bool = False

    @property
    def own_place(self) -> str:
        """Where it stands below the root if it names no path: nothing else may stand there."""
        return own_place(self.kind, self.namespace, self.name)


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


def default_path(first_root: str, tenant: Tenant) -> str:
    """Where a model lies that names no storage.path: <first root>/<kind>[/<namespace>]/<name>, kind in lower case."""
    return posixpath.join(first_root, tenant.own_place)


def check_owner(place: Place, tenant: Tenant) -> None:
    """Refuse a place that belongs to other models, or that the operator keeps from models with a namespace.

    Raises InvalidValue with reason InvalidPath.
    """
    own = posixpath.join(place.root, tenant.own_place)
    if is_foreign(place, tenant):
        folder = posixpath.join(place.root, place.relative.split("/")[0])
        raise _refused(
            place.path,
            f"is below {folder}, where each model may stand at its default path only: write {own}, leave storage.path "
            "out, or choose a path outside this folder. No setting allows another one",
        )
    if tenant.confined and place.relative != tenant.own_place:
        raise _refused(
            place.path, f"is not this model's own folder: write {own} or leave storage.path out. {_CONFINED}"
        )


def is_foreign(place: Place, tenant: Tenant) -> bool:
    """Whether a place is among the default paths of all models and is not that of this one."""
    return place.relative.split("/")[0] in KIND_FOLDERS and place.relative != tenant.own_place


def host_path(host_root: Path, node_path: str) -> Path:
    """The fetcher's view of a path that is known to be safe, such as a model root."""
    return host_root / node_path.lstrip("/")


def resolve_local(host_root: Path, roots: Sequence[str], path: str, tenant: Tenant) -> Path:
    """Find the existing directory that a model is read from in place, following links as the node would.

    An absolute link means what it means on the node, not in the fetcher's own file system. Raises InvalidValue with
    reason InvalidPath when the path or a link leads out of the model roots, or to files of other models; Missing with
    reason NotFound when nothing is there, or no directory.
    """
    pending = _parts(path)[::-1]
    allowed = [_root_parts(root) for root in roots]
    if not any(_within(pending[::-1], root) for root in allowed):
        raise _refused(path, f"is not below a model root of this node ({', '.join(roots)})")
    _check_source(path, pending[::-1], allowed, tenant)
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
    _check_source(path, resolved, allowed, tenant)
    directory = host_root.joinpath(*resolved)
    if not directory.is_dir():
        raise Missing(Reason.NOT_FOUND, f"{path} is not a directory on this node")
    return directory


def _check_source(path: str, parts: Sequence[str], roots: Sequence[Sequence[str]], tenant: Tenant) -> None:
    """Refuse to read in place what belongs to other models; path is as the model names it, parts is where it leads."""
    if STATE_DIRECTORY in parts:
        raise _refused(
            path,
            f"leads into {STATE_DIRECTORY}, where OME keeps the files of all models: name the source of the model "
            "instead. No setting allows it",
        )
    if not tenant.namespace:
        return
    relative = "/".join(parts[max(len(root) for root in roots if _within(parts, root)) :])
    own = namespace_folder(tenant.namespace)
    if relative.startswith(f"{own}/"):
        return
    if not relative:
        raise _refused(path, "is a model root, which holds models of others: name a directory below it")
    if relative.split("/")[0] in KIND_FOLDERS:
        raise _refused(path, f"belongs to other models: of such folders, this one may name those below {own}/")
    if tenant.confined:
        raise _refused(path, f"is not below {own}/ of a model root. {_CONFINED}")


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
    shown = path if len(path) <= _SHOWN_CHARACTERS else f"{path[:_SHOWN_CHARACTERS]}…"
    return InvalidValue(Reason.INVALID_PATH, f"{shown!r} {why}")
