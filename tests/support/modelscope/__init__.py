"""A local ModelScope: the listing and the download of its public HTTP API, on real ports, with refusals on demand.

Paths, fields and oddities are those of https://www.modelscope.cn as its client reads them
(https://github.com/modelscope/modelscope_hub): an unknown revision is listed as no files with status 200; a listing
names its commit by eight characters, and each file by the commit that changed it last; large files are redirected to
links on another host; a range that the hub sends itself comes with Content-Range and status 200. A private repository
wants the token both as a header and as a cookie.
"""

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_handler import KeptAliveHandler

_FILES = re.compile(r"/api/v1/models/(?P<name>[^/]+/[^/]+)/repo/files")
_FILE = re.compile(r"/api/v1/models/(?P<name>[^/]+/[^/]+)/repo")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_LARGE_BYTES = 100_000


@dataclass
class Request:
    """A request that was received; header names are in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int = 0


@dataclass
class _Repository:
    private: bool
    # Contents by commit and path; and the commit that changed each file last.
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    changed: dict[str, dict[str, str]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Refusal:
    ending: str
    status: int
    headers: Mapping[str, str]
    refused: list[str]


class _RefusedError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


Answer = tuple[int, Mapping[str, str], bytes]


class ModelScope:
    """Two ports of the loopback interface, the hub's and its storage's; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        # As tests want it: whether large files are redirected, and how a listing names its commit.
        self.redirects = True
        self.commit_fields: Collection[str] = ("ShortId",)
        self._lock = threading.Lock()
        self._repositories: dict[str, _Repository] = {}
        self._tokens: dict[str, set[str]] = {}
        self._links: dict[str, bytes] = {}
        self._refusal: _Refusal | None = None
        self._servers = [
            ThreadingHTTPServer(("127.0.0.1", 0), self._handler(answer)) for answer in (self._hub, self._storage)
        ]
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in self._servers
        ]
        self.endpoint, self.storage_endpoint = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )

    def __enter__(self) -> "ModelScope":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def push(self, name: str, contents: Mapping[str, bytes], *, branch: str = "master", private: bool = False) -> str:
        """Make a commit that holds exactly these files; return its name."""
        with self._lock:
            repository = self._repositories.setdefault(name, _Repository(private))
            repository.private = private
            before = repository.branches.get(branch, "")
            rows = sorted((path, hashlib.sha256(content).hexdigest()) for path, content in contents.items())
            commit = hashlib.sha1(json.dumps([before, rows]).encode()).hexdigest()
            old = repository.commits.get(before, {})
            repository.changed[commit] = {
                path: repository.changed[before][path] if old.get(path) == content else commit
                for path, content in contents.items()
            }
            repository.commits[commit] = dict(contents)
            repository.branches[branch] = commit
            return commit

    def add_token(self, token: str, names: Collection[str] = ()) -> None:
        """Know a token, whose owner may read these private repositories."""
        self._tokens[token] = set(names)

    @contextmanager
    def refusing(self, ending: str, status: int, **headers: str) -> Iterator[list[str]]:
        """Answer a status to requests for paths that end so; yields the paths. `Retry_After` is a header's name."""
        refused: list[str] = []
        self._refusal = _Refusal(
            ending, status, {name.replace("_", "-"): value for name, value in headers.items()}, refused
        )
        try:
            yield refused
        finally:
            self._refusal = None

    def _hub(self, request: Request) -> Answer:
        refusal = self._refusal
        if refusal and request.path.endswith(refusal.ending):
            refusal.refused.append(request.path)
            return refusal.status, refusal.headers, _envelope(refusal.status, None)
        listing, file = _FILES.fullmatch(request.path), _FILE.fullmatch(request.path)
        match = listing or file
        if match is None:
            raise _RefusedError(404)
        with self._lock:
            repository = self._readable(match["name"], request)
            commit = self._commit(repository, request.query.get("Revision", "master"))
            if listing:
                return 200, {"Content-Type": "application/json"}, _envelope(200, self._tree(repository, commit))
            path = request.query.get("FilePath", "")
            if commit not in repository.commits or path not in repository.commits[commit]:
                raise _RefusedError(404)
            content = repository.commits[commit][path]
            if self.redirects and len(content) >= _LARGE_BYTES:
                link = f"/{secrets.token_hex(16)}"
                self._links[link] = content
                return 302, {"Location": f"{self.storage_endpoint}{link}?signature={secrets.token_hex(8)}"}, b""
        return _content(content, request, partial_status=200)

    def _storage(self, request: Request) -> Answer:
        if "authorization" in request.headers or "cookie" in request.headers:
            # A token that has come here has been given away.
            raise _RefusedError(400)
        if request.path not in self._links:
            raise _RefusedError(403)
        return _content(self._links[request.path], request, partial_status=206)

    def _readable(self, name: str, request: Request) -> _Repository:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self._tokens:
            raise _RefusedError(401)
        if token and request.headers.get("cookie") != f"m_session_id={token}":
            raise _RefusedError(401)
        if name not in self._repositories:
            raise _RefusedError(404)
        if self._repositories[name].private and name not in self._tokens.get(token, ()):
            raise _RefusedError(403)
        return self._repositories[name]

    def _commit(self, repository: _Repository, revision: str) -> str:
        return repository.branches.get(revision, revision)

    def _tree(self, repository: _Repository, commit: str) -> dict[str, Any]:
        contents = repository.commits.get(commit)
        if contents is None:
            return {"Files": None, "IsVisual": 0, "LatestCommitter": None}
        folders = {path[:end] for path in contents for end, letter in enumerate(path) if letter == "/"}
        files: list[dict[str, Any]] = [
            {"Path": path, "Name": path.rpartition("/")[2], "Type": "tree", "Size": 0, "Sha256": "", "IsLFS": False}
            for path in sorted(folders)
        ]
        for path, content in sorted(contents.items()):
            files.append(
                {
                    "Path": path,
                    "Name": path.rpartition("/")[2],
                    "Type": "blob",
                    "Size": len(content),
                    "Sha256": hashlib.sha256(content).hexdigest(),
                    "IsLFS": len(content) >= _LARGE_BYTES,
                    "Revision": repository.changed[commit][path],
                    "Mode": "33188",
                }
            )
        named = {"Id": commit, "ShortId": commit[:8]}
        latest = {"Id": "", "ShortId": "", **{name: named[name] for name in self.commit_fields}}
        return {"Files": files, "IsVisual": 0, "LatestCommitter": latest}

    def _handler(self, answer: Any) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Requests(KeptAliveHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                request = Request(
                    parts.path,
                    {name: values[-1] for name, values in parse_qs(parts.query).items()},
                    {name.lower(): value for name, value in self.headers.items()},
                )
                hub.requests.append(request)
                try:
                    status, headers, body = answer(request)
                except _RefusedError as refused:
                    status, headers, body = refused.status, {}, _envelope(refused.status, None)
                request.status = status
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Requests


def _envelope(status: int, data: Any) -> bytes:
    message = "success" if status == 200 else "as told"
    return json.dumps(
        {"Code": status, "Success": status == 200, "Message": message, "RequestId": "r", "Data": data}
    ).encode()


def _content(content: bytes, request: Request, partial_status: int) -> Answer:
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if not wanted:
        return 200, {}, content
    start, size = int(wanted[1]), len(content)
    end = min(int(wanted[2]) + 1 if wanted[2] else size, size)
    if start >= size:
        raise _RefusedError(416)
    return partial_status, {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, content[start:end]
