"""A vendor's index over HTTP: listed, refused, and fetched by the engine from a real server."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile
from libs.artifact.uri import VendorUri
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.vendor.drivers import HttpDriver
from services.fetcher.sources.vendor.http_driver import list_index, open_origin
from services.fetcher.sources.vendor.source import HttpSource, http_source
from services.fetcher.stop import StopFlag, Stopped
from tests.contract.sources.suite import PAUSE_SECONDS, Access, Ground, SourceSuite, Trouble, closed_endpoint
from tests.support.origin import Fault, OriginServer
from tests.support.transfers import QUICK, acquire, contents_of, leftovers, new_store, small_model

URI = VendorUri("acme", "models", "team/llama 70b?")
INDEX = "/acme/models/team/llama 70b?/index.json"
MODEL = small_model()
SECRET = {"token": b"s3cret-token\n"}


@pytest.fixture
def server() -> Iterator[OriginServer]:
    with OriginServer() as server:
        yield server


class IndexGround:
    """A vendor with an index and a template, who wants a token."""

    tells_pauses = True
    takes_any_parameter = False
    secrets = ("s3cret-token", "wr0ng-token")

    def __init__(self, server: OriginServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._published: dict[str, set[str]] = {}

    @property
    def access(self) -> Access:
        return self._at(self._server.url)

    @property
    def wrong_access(self) -> Access:
        return replace(self.access, credentials={"token": b"wr0ng-token"})

    @property
    def away(self) -> Access:
        return self._at(closed_endpoint())

    def _at(self, url: str) -> Access:
        driver = {
            "driver": "http",
            "index": f"{url}/{{type}}/{{path}}/index.json",
            "file": f"{url}/files/{{path}}/{{file}}",
            "headers": {"Authorization": "Bearer {secret:token}"},
        }
        drivers = self._folder / f"drivers-{url.rpartition(':')[2]}.json"
        drivers.write_text(json.dumps({"acme": driver}))
        return Access(credentials={"token": b"s3cret-token"}, settings={"vendor_drivers_file": drivers})

    def uri(self, name: str) -> str:
        return f"vendor://acme/models/{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        files = [entry(path, content) for path, content in contents.items()]
        served = {f"/files/{name}/{path}": content for path, content in contents.items()}
        served[f"/models/{name}/index.json"] = json.dumps({"files": files}).encode()
        for path in self._published.get(name, set()) - served.keys():
            self._server.remove(path)
        for path, content in served.items():
            self._server.add(path, content)
            self._server.require(path, "Authorization", "Bearer s3cret-token")
        self._published[name] = set(served)

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        headers = {"Retry-After": str(PAUSE_SECONDS)} if status == 429 else {}
        fault = self._server.inject(Fault("status", times=99, status=status, headers=headers))
        yield Trouble(self.access, lambda: fault.fired)
        self._server.heal()


@pytest.fixture
def ground(server: OriginServer, tmp_path: Path) -> Ground:
    return IndexGround(server, tmp_path)


class TestVendorIndex(SourceSuite):
    """vendor:// with an index is a source like every other."""


def driver_of(server: OriginServer, **fields: Any) -> HttpDriver:
    return HttpDriver(**{"index": f"{server.url}/{{vendor}}/{{type}}/{{path}}/index.json", **fields})


def source_of(
    server: OriginServer,
    parameters: Mapping[str, str] | None = None,
    secret: Mapping[str, bytes] | None = None,
    **fields: Any,
) -> HttpSource:
    return http_source(URI, parameters or {}, secret or {}, driver_of(server, **fields))


def entry(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **more}


def publish(server: OriginServer, document: Any, path: str = INDEX) -> None:
    server.add(path, document if isinstance(document, bytes) else json.dumps(document).encode())


def refusal(source: HttpSource) -> ServiceError | InvalidValue:
    with pytest.raises((ServiceError, InvalidValue)) as raised:
        list_index(source, StopFlag())
    assert isinstance(raised.value, ServiceError | InvalidValue)
    assert "s3cret" not in raised.value.message
    return raised.value


def fetch(source: HttpSource, manifest: Manifest, root: Path) -> dict[str, bytes]:
    with new_store(root) as store:
        stop = StopFlag()
        acquire(store, manifest, open_origin(source, manifest.source_revision, stop), stop, limits=QUICK)
        assert leftovers(store) == []
        return contents_of(store.artifact_path(manifest.digest))


def test_a_model_behind_an_index_and_a_template_is_listed_and_fetched(server: OriginServer, tmp_path: Path) -> None:
    publish(server, {"revision": "v 1", "files": [entry(path, content) for path, content in MODEL.items()]})
    for path, content in MODEL.items():
        server.add(f"/files/v 1/team/llama 70b?/{path}", content)
    for path in (INDEX, *(f"/files/v 1/team/llama 70b?/{path}" for path in MODEL)):
        server.require(path, "Authorization", "Bearer s3cret-token")
    source = source_of(
        server,
        secret=SECRET,
        file=f"{server.url}/files/{{revision}}/{{path}}/{{file}}",
        headers={"Authorization": "Bearer {secret:token}", "X-Plain": "yes"},
    )
    manifest = list_index(source, StopFlag())
    assert manifest.source_revision == "v 1"
    assert fetch(source, manifest, tmp_path) == MODEL
    assert {request.headers.get("x-plain") for request in server.requests} == {"yes"}
    assert len(server.requested(quote(INDEX))) == 1, "nodes do not ask for an index that has a template beside it"


def test_a_model_whose_index_gives_addresses_is_fetched_from_them(server: OriginServer, tmp_path: Path) -> None:
    with OriginServer() as other:
        files = []
        for number, (path, content) in enumerate(MODEL.items()):
            where = (server, other)[number % 2]
            where.add(f"/blob/{number}", content)
            address = f"/blob/{number}" if where is server else f"{other.url}/blob/{number}?signature=x"
            files.append(entry(path, content, url=address))
        publish(server, {"files": files})
        source = source_of(server, secret=SECRET, headers={"Authorization": "Bearer {secret:token}"})
        assert fetch(source, list_index(source, StopFlag()), tmp_path) == MODEL
        assert {request.headers.get("authorization") for request in server.requests} == {"Bearer s3cret-token"}
        assert other.requests
        assert not any("authorization" in request.headers for request in other.requests)


def test_an_address_that_has_expired_is_asked_for_again(
    server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.fetcher.sources.vendor.http_driver._RENEWED_SECONDS", 0.0)
    publish(server, {"files": [entry(path, content, url=f"/old/{path}") for path, content in MODEL.items()]})
    source = source_of(server)
    manifest = list_index(source, StopFlag())
    for path, content in MODEL.items():
        server.add(f"/new/{path}", content)
    with new_store(tmp_path) as store:
        origin = open_origin(source, "", StopFlag())
        publish(server, {"files": [entry(path, content, url=f"/new/{path}") for path, content in MODEL.items()]})
        acquire(store, manifest, origin, StopFlag(), limits=QUICK)
        assert contents_of(store.artifact_path(manifest.digest)) == MODEL
    assert any(request.target.startswith("/old/") for request in server.requests)


@pytest.mark.parametrize(
    ("files", "error", "reason"),
    [
        ([entry("config.json", b"another")], Corrupt, "SourceChanged"),
        ([entry("other.json", b"{}", url="/x")], Missing, "NotFound"),
    ],
    ids=["with another content", "without the file"],
)
def test_an_index_that_has_changed_since_it_was_listed_is_noticed(
    server: OriginServer, files: list[dict[str, Any]], error: type[ServiceError], reason: str
) -> None:
    publish(server, {"files": files})
    origin = open_origin(source_of(server), "", StopFlag())
    checksum = hashlib.sha256(b"{}").hexdigest()
    with pytest.raises(error) as raised:
        origin.locate(ManifestFile("config.json", 2, ChecksumAlgorithm.SHA256, checksum), again=False)
    assert raised.value.reason == reason


def test_the_pages_of_an_index_are_read_to_the_last(server: OriginServer) -> None:
    parts = [{"files": [entry(f"part-{number}.txt", b"")], "next": f"?page={number + 1}"} for number in range(3)]
    del parts[2]["next"]
    publish(server, parts[0])
    # The server serves by path alone, so each page has one of its own.
    for number, part in enumerate(parts[1:], 1):
        parts[number - 1]["next"] = f"page-{number}.json"
        publish(server, part, INDEX.replace("index", f"page-{number}"))
    publish(server, parts[0])
    publish(server, parts[1], INDEX.replace("index", "page-1"))
    manifest = list_index(source_of(server, file=f"{server.url}/{{file}}"), StopFlag())
    assert [file.path for file in manifest.files] == ["part-0.txt", "part-1.txt", "part-2.txt"]


@pytest.mark.parametrize(
    ("following", "sentence"),
    [("index.json", "circle"), ("http://127.0.0.1:1/more", "another host"), ("http://[", "no URL")],
    ids=["in a circle", "on another host", "nowhere"],
)
def test_pages_that_continue_wrongly_are_refused(server: OriginServer, following: str, sentence: str) -> None:
    publish(server, {"files": [], "next": following})
    error = refusal(source_of(server))
    assert isinstance(error, InvalidValue)
    assert error.reason == "InvalidListing"
    assert sentence in error.message


def test_pages_of_two_revisions_are_not_mixed(server: OriginServer) -> None:
    publish(server, {"revision": "a", "files": [], "next": "more.json"})
    publish(server, {"revision": "b", "files": []}, INDEX.replace("index", "more"))
    error = refusal(source_of(server))
    assert isinstance(error, Corrupt)
    assert error.reason == "SourceChanged"


def test_files_without_a_checksum_are_told_apart_by_where_they_come_from(server: OriginServer) -> None:
    digests = set()
    for revision in ("v1", "v2"):
        publish(server, {"revision": revision, "files": [{"path": "config.json", "size": 2, "md5": None}]})
        digests.add(list_index(source_of(server, file=f"{server.url}/{{file}}"), StopFlag()).digest)
    assert len(digests) == 2


def test_md5_is_checked_where_there_is_no_sha256(server: OriginServer, tmp_path: Path) -> None:
    checksum = hashlib.md5(b"{}").hexdigest()
    publish(server, {"files": [{"path": "config.json", "size": 2, "md5": checksum.upper(), "url": "/config.json"}]})
    source = source_of(server)
    manifest = list_index(source, StopFlag())
    assert manifest.files[0] == ManifestFile("config.json", 2, ChecksumAlgorithm.MD5, checksum)
    server.add("/config.json", b"[]")
    with pytest.raises(Corrupt) as raised:
        fetch(source, manifest, tmp_path)
    assert raised.value.reason == "ChecksumMismatch"


def test_only_patterns_choose_among_the_files(server: OriginServer) -> None:
    names = ["model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "engine.plan"]
    publish(server, {"files": [entry(name, b"") for name in names]})

    def listed(**parameters: str) -> list[str]:
        source = source_of(server, parameters, file=f"{server.url}/{{file}}")
        return [file.path for file in list_index(source, StopFlag()).files]

    assert listed() == sorted(names)
    assert listed(ignorePatterns="onnx/", allowPatterns="*.plan,*.onnx") == ["engine.plan"]


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, Invalid, "InvalidUri"),
        (401, Missing, "Forbidden"),
        (403, Missing, "Forbidden"),
        (404, Missing, "NotFound"),
        (410, Missing, "NotFound"),
        (429, Unavailable, "RateLimited"),
        (302, Unavailable, "Unavailable"),
        (500, Unavailable, "Unavailable"),
        (503, Unavailable, "Unavailable"),
    ],
)
def test_an_index_that_is_refused_says_why_and_what_to_do(
    server: OriginServer, status: int, error: type[ServiceError], reason: str
) -> None:
    fault = server.inject(
        Fault("status", status=status, headers={"Retry-After": "7", "Location": "http://127.0.0.1:1/"})
    )
    found = refusal(source_of(server, secret=SECRET, headers={"Authorization": "Bearer {secret:token}"}))
    assert fault.fired == 1
    assert isinstance(found, error)
    assert found.reason == reason
    assert "vendor://acme/models/" in found.message
    if isinstance(found, Unavailable) and status >= 400:
        assert found.retry_after_seconds == 7


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_index_that_a_proxy_compresses_is_read(server: OriginServer, coding: str) -> None:
    publish(server, {"files": [entry("config.json", b"{}", url="config.json")], "note": "words " * 1000})
    fault = server.inject(Fault("coded", INDEX, headers={"Content-Encoding": coding}))
    assert [file.path for file in list_index(source_of(server), StopFlag()).files] == ["config.json"]
    assert fault.fired == 1


def test_an_index_in_a_coding_that_cannot_be_undone_is_refused_by_its_name(server: OriginServer) -> None:
    publish(server, {"files": []})
    server.inject(Fault("coded", INDEX, headers={"Content-Encoding": "br"}))
    error = refusal(source_of(server))
    assert isinstance(error, Unavailable)
    assert "Content-Encoding is br" in error.message


def test_what_the_host_says_of_a_refusal_is_told_without_the_secret(server: OriginServer) -> None:
    body = b'{"error": {"message": "s3cret-token is for others", "status": "PERMISSION_DENIED"}}'
    server.inject(Fault("status", INDEX, status=403, body=body))
    error = refusal(source_of(server, secret=SECRET, headers={"Authorization": "Bearer {secret:token}"}))
    assert error.reason == "Forbidden"
    assert "(HTTP 403, PERMISSION_DENIED: ... is for others)" in error.message


def test_a_refusal_without_a_secret_says_which_keys_are_wanted(server: OriginServer) -> None:
    server.require(INDEX, "Authorization", "Bearer s3cret-token")
    error = refusal(source_of(server, headers={"Authorization": "Bearer {secret:token}"}))
    assert "name a Secret with 'token' in storage.storageKey" in error.message
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("kind", ["close", "garbage", "cut"])
def test_an_index_that_does_not_arrive_is_tried_again_later(server: OriginServer, kind: str) -> None:
    publish(server, {"files": []})
    fault = server.inject(Fault(kind, after_bytes=3))
    assert isinstance(refusal(source_of(server)), Unavailable)
    assert fault.fired == 1


def test_a_host_that_cannot_be_reached_is_named(server: OriginServer) -> None:
    server.close()
    error = refusal(source_of(server))
    assert isinstance(error, Unavailable)
    assert str(server.port) in error.message


@pytest.mark.parametrize(
    ("document", "reason", "sentence"),
    [
        (b"<html>log in first</html>", "Unavailable", "no JSON object"),
        (b"[" * 100_000, "Unavailable", "no JSON object"),
        (b'["a"]', "Unavailable", "no JSON object"),
        ({}, "InvalidListing", "'files' must be a list"),
        ({"files": ["config.json"]}, "InvalidListing", "'files' must be a list of objects"),
        ({"files": []}, "NotFound", "lists no files"),
        ({"files": [{"size": 1}]}, "InvalidListing", "'path' of a file is None"),
        ({"files": [{"path": "a"}]}, "InvalidListing", "'size' of 'a' is None"),
        ({"files": [{"path": "a", "size": True}]}, "InvalidListing", "'size' of 'a' is True"),
        ({"files": [{"path": "a", "size": 1.5}]}, "InvalidListing", "'size' of 'a' is 1.5"),
        ({"files": [{"path": "a", "size": -1}]}, "InvalidListing", "-1 bytes"),
        ({"files": [{"path": "a", "size": 10**30}]}, "InvalidListing", "add up"),
        ({"files": [{"path": "a", "size": 1, "sha256": "abc"}]}, "InvalidListing", "'sha256' of 'a'"),
        ({"files": [{"path": "a", "size": 1, "url": 5}]}, "InvalidListing", "'url' of 'a'"),
        ({"files": [{"path": "a", "size": 1, "url": "http://["}]}, "InvalidListing", "no URL"),
        ({"files": [{"path": "a", "size": 1, "url": "file:///etc/passwd"}]}, "InvalidListing", "no URL"),
        ({"files": [{"path": "a", "size": 1}]}, "InvalidListing", "no 'url' for 'a'"),
        ({"files": [{"path": "../a", "size": 1}]}, "InvalidListing", "not created"),
        ({"files": [{"path": "a", "size": 1}] * 2}, "InvalidListing", "cannot tell apart"),
        ({"files": [], "revision": 5}, "InvalidListing", "'revision' must be a string"),
        ({"files": [], "next": 5}, "InvalidListing", "'next' must be a string"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_with_the_place(
    server: OriginServer, document: Any, reason: str, sentence: str
) -> None:
    publish(server, document)
    error = refusal(source_of(server))
    assert error.reason == reason
    assert sentence in error.message


def test_an_index_that_is_too_large_is_not_read_to_its_end(
    server: OriginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.fetcher.sources.vendor.http_driver._INDEX_BYTES", 1 << 20)
    publish(server, b" " * (64 << 20))
    assert "larger than 1 MiB" in refusal(source_of(server)).message
    assert server.bytes_sent < 64 << 20


def test_an_index_that_trickles_is_given_up(server: OriginServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.fetcher.sources.vendor.http_driver._INDEX_SECONDS", 2.0)
    publish(server, b" " * 10_000)
    fault = server.inject(Fault("trickle"))
    error = refusal(source_of(server))
    assert isinstance(error, Unavailable)
    assert "took longer" in error.message
    assert fault.fired == 1


def test_a_listing_ends_with_the_process(server: OriginServer) -> None:
    publish(server, b" " * 10_000)
    stop = StopFlag()
    stop.set()
    with pytest.raises(Stopped):
        list_index(source_of(server), stop)
