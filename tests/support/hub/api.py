"""What the hub answers: model info, trees, references, and the files of a revision. Must not inject faults.

Source of paths, fields and headers: https://huggingface.co/docs/hub/api and what huggingface_hub reads of them.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.hub.repositories import Commit, Library, Refusal, Repository, RepositoryFile
from tests.support.hub.wire import FileRange, Request, Response
from tests.support.hub.xet import xet_hash

# As huggingface.co counts them: requests per user or address and five minutes.
_WINDOW_SECONDS = 300
# A last commit has a date; the same one everywhere, so that answers are the same in every run.
_DATE = "2025-01-01T00:00:00.000Z"
_UNLIMITED = 1_000_000
# What may follow the name of a repository, which has one part or two.
_OPERATIONS = ("revision", "tree", "refs", "auth-check", "xet-read-token")


@dataclass
class Behaviour:
    """What tests may change of how the hub answers; see HubClient.configure."""

    page_size: int = 1000
    link_seconds: float = 3600.0
    cdn: bool = True
    small_file_redirects: bool = False
    api_quota: int = 0
    resolve_quota: int = 0
    xet: bool = False
    xet_token_seconds: float = 3600.0
    xet_swapped_terms: bool = False


class _RefusedError(Exception):
    def __init__(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.headers = dict(headers or {})


class Api:
    """The hub's own port."""

    def __init__(
        self,
        library: Library,
        behaviour: Behaviour,
        links: "Links",
        xet_token: Callable[[], Mapping[str, Any]],
        endpoint: Callable[[], str],
    ) -> None:
        self._library = library
        self._behaviour = behaviour
        self._links = links
        self._xet_token = xet_token
        self._endpoint = endpoint
        self._quotas = {"api": _Quota(), "resolvers": _Quota()}

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        kind = "api" if request.parts[0] == "api" and request.parts[1:2] != ("resolve-cache",) else "resolvers"
        limit = self._behaviour.api_quota if kind == "api" else self._behaviour.resolve_quota
        exceeded, headers = self._quotas[kind].count(kind, limit or _UNLIMITED)
        try:
            if exceeded:
                raise _RefusedError(Refusal(429, "", "We had to rate limit you."), headers)
            if request.method not in ("GET", "HEAD"):
                raise _RefusedError(Refusal(405, "", "Method not allowed"))
            response = self._api(request) if request.parts[0] == "api" else self._resolve(request)
        except _RefusedError as refused:
            response = _refuse(refused)
        return Response(response.status, {**response.headers, **headers}, response.body)

    def _api(self, request: Request) -> Response:
        parts = request.parts[1:]
        if parts[0] == "whoami-v2":
            return self._who_am_i(request)
        if parts[0] == "resolve-cache":
            # /api/resolve-cache/models/{id}/{commit}/{path}
            size = 2 if parts[3:4] and not _is_commit(parts[3]) else 1
            return self._file(request, "/".join(parts[2 : 2 + size]), parts[2 + size], "/".join(parts[3 + size :]))
        if parts[0] != "models" or len(parts) < 2:
            raise _RefusedError(Refusal(404, "", "Sorry, we can't find the page you are looking for."))
        size = 2 if len(parts) > 2 and parts[2] not in _OPERATIONS else 1
        name, rest = "/".join(parts[1 : 1 + size]), parts[1 + size :]
        match rest:
            case ():
                repository = self._readable(request, name, content=False)
                return self._model_info(request, repository, _revision(repository, "main"))
            case ("revision", revision):
                repository = self._readable(request, name, content=False)
                return self._model_info(request, repository, _revision(repository, revision))
            case ("tree", revision, *folder):
                repository = self._readable(request, name, content=False)
                return self._tree(request, repository, _revision(repository, revision), "/".join(folder))
            case ("refs",):
                return _json(_references(self._readable(request, name, content=False)))
            case ("auth-check",):
                self._readable(request, name, content=True)
                return _json({})
            case ("xet-read-token", revision) if self._behaviour.xet:
                _revision(self._readable(request, name, content=True), revision)
                token = self._xet_token()
                names = {
                    "accessToken": "X-Xet-Access-Token",
                    "exp": "X-Xet-Token-Expiration",
                    "casUrl": "X-Xet-Cas-Url",
                }
                return _json(token, {header: str(token[key]) for key, header in names.items()})
            case _:
                raise _RefusedError(Refusal(404, "", "Sorry, we can't find the page you are looking for."))

    def _who_am_i(self, request: Request) -> Response:
        token = _token(request)
        if token not in self._library.tokens:
            raise _RefusedError(Refusal(401, "", "Invalid credentials in Authorization header"))
        return _json({"type": "user", "name": "tester", "auth": {"type": "access_token"}})

    def _readable(self, request: Request, name: str, *, content: bool) -> Repository:
        refusal = self._library.refusal(name, _token(request), content=content)
        if refusal:
            raise _RefusedError(refusal)
        return self._library.repositories[name]

    def _model_info(self, request: Request, repository: Repository, commit: Commit) -> Response:
        siblings: list[dict[str, Any]] = [{"rfilename": file.path} for file in commit.files]
        if _flag(request, "blobs"):
            siblings = [{"rfilename": file.path, **_blob(file, "blobId", "sha256")} for file in commit.files]
        return _json(
            {
                "_id": hashlib.sha1(repository.name.encode()).hexdigest()[:24],
                "id": repository.name,
                "modelId": repository.name,
                "author": repository.name.rpartition("/")[0],
                "sha": commit.oid,
                "lastModified": _DATE,
                "createdAt": _DATE,
                "private": repository.private,
                "gated": repository.gated,
                "disabled": repository.disabled,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "library_name": "transformers",
                "siblings": siblings,
                "usedStorage": sum(file.content.size_bytes for file in commit.files),
            }
        )

    def _tree(self, request: Request, repository: Repository, commit: Commit, folder: str) -> Response:
        prefix = f"{folder}/" if folder else ""
        if folder and folder not in commit.folders:
            raise _RefusedError(_no_entry(folder, commit))
        recursive, expand = _flag(request, "recursive"), _flag(request, "expand")
        listed: Sequence[tuple[str, RepositoryFile | str]] = commit.entries
        if prefix or not recursive:
            listed = [
                (path, entry)
                for path, entry in listed
                if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
            ]
        start = int(base64.urlsafe_b64decode(request.query["cursor"])) if "cursor" in request.query else 0
        size = min(self._behaviour.page_size, int(request.query.get("limit", _UNLIMITED)), 50 if expand else _UNLIMITED)
        page = [_tree_entry(path, entry, commit if expand else None) for path, entry in listed[start : start + size]]
        if self._behaviour.xet:
            page = [{**row, "xetHash": xet_hash(row["lfs"]["oid"])} if "lfs" in row else row for row in page]
        headers = {}
        if start + size < len(listed):
            cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
            query = urlencode({**request.query, "cursor": cursor})
            headers["Link"] = f'<{self._endpoint()}{request.target.partition("?")[0]}?{query}>; rel="next"'
        return _json(page, {**headers, "X-Repo-Commit": commit.oid})

    def _resolve(self, request: Request) -> Response:
        # /{id}/resolve/{revision}/{path}, where the id has one part or two
        size = next((number for number in (1, 2) if request.parts[number : number + 1] in (("resolve",), ("raw",))), 0)
        if not size or len(request.parts) < size + 3:
            raise _RefusedError(Refusal(404, "", "Sorry, we can't find the page you are looking for."))
        name, revision, path = (
            "/".join(request.parts[:size]),
            request.parts[size + 1],
            "/".join(request.parts[size + 2 :]),
        )
        if not self._behaviour.small_file_redirects:
            return self._file(request, name, revision, path)
        repository = self._readable(request, name, content=True)
        commit = _revision(repository, revision)
        file = commit.by_path.get(path)
        if file is None or file.lfs:
            return self._file(request, name, revision, path)
        location = f"/api/resolve-cache/models/{name}/{commit.oid}/{quote(path)}?etag={quote(file.etag)}"
        return Response(307, {**_file_headers(commit, file), "Location": location}, b"Temporary Redirect")

    def _file(self, request: Request, name: str, revision: str, path: str) -> Response:
        repository = self._readable(request, name, content=True)
        commit = _revision(repository, revision)
        file = commit.by_path.get(path)
        if file is None:
            raise _RefusedError(_no_entry(path, commit), {"X-Repo-Commit": commit.oid})
        headers = _file_headers(commit, file)
        if file.lfs and self._behaviour.xet:
            auth = f"{self._endpoint()}/api/models/{name}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": xet_hash(file.content.sha256), "Link": f'<{auth}>; rel="xet-auth"'}
        if not (file.lfs and self._behaviour.cdn):
            return ranged(request, file, headers)
        location = self._links.sign(f"/repos/{name}/{file.content.sha256}/{quote(path)}", self._behaviour.link_seconds)
        return Response(302, {**headers, "Location": location}, b"Found. Redirecting to the CDN")


class Links:
    """Signed links to the CDN, and what the CDN answers to them."""

    def __init__(self, library: Library, cdn_url: Callable[[], str], key: bytes) -> None:
        self._library = library
        self._cdn_url = cdn_url
        self._key = key
        self._lock = threading.Lock()
        # Of every content that a link was made for: the CDN knows hashes, not repositories.
        self._files: dict[str, RepositoryFile] = {}
        self._generation = 0

    def sign(self, path: str, seconds: float) -> str:
        """An absolute URL of the CDN that works for some time."""
        expires = f"{time.time() + seconds:.3f}"
        query = {"Expires": expires, "Generation": str(self._generation)}
        return f"{self._cdn_url()}{path}?{urlencode({**query, 'Signature': self._signature(path, query)})}"

    def expire(self) -> None:
        """Let every link that was signed so far be expired."""
        self._generation += 1

    def answer(self, request: Request) -> Response:
        """Answer one request to the CDN."""
        query = dict(request.query)
        signature = query.pop("Signature", "")
        path = request.target.partition("?")[0]
        if not hmac.compare_digest(signature, self._signature(path, query)):
            return _denied("SignatureDoesNotMatch", "The request signature does not match.")
        if float(query["Expires"]) < time.time() or query["Generation"] != str(self._generation):
            return _denied("AccessDenied", "Request has expired")
        # /repos/{id}/{sha256}/{path}, where the id has one part or two
        size = 1 if len(request.parts[2]) == 64 else 2
        file = self._find(request.parts[1 + size])
        if file is None:
            return Response(404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>")
        return ranged(request, file, {"Content-Type": "application/octet-stream", "ETag": file.etag})

    def _find(self, sha256: str) -> RepositoryFile | None:
        with self._lock:
            known = self._files.get(sha256)
        if known is None:
            with self._library.lock:
                commits = [
                    commit
                    for repository in self._library.repositories.values()
                    for commit in repository.commits.values()
                ]
            found = (file for commit in commits for file in commit.files if file.lfs and file.content.sha256 == sha256)
            known = next(found, None)
            if known is not None:
                with self._lock:
                    self._files[sha256] = known
        return known

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        return hmac.new(self._key, f"{path} {urlencode(sorted(query.items()))}".encode(), hashlib.sha256).hexdigest()


class _Quota:
    """Requests counted in windows of fixed length."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = 0.0
        self._used = 0

    def count(self, kind: str, limit: int) -> tuple[bool, dict[str, str]]:
        """Count a request: whether it exceeds the limit, and the headers that say how much is left."""
        now = time.monotonic()
        with self._lock:
            if now - self._began > _WINDOW_SECONDS:
                self._began, self._used = now, 0
            self._used += 1
            exceeded, left = self._used > limit, max(0, limit - self._used)
            reset = int(self._began + _WINDOW_SECONDS - now) + 1
        return exceeded, {
            "RateLimit": f'"{kind}";r={left};t={reset}',
            "RateLimit-Policy": f'"fixed window";"{kind}";q={limit};w={_WINDOW_SECONDS}',
        }


def ranged(request: Request, file: RepositoryFile, headers: Mapping[str, str]) -> Response:
    """The file, the part that is asked for, or why not: RFC 9110, sections 13 and 14. Several ranges are ignored."""
    size, location = file.content.size_bytes, file.content.location
    headers = {**headers, "Accept-Ranges": "bytes"}
    if (wanted := request.headers.get("if-match")) and not _lists(wanted, file.etag):
        return Response(412, headers)
    if (known := request.headers.get("if-none-match")) and _lists(known, file.etag):
        return Response(304, headers)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", file.etag) != file.etag:
        asked = ""
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    if not asked.startswith("bytes=") or not dash or not (first + last).isdigit():
        return Response(200, headers, FileRange(location, 0, size))
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        return Response(416, {**headers, "Content-Range": f"bytes */{size}"})
    return Response(
        206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, FileRange(location, start, end - start)
    )


def refused(status: int, code: str, message: str, headers: Mapping[str, str]) -> Response:
    """An error as the hub words it."""
    return _refuse(_RefusedError(Refusal(status, code, message), headers))


def _refuse(error: _RefusedError) -> Response:
    refusal = error.refusal
    headers = {"Content-Type": "application/json; charset=utf-8", "X-Error-Message": refusal.message, **error.headers}
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="Authentication required"'
    return Response(refusal.status, headers, json.dumps({"error": refusal.message}).encode())


def _denied(code: str, message: str) -> Response:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(403, {"Content-Type": "application/xml"}, body.encode())


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def _flag(request: Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


def _lists(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (value.strip().removeprefix("W/") for value in header.split(","))


def _is_commit(text: str) -> bool:
    return len(text) == 40 and all(digit in "0123456789abcdef" for digit in text)


def _revision(repository: Repository, revision: str) -> Commit:
    commit = repository.resolve(revision)
    if commit is None:
        raise _RefusedError(Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
    return commit


def _no_entry(path: str, commit: Commit) -> Refusal:
    return Refusal(404, "EntryNotFound", f"{path} does not exist on {commit.oid!r}")


def _references(repository: Repository) -> dict[str, Any]:
    def rows(names: Mapping[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"{prefix}{name}", "targetCommit": oid} for name, oid in names.items()]

    return {
        "branches": rows(repository.branches, "refs/heads/"),
        "tags": rows(repository.tags, "refs/tags/"),
        "converts": [],
        "pullRequests": [],
    }


def _blob(file: RepositoryFile, blob_key: str, sha256_key: str) -> dict[str, Any]:
    row: dict[str, Any] = {"size": file.content.size_bytes, blob_key: file.blob_id}
    if file.lfs:
        row["lfs"] = {sha256_key: file.content.sha256, "size": file.content.size_bytes, "pointerSize": 134}
    return row


def _tree_entry(path: str, entry: RepositoryFile | str, commit: Commit | None) -> dict[str, Any]:
    row: dict[str, Any]
    if isinstance(entry, str):
        row = {"type": "directory", "oid": entry, "size": 0, "path": path}
    else:
        row = {"type": "file", **_blob(entry, "oid", "oid"), "path": path}
    if commit:
        row["lastCommit"] = {"id": commit.oid, "title": "Upload files", "date": _DATE}
        if isinstance(entry, RepositoryFile):
            row["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return row


def _file_headers(commit: Commit, file: RepositoryFile) -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream" if file.lfs else "text/plain; charset=utf-8",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(file.path.rpartition('/')[2])}",
        "ETag": file.etag,
        "X-Repo-Commit": commit.oid,
        "Accept-Ranges": "bytes",
    }
    if file.lfs:
        headers |= {"X-Linked-Size": str(file.content.size_bytes), "X-Linked-Etag": file.etag}
    return headers


def _json(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(200, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)
