"""Repositories, their commits, and who may read them, in the words of the real hub. Must not know HTTP."""

import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.hub.content import Content, git_blob_sha1, lfs_pointer

# What the .gitattributes of a new repository send to LFS; and the size above which the real hub insists on it.
_LFS_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".model", ".npz",
)  # fmt: skip
_LFS_BYTES = 10 << 20


@dataclass(frozen=True)
class RepositoryFile:
    """A file of a commit; blob_id is Git's name of the content, or of the pointer for a file in LFS."""

    path: str
    content: Content
    lfs: bool
    blob_id: str

    @property
    def etag(self) -> str:
        """SHA-256 of a file in LFS, else Git's name of it, quoted."""
        return f'"{self.content.sha256 if self.lfs else self.blob_id}"'


@dataclass(frozen=True)
class Commit:
    """A commit: its name, parent, and all files."""

    oid: str
    parent: str
    files: tuple[RepositoryFile, ...]

    @cached_property
    def by_path(self) -> Mapping[str, RepositoryFile]:
        """Files by path."""
        return {file.path: file for file in self.files}

    @cached_property
    def folders(self) -> Mapping[str, str]:
        """Folders by path, and a name for each that changes when something below it does."""
        below: dict[str, list[str]] = {}
        for file in self.files:
            parts = file.path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                below.setdefault("/".join(parts[:depth]), []).append(f"{file.path} {file.blob_id}")
        return {path: hashlib.sha1("\n".join(rows).encode()).hexdigest() for path, rows in sorted(below.items())}

    @cached_property
    def entries(self) -> Sequence[tuple[str, RepositoryFile | str]]:
        """Files, and folders with their names, sorted by path."""
        entries: list[tuple[str, RepositoryFile | str]] = [*self.folders.items(), *self.by_path.items()]
        return sorted(entries, key=lambda entry: entry[0])


@dataclass
class Repository:
    """A model repository; gated is False, "auto" or "manual"."""

    name: str
    gated: bool | str = False
    private: bool = False
    disabled: bool = False
    listing_gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a commit's name means."""
        revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def commit(self, files: Iterable[RepositoryFile], branch: str) -> str:
        """Put a new commit at the head of a branch."""
        ordered = tuple(sorted(files, key=lambda file: file.path))
        parent = self.branches.get(branch, "")
        rows = [[file.path, file.content.sha256] for file in ordered]
        name = json.dumps([self.name, parent, len(self.commits), rows])
        oid = hashlib.sha1(name.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, ordered)
        self.branches[branch] = oid
        return oid


@dataclass(frozen=True)
class Refusal:
    """Status, X-Error-Code and X-Error-Message of a request that is refused."""

    status: int
    code: str
    message: str


class Library:
    """All repositories and tokens of a hub, saved after each change."""

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.tokens: dict[str, tuple[str, ...]] = {}
        self.is_new = not state_file.exists()
        if not self.is_new:
            self._load()

    def refusal(self, repository: str, token: str | None, *, content: bool) -> Refusal | None:
        """Why a repository may not be listed or, with content, be downloaded from; None when it may.

        Status and words as huggingface.co has them: a private repository cannot be told from a missing one, and without
        a token even a missing one asks for credentials.
        """
        with self.lock:
            if token is not None and token not in self.tokens:
                return Refusal(401, "", "Invalid credentials in Authorization header")
            found = self.repositories.get(repository)
            granted = token is not None and any(name in ("*", repository) for name in self.tokens[token])
            if found is None or (found.private and not granted):
                if token is None:
                    return Refusal(401, "RepoNotFound", "Invalid username or password.")
                return Refusal(404, "RepoNotFound", "Repository not found")
            if found.disabled:
                return Refusal(403, "", "Access to this resource is disabled.")
            if found.gated and not granted and (content or found.listing_gated):
                restricted = f"Access to model {repository} is restricted"
                if token is None:
                    return Refusal(
                        401,
                        "GatedRepo",
                        f"{restricted}. You must have access to it and be authenticated to access it. Please log in.",
                    )
                return Refusal(
                    403,
                    "GatedRepo",
                    f"{restricted} and you are not in the authorized list. "
                    f"Visit https://huggingface.co/{repository} to ask for access.",
                )
            return None

    def save(self) -> None:
        """Write everything down. Call with the lock held, after a change."""
        state = {
            "tokens": self.tokens,
            "repositories": [
                {**vars(repository), "commits": [_commit_row(commit) for commit in repository.commits.values()]}
                for repository in self.repositories.values()
            ],
        }
        draft = self._state_file.with_suffix(".draft")
        draft.write_text(json.dumps(state))
        draft.replace(self._state_file)

    def _load(self) -> None:
        state = json.loads(self._state_file.read_text())
        self.tokens = {token: tuple(names) for token, names in state["tokens"].items()}
        for row in state["repositories"]:
            commits = {commit["oid"]: _commit_of(commit) for commit in row.pop("commits")}
            repository = Repository(**row, commits=commits)
            self.repositories[repository.name] = repository


def repository_file(path: str, content: Content, lfs_paths: Sequence[str] = ()) -> RepositoryFile:
    """A file as a push would store it: large and binary ones in LFS, and those that match lfs_paths."""
    lfs = (
        path.endswith(_LFS_SUFFIXES)
        or content.size_bytes > _LFS_BYTES
        or any(fnmatch.fnmatchcase(path, pattern) for pattern in lfs_paths)
    )
    return RepositoryFile(path, content, lfs, git_blob_sha1(lfs_pointer(content)) if lfs else content.git_sha1)


def _commit_row(commit: Commit) -> dict[str, Any]:
    files = [{**vars(file), "content": vars(file.content)} for file in commit.files]
    return {"oid": commit.oid, "parent": commit.parent, "files": files}


def _commit_of(row: Mapping[str, Any]) -> Commit:
    files = tuple(RepositoryFile(**{**file, "content": Content(**file["content"])}) for file in row["files"])
    return Commit(row["oid"], row["parent"], files)
