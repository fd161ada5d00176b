"""Buckets as sources: s3:// against a real server; gs:// and az:// as far as that goes without one."""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.uri import BucketUri, parse_uri
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from services.fetcher.bucket_source import BucketSource, bucket_source
from services.fetcher.buckets import BucketOrigin, list_prefix
from services.fetcher.transfer.acquire import acquire
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.stop import StopFlag
from tests.support.seaweedfs import OWNER, STRANGER, SeaweedFs
from tests.support.transfers import QUICK, new_store, small_model

CONTENTS = small_model() | {"a folder/näme+1%.txt": b"odd"}
ODD = ManifestFile("a folder/näme+1%.txt", 3, ChecksumAlgorithm.NONE, "", '"tag"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    with SeaweedFs(tmp_path_factory.mktemp("seaweedfs")) as server:
        server.put("models", "acme/tiny", CONTENTS)
        yield server


def source(
    endpoint: str, uri: str = "s3://models/acme/tiny/", secret: dict[str, bytes] | None = None, **parameters: str
) -> BucketSource:
    parsed = parse_uri(uri)
    assert isinstance(parsed, BucketUri)
    return bucket_source(parsed, {"endpoint": endpoint, **parameters}, OWNER if secret is None else secret)


def refusal(of: BucketSource) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        list_prefix(of)
    return raised.value


def fetch(of: BucketSource, root: Path) -> dict[str, bytes]:
    """The whole line: listing, signed addresses, engine, store."""
    manifest = list_prefix(of).manifest
    with new_store(root) as store:
        acquire(store, manifest, BucketOrigin(of), StopFlag(), limits=QUICK)
        assert store.manifest(manifest.digest) == manifest
        folder = store.artifact_path(manifest.digest)
        return {file.path: (folder / file.path).read_bytes() for file in manifest.files}


def test_a_prefix_is_listed_with_names_below_it_sizes_and_versions(server: SeaweedFs) -> None:
    files = {file.path: file for file in list_prefix(source(server.endpoint)).manifest.files}
    assert {path: file.size_bytes for path, file in files.items()} == {
        path: len(content) for path, content in CONTENTS.items()
    }
    tag = hashlib.md5(CONTENTS["config.json"], usedforsecurity=False).hexdigest()
    assert files["config.json"].version == f'"{tag}"'
    # An ETag is no checksum that a listing can be trusted for.
    assert {file.algorithm for file in files.values()} == {ChecksumAlgorithm.NONE}


def test_a_bucket_is_fetched_through_the_engine_into_the_store(server: SeaweedFs, tmp_path: Path) -> None:
    assert fetch(source(server.endpoint), tmp_path) == CONTENTS


def test_objects_that_were_put_in_parts_are_fetched(server: SeaweedFs, tmp_path: Path) -> None:
    contents = {"model.safetensors": bytes(range(256)) * 50_000}
    server.put("models", "acme/parts", contents)
    of = source(server.endpoint, "s3://models/acme/parts")
    assert "-" in list_prefix(of).manifest.files[0].version
    assert fetch(of, tmp_path) == contents


def test_a_listing_of_many_pages_is_complete(server: SeaweedFs) -> None:
    server.put("models", "acme/many", {f"part-{number:04d}.txt": b"x" for number in range(2500)})
    assert len(list_prefix(source(server.endpoint, "s3://models/acme/many")).manifest.files) == 2500


def test_a_public_bucket_is_read_without_a_signature_and_folder_markers_are_left_out(
    server: SeaweedFs, tmp_path: Path
) -> None:
    for folder in ("open", "open/nested"):
        server.put_marker(folder)
    server.put("public", "open", {"config.json": b"{}", "nested/notes.txt": b"n"})
    of = source(server.endpoint, "s3://public/open", {}, skip_signature="true")
    assert fetch(of, tmp_path) == {"config.json": b"{}", "nested/notes.txt": b"n"}
    assert "?" not in BucketOrigin(of).locate(ODD, again=False).url


def test_another_prefix_that_begins_alike_is_not_listed(server: SeaweedFs) -> None:
    server.put("models", "acme/tiny-2", {"other.txt": b"o"})
    assert "other.txt" not in {file.path for file in list_prefix(source(server.endpoint)).manifest.files}


def test_patterns_choose_the_files(server: SeaweedFs) -> None:
    manifest = list_prefix(source(server.endpoint, allowPatterns="*.json", ignorePatterns="tokenizer/")).manifest
    assert [file.path for file in manifest.files] == ["config.json"]
    error = refusal(source(server.endpoint, allowPatterns="*.gguf"))
    assert isinstance(error, Invalid)
    assert "allowPatterns" in error.message


def test_what_is_missing_is_named(server: SeaweedFs) -> None:
    for uri, word in (("s3://nothing/acme", "no such bucket"), ("s3://models/nothing", "check the prefix")):
        error = refusal(source(server.endpoint, uri))
        assert isinstance(error, Missing)
        assert error.reason == "NotFound"
        assert word in error.message


@pytest.mark.parametrize(
    ("secret", "parameters", "word"),
    [
        (OWNER | {"AWS_SECRET_ACCESS_KEY": b"wrong"}, {}, "SignatureDoesNotMatch"),
        (OWNER | {"AWS_ACCESS_KEY_ID": b"AKNOBODY"}, {}, "InvalidAccessKeyId"),
        (STRANGER, {}, "storage.storageKey"),
        ({}, {"skip_signature": "true"}, "not public"),
    ],
)
def test_a_refusal_says_what_to_check(
    server: SeaweedFs, secret: dict[str, bytes], parameters: dict[str, str], word: str
) -> None:
    error = refusal(source(server.endpoint, secret=secret, **parameters))
    assert isinstance(error, Missing)
    assert error.reason == "Forbidden"
    assert word in error.message
    assert not any(
        value.decode().strip() in error.message for name, value in secret.items() if "secret" in name.lower()
    )


def test_an_object_that_changes_between_listing_and_transfer_is_seen(server: SeaweedFs, tmp_path: Path) -> None:
    server.put("models", "acme/changing", CONTENTS)
    of = source(server.endpoint, "s3://models/acme/changing")
    manifest = list_prefix(of).manifest
    weights = CONTENTS["model.safetensors"]
    server.put("models", "acme/changing", {"model.safetensors": weights[::-1]})
    with new_store(tmp_path) as store:
        with pytest.raises(Corrupt) as raised:
            acquire(store, manifest, BucketOrigin(of), StopFlag(), limits=QUICK)
        assert raised.value.reason == "SourceChanged"
        assert not store.holds(manifest.digest)
    assert list_prefix(of).manifest.digest != manifest.digest
    assert fetch(of, tmp_path)["model.safetensors"] == weights[::-1]


def test_an_object_that_vanishes_between_listing_and_transfer_is_missing(server: SeaweedFs, tmp_path: Path) -> None:
    of = source(server.endpoint)
    listed = list_prefix(of).manifest
    gone = source(server.endpoint, "s3://models/acme/gone")
    with new_store(tmp_path) as store, pytest.raises(Missing) as raised:
        acquire(store, listed, BucketOrigin(gone), StopFlag(), limits=QUICK)
    assert raised.value.reason == "NotFound"


def test_nothing_secret_is_shown(server: SeaweedFs, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    of = source(server.endpoint)
    origin = BucketOrigin(of)
    location = origin.locate(ODD, again=False)
    assert "X-Amz-Signature" in location.url
    fetch(of, tmp_path)
    refusal(source(server.endpoint, secret=OWNER | {"AWS_SECRET_ACCESS_KEY": b"wrong-secret"}))
    shown = " ".join([repr(of), repr(origin), repr(location), str(vars(origin)["_store"]), *capfd.readouterr()])
    assert "owner-secret" not in shown
    assert "wrong-secret" not in shown
    assert "X-Amz" not in shown


def test_an_address_is_signed_once_and_anew_when_it_was_refused(server: SeaweedFs) -> None:
    origin = BucketOrigin(source(server.endpoint, secret=OWNER | {"AWS_SESSION_TOKEN": b"temporary"}))
    first = origin.locate(ODD, again=False)
    assert first.headers == {"If-Match": '"tag"'}
    assert origin.locate(ODD, again=False).url == first.url
    fields = parse_qs(urlsplit(first.url).query)
    assert fields["X-Amz-Expires"] == ["3600"]
    assert fields["X-Amz-Security-Token"] == ["temporary"]
    signed_at = fields["X-Amz-Date"]
    while parse_qs(urlsplit((again := origin.locate(ODD, again=True)).url).query)["X-Amz-Date"] == signed_at:
        continue
    assert origin.locate(ODD, again=False).url == again.url
    weak = ManifestFile("a.txt", 1, ChecksumAlgorithm.NONE, "", 'W/"tag"')
    assert origin.locate(weak, again=False).headers == {}


def test_a_transfer_survives_that_its_addresses_expire(server: SeaweedFs, tmp_path: Path) -> None:
    of = source(server.endpoint)
    manifest = list_prefix(of).manifest
    origin = _Expiring(BucketOrigin(of))
    with new_store(tmp_path) as store:
        acquire(store, manifest, origin, StopFlag(), limits=QUICK)
        assert store.holds(manifest.digest)
    assert origin.renewed >= len([file for file in manifest.files if file.size_bytes])


def test_a_secret_is_not_completed_by_the_environment_of_the_pod(
    server: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-pod")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKPOD")
    url = BucketOrigin(source(server.endpoint)).locate(ODD, again=False).url
    assert "of-the-pod" not in url
    assert "AKOWNER" in url


def test_the_identity_of_the_pod_is_used_where_there_is_no_secret(
    server: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OWNER.items():
        monkeypatch.setenv(name, value.decode())
    assert list_prefix(source(server.endpoint, secret={})).manifest.files


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason", "word"),
    [
        (503, "SlowDown", Unavailable, "RateLimited", "slow down"),
        (429, "TooManyRequests", Unavailable, "RateLimited", "slow down"),
        (500, "InternalError", Unavailable, "Unavailable", "InternalError"),
        (503, "ServiceUnavailable", Unavailable, "Unavailable", "ServiceUnavailable"),
        (400, "AuthorizationHeaderMalformed", Invalid, "InvalidParameter", "parameters.region"),
        (301, "PermanentRedirect", Invalid, "InvalidParameter", "parameters.region"),
    ],
)
def test_a_store_in_trouble_is_asked_once(
    status: int, code: str, kind: type[ServiceError], reason: str, word: str
) -> None:
    with _serving(status, f"<Error><Code>{code}</Code></Error>") as (endpoint, asked):
        error = refusal(source(endpoint))
    assert isinstance(error, kind)
    assert error.reason == reason
    assert word in error.message
    assert len(asked) == 1


def test_an_endpoint_where_nobody_listens_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = refusal(source(endpoint))
    assert isinstance(error, Unavailable)
    assert endpoint in error.message


ACCOUNT_KEY = base64.b64encode(b"k" * 32)
AZURE_PAGE = (
    "<EnumerationResults><Blobs><Blob><Name>m/a.json</Name><Properties><Last-Modified>Mon, 02 Jan 2023 03:04:05 GMT"
    "</Last-Modified><Etag>0x8D1</Etag><Content-Length>7</Content-Length><Content-Type>x/y</Content-Type></Properties>"
    "</Blob></Blobs><NextMarker/></EnumerationResults>"
)
GOOGLE_PAGE = (
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>m/a.json</Key><Size>7</Size>"
    '<ETag>"0f343b0931126a20f133d67c2b018a3b"</ETag><LastModified>2023-01-02T03:04:05.000Z</LastModified></Contents>'
    "</ListBucketResult>"
)


def test_an_azure_listing_is_understood_and_its_addresses_are_signed() -> None:
    secret = {"AZURE_STORAGE_ACCOUNT_NAME": b"acct", "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY}
    with _serving(200, AZURE_PAGE) as (endpoint, _):
        (file,) = list_prefix(source(endpoint, "az://container/m", secret)).manifest.files
    assert (file.path, file.size_bytes, file.version) == ("a.json", 7, '"0x8D1"')
    location = BucketOrigin(source("", "az://container/m", secret)).locate(ODD, again=False)
    assert location.url.startswith("https://acct.blob.core.windows.net/container/m/a%20folder/n%C3%A4me+1%25.txt?")
    assert parse_qs(urlsplit(location.url).query)["sp"] == ["r"]
    assert location.headers == {"If-Match": '"tag"'}


def test_an_azure_sas_token_is_put_behind_each_address() -> None:
    secret = {"azure_storage_sas_token": b"?sv=2023-11-03&sp=rl&sig=abc%3D\n"}
    of = source("", "az://container/m", secret, account_name="acct")
    url = BucketOrigin(of).locate(ODD, again=False).url
    assert url.endswith("/container/m/a%20folder/n%C3%A4me%2B1%25.txt?sv=2023-11-03&sp=rl&sig=abc%3D")
    with _serving(403, "<Error><Code>AuthenticationFailed</Code></Error>") as (endpoint, asked):
        error = refusal(source(endpoint, "az://container/m", secret, account_name="acct"))
    assert "sig=abc" in asked[0]
    assert error.reason == "Forbidden"
    assert "abc" not in error.message


def test_a_google_listing_is_understood_and_its_addresses_are_signed() -> None:
    with _serving(200, GOOGLE_PAGE) as (endpoint, _):
        (file,) = list_prefix(source(endpoint, "gs://bucket/m", {}, skip_signature="true")).manifest.files
    assert (file.path, file.size_bytes, file.version) == ("a.json", 7, '"0f343b0931126a20f133d67c2b018a3b"')
    of = source("", "gs://bucket/m", {"key.json": _service_account()})
    url = BucketOrigin(of).locate(ManifestFile("a folder/näme.txt", 1, ChecksumAlgorithm.NONE, ""), again=False).url
    assert url.startswith("https://storage.googleapis.com/bucket/m/a%20folder/n%C3%A4me.txt?")
    assert "X-Goog-Signature" in url
    assert "PRIVATE KEY" not in repr(of)


def test_a_google_object_whose_address_could_not_be_signed_is_refused_when_it_is_listed() -> None:
    # As an emulator's key: nobody is asked for a token.
    of = source("", "gs://bucket/m", {"key.json": _service_account(disable_oauth=True)})
    with _serving(200, GOOGLE_PAGE.replace("a.json", "a%41.json")) as (endpoint, _):
        public = source(endpoint, "gs://bucket/m", {}, skip_signature="true")
        assert list_prefix(public).manifest.files[0].path == "a%41.json"
        with pytest.raises(InvalidValue, match="ignorePatterns") as raised:
            list_prefix(replace(of, endpoint=endpoint))
    assert raised.value.reason == "InvalidListing"


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("s3://b/p", "https://s3.eu-west-1.amazonaws.com/b/p/x%20y"),
        ("gs://b/p", "https://storage.googleapis.com/b/p/x%20y"),
        ("az://b/p", "https://acct.blob.core.windows.net/b/p/x%20y"),
    ],
)
def test_a_public_object_has_the_plain_address_of_its_cloud(uri: str, url: str) -> None:
    own = {"s3": {"region": "eu-west-1"}, "gs": {}, "az": {"account_name": "acct"}}[uri[:2]]
    of = source("", uri, {}, skip_signature="true", **own)
    assert BucketOrigin(of).locate(ManifestFile("x y", 1, ChecksumAlgorithm.NONE, ""), again=False).url == url


def test_a_bucket_may_be_part_of_the_host() -> None:
    for anonymous in (True, False):
        of = source(
            "", "s3://b/p", {} if anonymous else OWNER, virtual_hosted_style="true", skip_signature=str(anonymous)
        )
        url = BucketOrigin(of).locate(ODD, again=False).url
        assert url.startswith("https://b.s3.us-east-1.amazonaws.com/p/a%20folder/")


@pytest.mark.parametrize(
    ("uri", "parameters", "secret", "word"),
    [
        ("s3://b/p", {"bucket_region": "x"}, {}, "there are allowPatterns, endpoint, ignorePatterns, region"),
        ("gs://b/p", {"region": "x"}, {}, "does not exist for gs://"),
        ("az://b/p", {}, {}, "parameters.account_name is missing"),
        ("s3://b/p", {"endpoint": "minio:9000"}, {}, "must be a URL"),
        ("s3://b/p", {"endpoint": "https://me:secret@minio"}, {}, "into a Secret"),
        ("s3://b/p", {"skip_signature": "yes"}, {}, "'true' or 'false'"),
        ("s3://b/p", {"skip_signature": "true"}, OWNER, "remove one"),
        ("s3://b/p", {}, {"token": b"hf_secret"}, "AWS_ACCESS_KEY_ID"),
        ("s3://b/p", {}, OWNER | {"AWS_SESSION_TOKEN": b"a\r\nX: secret"}, "AWS_ACCESS_KEY_ID"),
        ("s3://b/p", {}, {"AWS_ACCESS_KEY_ID": b"\xff"}, "AWS_ACCESS_KEY_ID"),
        ("gs://b/p", {}, {"key.json": b"{}"}, "JSON key of one service account"),
        ("gs://b/p", {}, {"key.json": b"secret"}, "JSON key of one service account"),
        ("az://b/p", {"account_name": "a"}, {"AZURE_STORAGE_SAS_TOKEN": b"secret"}, "AZURE_STORAGE_SAS_TOKEN"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    uri: str, parameters: dict[str, str], secret: dict[str, bytes], word: str
) -> None:
    parsed = parse_uri(uri)
    assert isinstance(parsed, BucketUri)
    with pytest.raises(InvalidValue, match=word) as error:
        bucket_source(parsed, parameters, secret)
    assert error.value.reason == "InvalidParameter"
    assert "secret" not in error.value.message.replace("owner-secret", "?")


@pytest.mark.parametrize(
    ("uri", "parameters", "secret"),
    [
        ("gs://b/p", {}, {"k": json.dumps({"client_email": "a", "private_key": "hidden"}).encode()}),
        ("az://b/p", {"account_name": "a"}, {"account_key": b"!!hidden"}),
    ],
)
def test_a_secret_that_the_sdk_refuses_is_told_so_without_its_content(
    uri: str, parameters: dict[str, str], secret: dict[str, bytes]
) -> None:
    with pytest.raises(InvalidValue) as raised:
        BucketOrigin(source("", uri, secret, **parameters))
    assert raised.value.reason == "InvalidParameter"
    assert "hidden" not in raised.value.message


def _service_account(**more: object) -> bytes:
    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "a@b.iam",
            "private_key": private.decode(),
            "private_key_id": "1",
            **more,
        }
    ).encode()


class _Expiring:
    """An origin whose addresses are refused until they are asked for again, as after an hour."""

    def __init__(self, origin: BucketOrigin) -> None:
        self.name = origin.name
        self.renewed = 0
        self._origin = origin

    def locate(self, file: ManifestFile, again: bool) -> Location:
        location = self._origin.locate(file, again)
        if again:
            self.renewed += 1
            return location
        expired = location.url.replace("X-Amz-Date=2", "X-Amz-Date=1")
        return Location(expired, location.headers)


@contextmanager
def _serving(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """A store with one answer to everything, and the targets that it was asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
