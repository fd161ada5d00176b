"""Buckets as sources: s3:// and az:// against real servers, gs:// against one that checks what is signed."""

import hashlib
import json
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.uri import BucketUri, parse_uri
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.bucket.buckets import BucketOrigin, list_prefix
from services.fetcher.sources.bucket.source import BucketSource, bucket_source
from services.fetcher.sources.selection import Choice
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Location
from tests.contract.sources.suite import Access, Ground, SourceSuite, Trouble, closed_endpoint
from tests.support.azurite import Azurite
from tests.support.google_store import GoogleStore
from tests.support.one_answer import Answer, answering
from tests.support.seaweedfs import OWNER, STRANGER, SeaweedFs
from tests.support.transfers import QUICK, acquire, new_store, small_model

CONTENTS = small_model() | {"a folder/näme+1%.txt": b"odd"}
ODD = ManifestFile("a folder/näme+1%.txt", 3, ChecksumAlgorithm.NONE, "", '"tag"')


class Cloud(Protocol):
    """A server of one kind of bucket, with a private bucket "models" and a bucket "public"."""

    @property
    def scheme(self) -> str:
        """What its URIs begin with."""

    @property
    def endpoint(self) -> str:
        """Where it listens."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """What a model must say besides the endpoint."""

    @property
    def secret(self) -> Mapping[str, bytes]:
        """Credentials that may read."""

    @property
    def wrong_secret(self) -> Mapping[str, bytes]:
        """Credentials in the right form that the server does not accept."""

    def put(self, bucket: str, prefix: str, contents: Mapping[str, bytes]) -> None:
        """Put objects."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""


# More objects than one answer holds.
MANY = {"s3": 2500, "gs": 2500, "az": 5100}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    with SeaweedFs(tmp_path_factory.mktemp("seaweedfs")) as server:
        server.put("models", "acme/tiny", CONTENTS)
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as azure:
        azure.put("models", "acme/tiny", CONTENTS)
        yield azure


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleStore]:
    with GoogleStore() as google:
        google.put("models", "acme/tiny", CONTENTS)
        yield google


@pytest.fixture(params=["server", "azure", "google"], ids=["s3", "az", "gs"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each of them, which all hold CONTENTS below models/acme/tiny."""
    found: Cloud = request.getfixturevalue(request.param)
    return found


class BucketGround:
    """Prefixes of the private bucket of a cloud."""

    # The SDK keeps the answer's headers to itself.
    tells_pauses = False
    takes_any_parameter = False

    def __init__(self, cloud: Cloud, folder: str) -> None:
        self._cloud = cloud
        self._folder = folder
        self._paths: dict[str, set[str]] = {}

    @property
    def access(self) -> Access:
        return Access({**self._cloud.parameters, "endpoint": self._cloud.endpoint}, self._cloud.secret)

    @property
    def wrong_access(self) -> Access:
        return Access(self.access.parameters, self._cloud.wrong_secret)

    @property
    def away(self) -> Access:
        return self._at(closed_endpoint())

    @property
    def secrets(self) -> Sequence[str]:
        """Every line of the credentials, but for names: of accounts, and of keys at Amazon."""
        texts = [
            value.decode()
            for secret in (self._cloud.secret, self._cloud.wrong_secret)
            for name, value in secret.items()
            if "NAME" not in name and "KEY_ID" not in name
        ]
        texts = [str(json.loads(text)["private_key"]) if text.startswith("{") else text for text in texts]
        return [line for text in texts for line in text.splitlines() if not line.startswith("-")]

    def uri(self, name: str) -> str:
        return f"{self._cloud.scheme}://models/{self._folder}/{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        for path in self._paths.get(name, set()) - contents.keys():
            self._cloud.delete("models", f"{self._folder}/{name}/{path}")
        self._cloud.put("models", f"{self._folder}/{name}", contents)
        self._paths[name] = set(contents)

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        # No store can be brought to refuse; what its cloud would answer does not depend on the store.
        with answering(_saying(status, "ServiceUnavailable")) as (endpoint, asked):
            yield Trouble(self._at(endpoint), lambda: len(asked))

    def _at(self, endpoint: str) -> Access:
        return Access({**self.access.parameters, "endpoint": endpoint}, self.access.credentials)


@pytest.fixture
def ground(cloud: Cloud, request: pytest.FixtureRequest) -> Ground:
    # The servers are those of the whole module, so each test has a folder of its own.
    return BucketGround(cloud, f"suite-{zlib.crc32(request.node.name.encode()):08x}")


class TestBuckets(SourceSuite):
    """s3://, gs:// and az:// are sources like every other."""


def of_cloud(
    cloud: Cloud, path: str = "models/acme/tiny", secret: Mapping[str, bytes] | None = None, **parameters: str
) -> BucketSource:
    return source(
        cloud.endpoint,
        f"{cloud.scheme}://{path}",
        dict(cloud.secret if secret is None else secret),
        **{**cloud.parameters, **parameters},
    )


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


def test_a_prefix_is_listed_with_names_below_it_sizes_and_versions(cloud: Cloud) -> None:
    cloud.put("models", "acme/tiny-2", {"other.txt": b"o"})
    files = {file.path: file for file in list_prefix(of_cloud(cloud)).manifest.files}
    assert {path: file.size_bytes for path, file in files.items()} == {
        path: len(content) for path, content in CONTENTS.items()
    }
    assert all(file.version.startswith('"') and file.version.endswith('"') for file in files.values())
    # An ETag is no checksum that a listing can be trusted for.
    weights = files.pop("model.safetensors")
    assert {file.algorithm for file in files.values()} == {ChecksumAlgorithm.NONE}
    assert (weights.algorithm, weights.checksum) == {
        "s3": (ChecksumAlgorithm.NONE, ""),
        "gs": (ChecksumAlgorithm.CRC32C, f"{google_crc32c.value(CONTENTS['model.safetensors']):08x}"),
        "az": (ChecksumAlgorithm.MD5, hashlib.md5(CONTENTS["model.safetensors"]).hexdigest()),
    }[cloud.scheme]


def test_a_content_that_does_not_match_what_the_store_said_of_it_is_not_taken(
    google: GoogleStore, tmp_path: Path
) -> None:
    weights = CONTENTS["model.safetensors"]
    google.put("models", "acme/corrupt", {"model.safetensors": weights})
    of = of_cloud(google, "models/acme/corrupt")
    manifest = list_prefix(of).manifest
    google.falsify("models", "acme/corrupt/model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1]))
    with new_store(tmp_path) as store, pytest.raises(Corrupt) as raised:
        acquire(store, manifest, BucketOrigin(of), StopFlag(), limits=QUICK)
    assert raised.value.reason == "ChecksumMismatch"


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (403, Missing, "Forbidden"),
        (404, Unavailable, "SourceChanged"),
        (412, Unavailable, "SourceChanged"),
        (429, Unavailable, "RateLimited"),
        (503, Unavailable, "Unavailable"),
    ],
)
def test_a_checksum_that_is_not_given_ends_the_listing(
    google: GoogleStore, status: int, kind: type[ServiceError], reason: str
) -> None:
    weights = {f"model-{number:05}.safetensors": CONTENTS["model.safetensors"] for number in range(200)}
    google.put("models", "acme/refused", weights)
    of = of_cloud(google, "models/acme/refused")
    with google.refusing(".safetensors", status) as refused:
        error = refusal(of)
    assert isinstance(error, kind)
    assert error.reason == reason
    assert "Signature" not in error.message
    # Who is refused does not go on with the others.
    assert 0 < len(refused) <= 8
    assert len(list_prefix(of).manifest.files) == 200


def test_a_bucket_is_fetched_through_the_engine_into_the_store(cloud: Cloud, tmp_path: Path) -> None:
    assert fetch(of_cloud(cloud), tmp_path) == CONTENTS


def test_objects_that_were_put_in_parts_are_fetched(cloud: Cloud, tmp_path: Path) -> None:
    contents = {"model.safetensors": bytes(range(256)) * 50_000}
    cloud.put("models", "acme/parts", contents)
    assert fetch(of_cloud(cloud, "models/acme/parts"), tmp_path) == contents


def test_a_listing_of_many_pages_is_complete(cloud: Cloud) -> None:
    count = MANY[cloud.scheme]
    cloud.put("models", "acme/many", {f"part-{number:04d}.txt": b"x" for number in range(count)})
    assert len(list_prefix(of_cloud(cloud, "models/acme/many")).manifest.files) == count


def test_a_public_bucket_is_read_without_a_signature(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("public", "shared", {"config.json": b"{}", "nested/notes.txt": b"n"})
    of = of_cloud(cloud, "public/shared", {}, skip_signature="true")
    assert fetch(of, tmp_path) == {"config.json": b"{}", "nested/notes.txt": b"n"}
    assert "?" not in BucketOrigin(of).locate(ODD, again=False).url
    assert refusal(of_cloud(cloud, secret={}, skip_signature="true")).reason in ("Forbidden", "NotFound")


def test_what_is_missing_is_named(cloud: Cloud) -> None:
    for path, word in (("nothing/acme", "no such bucket"), ("models/nothing", "check the prefix")):
        error = refusal(of_cloud(cloud, path))
        assert isinstance(error, Missing)
        assert error.reason == "NotFound"
        assert word in error.message


def test_credentials_that_are_not_accepted_end_a_listing_and_a_transfer(cloud: Cloud, tmp_path: Path) -> None:
    wrong = of_cloud(cloud, secret=cloud.wrong_secret)
    error = refusal(wrong)
    assert isinstance(error, Missing)
    assert error.reason == "Forbidden"
    assert "storage.storageKey" in error.message
    manifest = list_prefix(of_cloud(cloud)).manifest
    with new_store(tmp_path) as store, pytest.raises(Missing) as raised:
        acquire(store, manifest, BucketOrigin(wrong), StopFlag(), limits=QUICK)
    assert raised.value.reason == "Forbidden"


def test_an_object_that_changes_between_listing_and_transfer_is_seen(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("models", "acme/changing", CONTENTS)
    of = of_cloud(cloud, "models/acme/changing")
    manifest = list_prefix(of).manifest
    weights = CONTENTS["model.safetensors"]
    cloud.put("models", "acme/changing", {"model.safetensors": weights[::-1]})
    with new_store(tmp_path) as store:
        with pytest.raises(Corrupt) as raised:
            acquire(store, manifest, BucketOrigin(of), StopFlag(), limits=QUICK)
        assert raised.value.reason == "SourceChanged"
        assert not store.holds(manifest.digest)
    assert list_prefix(of).manifest.digest != manifest.digest
    assert fetch(of, tmp_path)["model.safetensors"] == weights[::-1]


def test_a_store_that_imitates_another_does_not_get_to_serve_its_models(google: GoogleStore, tmp_path: Path) -> None:
    google.put("models", "acme/original", {"config.json": b"good"})
    with GoogleStore() as imitation:
        imitation.put("models", "acme/original", {"config.json": b"good"})
        imitation.falsify("models", "acme/original/config.json", b"evil")
        original, imitated = (of_cloud(each, "models/acme/original") for each in (google, imitation))
        assert list_prefix(original).manifest.files == list_prefix(imitated).manifest.files
        assert fetch(imitated, tmp_path) == {"config.json": b"evil"}
        assert fetch(original, tmp_path) == {"config.json": b"good"}


def test_an_object_that_is_replaced_while_it_is_read_ends_the_transfer(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("models", "acme/replaced", CONTENTS)
    of = of_cloud(cloud, "models/acme/replaced")
    manifest = list_prefix(of).manifest
    weights = CONTENTS["model.safetensors"][::-1]
    origin = _Watched(BucketOrigin(of), 7, lambda: cloud.put("models", "acme/replaced", {"model.safetensors": weights}))
    with new_store(tmp_path) as store, pytest.raises(Corrupt) as raised:
        acquire(store, manifest, origin, StopFlag(), limits=QUICK)
    assert raised.value.reason == "SourceChanged"
    assert origin.acted
    assert fetch(of, tmp_path)["model.safetensors"] == weights


def test_an_object_that_vanishes_while_it_is_read_is_missing(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("models", "acme/vanishing", CONTENTS)
    of = of_cloud(cloud, "models/acme/vanishing")
    manifest = list_prefix(of).manifest
    origin = _Watched(BucketOrigin(of), 7, lambda: cloud.delete("models", "acme/vanishing/model.safetensors"))
    with new_store(tmp_path) as store, pytest.raises((Missing, Corrupt)) as raised:
        acquire(store, manifest, origin, StopFlag(), limits=QUICK)
    # Azurite says 412 to the condition, as no content fulfils it; after either the source is listed again.
    assert ("has changed" if cloud.scheme == "az" else "does not exist at the origin") in str(raised.value)
    assert origin.acted


def test_a_transfer_survives_that_its_addresses_expire(cloud: Cloud, tmp_path: Path) -> None:
    of = of_cloud(cloud)
    manifest = list_prefix(of).manifest
    origin = _Expiring(BucketOrigin(of))
    with new_store(tmp_path) as store:
        acquire(store, manifest, origin, StopFlag(), limits=QUICK)
        assert store.holds(manifest.digest)
    assert origin.renewed >= len([file for file in manifest.files if file.size_bytes])


def test_a_shared_access_token_stands_behind_each_address(azure: Azurite, tmp_path: Path) -> None:
    token = azure.shared_access_token("models", "rl")
    of = of_cloud(azure, secret={"AZURE_STORAGE_SAS_TOKEN": f"?{token}\n".encode()})
    assert fetch(of, tmp_path) == CONTENTS
    url = BucketOrigin(of).locate(ODD, again=False).url
    assert url.endswith(f"/models/acme/tiny/a%20folder/n%C3%A4me%2B1%25.txt?{token}")
    unlisted = {"AZURE_STORAGE_SAS_TOKEN": azure.shared_access_token("models", "r").encode()}
    error = refusal(of_cloud(azure, secret=unlisted))
    assert error.reason == "Forbidden"
    assert "sig=" not in error.message


def test_names_that_obstore_cannot_sign_are_signed_with_a_key(google: GoogleStore, tmp_path: Path) -> None:
    contents = {"a%41.json": b"{}", "what?.txt": b"q", "c#.txt": b"s", "a+b &=~.txt": b"a"}
    google.put("models", "acme/odd", contents)
    google.put("public", "odd", contents)
    assert fetch(of_cloud(google, "models/acme/odd"), tmp_path) == contents
    assert fetch(of_cloud(google, "public/odd", {}, skip_signature="true"), tmp_path) == contents


def test_the_identity_of_a_pod_cannot_sign_for_another_endpoint_of_google(google: GoogleStore) -> None:
    with pytest.raises(InvalidValue, match="needs a key") as raised:
        of_cloud(google, secret={})
    assert raised.value.reason == "InvalidParameter"


def test_a_name_that_the_identity_of_a_pod_cannot_sign_is_refused_when_it_is_listed(
    google: GoogleStore, azure: Azurite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.write_bytes(google.secret["key.json"])
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azure.secret["AZURE_STORAGE_ACCOUNT_KEY"].decode())
    clouds: tuple[Cloud, ...] = (google, azure)
    for cloud in clouds:
        cloud.put("models", "acme/plain", {"a.json": b"{}"})
        cloud.put("models", "acme/unsignable", {"a%41.json": b"{}", "b.json": b"{}"})
        plain, odd = (
            replace(of_cloud(cloud, f"models/acme/{folder}"), secret={}) for folder in ("plain", "unsignable")
        )
        assert list_prefix(plain).manifest.files
        with pytest.raises(InvalidValue, match="ignorePatterns") as raised:
            list_prefix(odd)
        assert raised.value.reason == "InvalidListing"
        assert list_prefix(replace(odd, choice=Choice(ignore=("a*",)))).manifest.files


def test_a_public_bucket_is_read_without_a_signature_and_folder_markers_are_left_out(
    server: SeaweedFs, tmp_path: Path
) -> None:
    for folder in ("open", "open/nested"):
        server.put_marker(folder)
    server.put("public", "open", {"config.json": b"{}", "nested/notes.txt": b"n"})
    of = source(server.endpoint, "s3://public/open", {}, skip_signature="true")
    assert fetch(of, tmp_path) == {"config.json": b"{}", "nested/notes.txt": b"n"}
    assert "?" not in BucketOrigin(of).locate(ODD, again=False).url


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
        (403, "InvalidObjectState", Missing, "Forbidden", "restore it in the bucket"),
        (403, "RequestTimeTooSkewed", Missing, "Forbidden", "clock"),
        (400, "ExpiredToken", Missing, "Forbidden", "renew"),
        (403, "AccessDenied", Missing, "Forbidden", "Secret named by storage.storageKey"),
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
    with answering(_saying(status, code)) as (endpoint, asked):
        error = refusal(source(endpoint))
    assert isinstance(error, kind)
    assert error.reason == reason
    assert word in error.message
    assert len(asked) == 1


def test_the_words_of_a_store_are_told_without_what_is_secret() -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Not for the key AKOWNER-hush-hush, sorry.</Message></Error>"
    secret = {**OWNER, "AWS_SECRET_ACCESS_KEY": b"AKOWNER-hush-hush"}
    with answering(lambda _: (403, {}, body)) as (endpoint, _):
        error = refusal(source(endpoint, secret=secret))
    assert "(HTTP 403, AccessDenied: Not for the key ..., sorry)" in error.message


def test_an_endpoint_where_nobody_listens_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = refusal(source(endpoint))
    assert isinstance(error, Unavailable)
    assert endpoint in error.message


def test_an_azure_sas_token_is_put_behind_each_address() -> None:
    secret = {"azure_storage_sas_token": b"?sv=2023-11-03&sp=rl&sig=abc%3D\n"}
    of = source("", "az://container/m", secret, account_name="acct")
    url = BucketOrigin(of).locate(ODD, again=False).url
    assert url.endswith("/container/m/a%20folder/n%C3%A4me%2B1%25.txt?sv=2023-11-03&sp=rl&sig=abc%3D")
    with answering(_saying(403, "AuthenticationFailed")) as (endpoint, asked):
        error = refusal(source(endpoint, "az://container/m", secret, account_name="acct"))
    assert "sig=abc" in asked[0]
    assert error.reason == "Forbidden"
    assert "abc" not in error.message


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
        # The year in which an address was made, or ends to be valid.
        expired = re.sub(r"(X-Amz-Date|X-Goog-Date|se)=2", r"\g<1>=1", location.url)
        assert expired != location.url
        return Location(expired, location.headers)


class _Watched:
    """An origin at which something happens when it is asked for the weights for a certain time."""

    def __init__(self, origin: BucketOrigin, nth: int, act: Callable[[], object]) -> None:
        self.name = origin.name
        self.acted = False
        self._origin = origin
        self._left = nth
        self._act = act
        self._lock = threading.Lock()

    def locate(self, file: ManifestFile, again: bool) -> Location:
        with self._lock:
            self._left -= file.path == "model.safetensors"
            if not self._left and not self.acted:
                self.acted = True
                self._act()
        return self._origin.locate(file, again)


def _saying(status: int, code: str) -> Answer:
    """The answer of a store that refuses everything."""
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return lambda _target: (status, {"Content-Type": "application/xml"}, body)


def test_a_prefix_may_hold_what_a_uri_cannot_write(cloud: Cloud, tmp_path: Path) -> None:
    contents = {"a b.json": b"{}", "weights/ü.txt": b"w"}
    cloud.put("models", "my models/100% [a] ü?#", contents)
    of = of_cloud(cloud, "models/my%20models/100%25%20[a]%20%C3%BC?#")
    assert of.prefix == "my models/100% [a] ü?#"
    assert fetch(of, tmp_path) == contents


def test_markers_that_tools_leave_for_folders_are_left_out(cloud: Cloud, tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "nested/notes.txt": b"n"}
    cloud.put("models", "acme/marked", contents | {"nested_$folder$": b""})
    assert fetch(of_cloud(cloud, "models/acme/marked"), tmp_path) == contents


@pytest.mark.parametrize("name", ["b//c.json", "../c.json", "./c.json", "/c.json", "b/../c.json"])
@pytest.mark.parametrize("identity", [OWNER, {}], ids=["by a key", "by nobody"])
def test_an_object_that_cannot_be_a_file_is_named_unless_patterns_leave_it_out(
    name: str, identity: dict[str, bytes]
) -> None:
    with answering(_listing_of(f"m/{name}", "m/a.json")) as (url, _):
        of = source(url, "s3://models/m", identity, skip_signature=str(not identity))
        with pytest.raises(InvalidValue) as raised:
            list_prefix(of)
        assert raised.value.reason == "InvalidListing"
        assert f"a file named {name!r}, which" in raised.value.message
        assert "ignorePatterns" in raised.value.message
        listing = list_prefix(replace(of, choice=Choice(ignore=("*c.json",))))
    assert [file.path for file in listing.manifest.files] == ["a.json"]


def test_an_object_that_is_a_folder_too_is_named_unless_patterns_leave_it_out(google: GoogleStore) -> None:
    google.put("models", "acme/both", {"a": b"1", "a/b.json": b"{}"})
    of = of_cloud(google, "models/acme/both")
    with pytest.raises(InvalidValue, match="'a' both as a file and as the directory") as raised:
        list_prefix(of)
    assert raised.value.reason == "InvalidListing"
    assert [file.path for file in list_prefix(replace(of, choice=Choice(ignore=("a",)))).manifest.files] == ["a/b.json"]


def test_an_object_that_only_obstore_can_list_is_named_with_the_way_to_leave_it_out(
    google: GoogleStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.write_bytes(google.secret["key.json"])
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    google.put("models", "acme/slashes", {"b//c.json": b"{}"})
    error = refusal(replace(of_cloud(google, "models/acme/slashes"), secret={}))
    assert error.reason == "InvalidListing"
    assert "holds 'acme/slashes/b//c.json', whose name has an empty part" in error.message
    assert "name a Secret with a key in storage.storageKey" in error.message


def test_a_listing_by_name_is_the_one_by_the_sdk(cloud: Cloud) -> None:
    # An empty object brings it about.
    contents = {"config.json": b"{}", "a b+c%41/ü&=.txt": b"w"}
    cloud.put("models", "acme/sdk", contents)
    by_sdk = list_prefix(of_cloud(cloud, "models/acme/sdk")).manifest
    cloud.put("models", "acme/sdk", {"empty.txt": b""})
    by_name = list_prefix(of_cloud(cloud, "models/acme/sdk")).manifest
    assert tuple(file for file in by_name.files if file.path != "empty.txt") == by_sdk.files


def test_a_listing_by_name_of_many_pages_is_complete(cloud: Cloud) -> None:
    count = MANY[cloud.scheme]
    cloud.put("models", "acme/many-empty", {f"part-{number:04d}.txt": b"" for number in range(count)})
    assert len(list_prefix(of_cloud(cloud, "models/acme/many-empty")).manifest.files) == count


def test_the_marker_of_an_empty_folder_is_left_out(server: SeaweedFs, tmp_path: Path) -> None:
    server.put_marker("emptied/logs")
    server.put("public", "emptied", {"config.json": b"{}"})
    assert fetch(source(server.endpoint, "s3://public/emptied", {}, skip_signature="true"), tmp_path) == {
        "config.json": b"{}"
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult>&b;</ListBucketResult>",
        b"<ListBucketResult><Contents><Key>m/b//c</Key><Size>many</Size></Contents></ListBucketResult>",
    ],
)
def test_a_listing_by_name_that_is_none_is_unavailable(body: bytes) -> None:
    sound = _listing_of("m/b//c.json")
    asked = []

    def answer(target: str) -> tuple[int, Mapping[str, str], bytes]:
        asked.append(target)
        return sound(target) if "encoding-type" not in target else (200, {}, body)

    with answering(answer) as (url, _):
        error = refusal(source(url, "s3://models/m"))
    assert len(asked) == 2
    assert isinstance(error, Unavailable)


def test_a_refused_listing_by_name_says_what_the_store_says() -> None:
    sound, refused = _listing_of("m/b//c.json"), _saying(403, "AccessDenied")
    with answering(lambda target: (refused if "encoding-type" in target else sound)(target)) as (url, _):
        error = refusal(source(url, "s3://models/m"))
    assert error.reason == "Forbidden"
    assert "HTTP 403, AccessDenied" in error.message


def _listing_of(*keys: str) -> Answer:
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for key in keys
    )
    listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    return lambda target: (200, {"Content-Type": "application/xml"}, listing)
