"""What ModelScope says of a revision: its files, and the commit that they are of. Taken apart and checked. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, leave_out, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, Unavailable
from services.fetcher.sources.modelscope.source import ModelScopeSource
from services.fetcher.sources.selection import Selection, select_files

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Beginnings of a commit that are shorter may be those of several.
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Tree:
    """The files of a revision by path, each with its size and SHA-256 as the hub writes them.

    revision is the commit, or what was asked for where the hub does not tell which one that is.
    """

    revision: str
    files: Mapping[str, tuple[Any, Any]]


def read_tree(document: Mapping[str, Any], source: ModelScopeSource) -> Tree:
    """Take an answer apart. Raises Unavailable for what no ModelScope answers, Missing where there is no file."""
    data = document.get("Data")
    entries = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not (entries is None or isinstance(entries, list)):
        raise _other_hub(source)
    if not entries:
        # The hub answers so for a revision that it does not know, too.
        raise Missing(
            Reason.NOT_FOUND,
            f"{source.name} has no revision {source.revision!r}, or no files in it: check storageUri and "
            "parameters.revision",
        )
    if not all(isinstance(entry, dict) and isinstance(entry.get("Path"), str) for entry in entries):
        raise _other_hub(source)
    blobs = [entry for entry in entries if entry.get("Type") != "tree"]
    counted = Counter(entry["Path"] for entry in blobs if source.choice.wants(entry["Path"]))
    twice = next((path for path, count in counted.items() if count > 1), None)
    if twice is not None:
        raise InvalidValue(Reason.INVALID_LISTING, f"{source.name}: the hub lists {twice!r} twice: {leave_out(twice)}")
    commit = _commit(source, data.get("LatestCommitter"), blobs)
    return Tree(commit or source.revision, {entry["Path"]: (entry.get("Size"), entry.get("Sha256")) for entry in blobs})


def manifest_of(tree: Tree, source: ModelScopeSource) -> tuple[Manifest, Selection]:
    """The files to fetch. Raises Invalid InvalidParameter, InvalidValue InvalidListing."""
    selection = select_files(tree.files.keys(), source.choice)
    if not selection.paths:
        raise Invalid(
            Reason.INVALID_PARAMETER,
            f"allowPatterns and ignorePatterns leave none of the {len(tree.files)} files of {source.name}; "
            "a pattern is matched against the whole path, as in '*.safetensors' or 'onnx/*'",
        )
    return new_manifest(tree.revision, (_file(path, *tree.files[path], source) for path in selection.paths)), selection


def _commit(source: ModelScopeSource, latest: Any, blobs: list[dict[str, Any]]) -> str:
    """The commit that a branch stands for: named in full, or by its beginning and in full by what it has changed.

    Empty when the hub does not say: a commit that has only deleted files is named by none.
    """
    if _COMMIT.fullmatch(source.revision):
        return source.revision
    latest = latest if isinstance(latest, dict) else {}
    for name in _texts(latest, "Id", "ShortId"):
        if not _SHORT_COMMIT.fullmatch(name):
            continue
        named = {text for entry in blobs for text in _texts(entry, "Revision") if _COMMIT.fullmatch(text)}
        whole = {commit for commit in (*named, name) if commit.startswith(name) and _COMMIT.fullmatch(commit)}
        if len(whole) == 1:
            return whole.pop()
    return ""


def _texts(entry: Mapping[str, Any], *names: str) -> Iterator[str]:
    return (value for name in names if isinstance(value := entry.get(name), str))


def _file(path: str, size: Any, checksum: Any, source: ModelScopeSource) -> ManifestFile:
    if not isinstance(size, int) or isinstance(size, bool):
        what = f"{source.name}: the hub lists {path!r} without its size: {leave_out(path)}"
        raise InvalidValue(Reason.INVALID_LISTING, what)
    if not isinstance(checksum, str) or not _SHA256.fullmatch(checksum.lower()):
        raise InvalidValue(
            Reason.INVALID_LISTING,
            f"{source.name}: the hub lists {path!r} without its SHA-256, so that it cannot be verified: "
            f"{leave_out(path)}",
        )
    return ManifestFile(path, size, ChecksumAlgorithm.SHA256, checksum.lower())


def _other_hub(source: ModelScopeSource) -> Unavailable:
    return Unavailable(
        Reason.UNAVAILABLE,
        f"{source.endpoint} does not answer as ModelScope does when listing {source.name}; "
        "check the endpoint and proxies on the way",
    )
