"""The adapter of Oracle's Object Storage against a store that speaks the real API and checks signatures."""

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile
from libs.artifact.uri import OracleUri, parse_uri
from libs.chassis.errors import Corrupt, Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.oracle.oracle import OracleOrigin, list_objects
from services.fetcher.sources.oracle.source import AuthType, OracleSource, oracle_source
from services.fetcher.stop import StopFlag
from tests.contract.sources.suite import PAUSE_SECONDS, Access, Ground, SourceSuite, Trouble, closed_endpoint
from tests.support.oracle_identity import OracleIdentity
from tests.support.oracle_store import BUCKET, NAMESPACE, Fault, OracleStore
from tests.support.transfers import PATIENT, acquire, contents_of, leftovers, new_store, small_model

MODEL = small_model(weights_bytes=1_500_123)
URI = f"oci://n/{NAMESPACE}/b/{BUCKET}/o/llama/tiny/"
WEIGHTS = "llama/tiny/model.safetensors"
ROOT = Path(__file__).parents[3]
_SMALL_AND_LARGE = (("small", 1), ("large", 1 << 30))


@pytest.fixture
def oracle() -> Iterator[OracleStore]:
    with OracleStore() as store:
        for path, content in MODEL.items():
            store.put(f"llama/tiny/{path}", content)
        store.put("llama/tiny/", b"")
        store.put("llama/tiny/nested_$folder$", b"")
        store.put("llama/tiny-but-another/config.json", b"{}")
        yield store


def uri_of(text: str) -> OracleUri:
    parsed = parse_uri(text)
    assert isinstance(parsed, OracleUri)
    return parsed


def source(
    oracle: OracleStore, uri: str = URI, secret: dict[str, bytes] | None = None, **parameters: str
) -> OracleSource:
    parameters = {"auth_type": "UserPrincipal", "endpoint": oracle.endpoint, **parameters}
    return oracle_source(uri_of(uri), parameters, oracle.secret() if secret is None else secret)


class OracleGround:
    """Prefixes of a bucket, and the key of a user who may read it."""

    tells_pauses = True
    takes_any_parameter = False

    def __init__(self, oracle: OracleStore, stranger: OracleStore) -> None:
        self._oracle = oracle
        self._stranger = stranger
        self._paths: dict[str, set[str]] = {}

    @property
    def access(self) -> Access:
        return Access({"auth_type": "UserPrincipal", "endpoint": self._oracle.endpoint}, self._oracle.secret())

    @property
    def wrong_access(self) -> Access:
        return Access(self.access.parameters, self._stranger.secret())

    @property
    def away(self) -> Access:
        return Access({**self.access.parameters, "endpoint": closed_endpoint()}, self.access.credentials)

    @property
    def secrets(self) -> Sequence[str]:
        keys = (store.secret()["private_key"].decode() for store in (self._oracle, self._stranger))
        return [line for key in keys for line in key.splitlines() if not line.startswith("-")]

    def uri(self, name: str) -> str:
        return f"oci://n/{NAMESPACE}/b/{BUCKET}/o/{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        for path in self._paths.get(name, set()) - contents.keys():
            self._oracle.delete(f"{name}/{path}")
        for path, content in contents.items():
            self._oracle.put(f"{name}/{path}", content)
        self._paths[name] = set(contents)

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        fault = Fault(path="/o", status=status, code="ServiceUnavailable")
        if status == 429:
            fault = replace(fault, code="TooManyRequests", retry_after=str(PAUSE_SECONDS))
        self._oracle.inject(fault)
        yield Trouble(self.access, lambda: fault.fired)
        self._oracle.heal()


@pytest.fixture
def ground() -> Iterator[Ground]:
    with OracleStore() as oracle, OracleStore() as stranger:
        yield OracleGround(oracle, stranger)


class TestOracle(SourceSuite):
    """oci:// is a source like every other."""


def refusal(of: OracleSource) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        list_objects(of)
    return raised.value


def fetch(oracle: OracleStore, manifest: Manifest, root: Path) -> dict[str, bytes]:
    with new_store(root) as store:
        acquire(store, manifest, OracleOrigin(source(oracle)), StopFlag(), limits=PATIENT)
        assert leftovers(store) == []
        return contents_of(store.artifact_path(manifest.digest))


def test_a_prefix_may_hold_what_a_uri_cannot_write(oracle: OracleStore) -> None:
    oracle.put("my models/100% [a] ü?#/config.json", b"{}")
    of = source(oracle, f"oci://n/{NAMESPACE}/b/{BUCKET}/o/my%20models/100%25%20[a]%20%C3%BC?#/")
    assert of.prefix == "my models/100% [a] ü?#"
    assert [file.path for file in list_objects(of).manifest.files] == ["config.json"]


def test_a_prefix_is_listed_with_sizes_checksums_and_versions(oracle: OracleStore) -> None:
    weights = oracle.put(WEIGHTS, b"weights")
    listing = list_objects(source(oracle))
    assert listing.warnings == ()
    files = {file.path: file for file in listing.manifest.files}
    assert files.keys() == MODEL.keys()
    assert files["model.safetensors"] == ManifestFile(
        "model.safetensors", 7, ChecksumAlgorithm.MD5, hashlib.md5(b"weights").hexdigest(), weights.etag
    )
    assert listing.manifest.source_revision == ""


def test_a_listing_of_thousands_of_objects_is_complete(oracle: OracleStore) -> None:
    for number in range(2500):
        oracle.put(f"many/part-{number:04d}.txt", b"")
    manifest = list_objects(source(oracle, f"oci://n/{NAMESPACE}/b/{BUCKET}/o/many")).manifest
    assert len(manifest.files) == 2500
    assert [request.query.get("start") for request in oracle.listings()] == [
        None,
        "many/part-1000.txt",
        "many/part-2000.txt",
    ]


@pytest.mark.parametrize("names", [[], ["llama/config.json"] * 100, ["llama/"] * 100], ids=["none", "same", "folder"])
def test_a_listing_without_end_is_ended_by_what_the_service_has_said(names: list[str], oracle: OracleStore) -> None:
    objects = [{"name": name, "size": 0 if name.endswith("/") else 2, "etag": "a"} for name in names]
    for page in range(60):
        body = json.dumps({"objects": objects, "nextStartWith": f"page-{page:05d}"}).encode()
        oracle.inject(Fault(path="/o", body=body))
    error = refusal(replace(source(oracle), most_files=3000))
    assert "more than 3000 files" in error.message
    assert len(oracle.listings()) <= 31


def test_a_whole_bucket_is_a_prefix_too(oracle: OracleStore) -> None:
    manifest = list_objects(source(oracle, f"oci://n/{NAMESPACE}/b/{BUCKET}/o/", allowPatterns="*.json")).manifest
    assert [file.path for file in manifest.files] == [
        "llama/tiny-but-another/config.json",
        "llama/tiny/config.json",
        "llama/tiny/tokenizer/vocab.json",
    ]


def test_an_object_of_several_parts_has_a_version_in_place_of_a_checksum(oracle: OracleStore) -> None:
    first = oracle.put(WEIGHTS, b"weights", multipart=True)
    before = list_objects(source(oracle)).manifest
    weights = next(file for file in before.files if file.path == "model.safetensors")
    assert (weights.algorithm, weights.checksum, weights.version) == (ChecksumAlgorithm.NONE, "", first.etag)
    oracle.put(WEIGHTS, b"WEIGHTS", multipart=True)
    assert list_objects(source(oracle)).manifest.digest != before.digest


@pytest.mark.parametrize(("uploaded", "wanted"), [("CRC32C", ChecksumAlgorithm.CRC32C), ("", ChecksumAlgorithm.NONE)])
def test_an_object_of_several_parts_has_the_checksum_that_its_uploader_asked_for(
    oracle: OracleStore, tmp_path: Path, uploaded: str, wanted: ChecksumAlgorithm
) -> None:
    stored = oracle.put(WEIGHTS, MODEL["model.safetensors"], multipart=True, algorithm=uploaded)
    manifest = list_objects(source(oracle)).manifest
    weights = next(file for file in manifest.files if file.path == "model.safetensors")
    crc = f"{google_crc32c.value(MODEL['model.safetensors']):08x}"
    assert (weights.algorithm, weights.checksum) == (wanted, crc if uploaded else "")
    # One more request, for the version that was listed, and none for objects with an MD5.
    (head,) = [request for request in oracle.requests if request.method == "HEAD"]
    assert (head.path.endswith("/model.safetensors"), head.headers["if-match"]) == (True, stored.etag)
    assert fetch(oracle, manifest, tmp_path) == MODEL


@pytest.mark.parametrize("uploaded", ["SHA256", "SHA384"])
def test_checksums_of_checksums_are_not_taken_for_those_of_the_content(oracle: OracleStore, uploaded: str) -> None:
    oracle.put(WEIGHTS, MODEL["model.safetensors"], multipart=True, algorithm=uploaded)
    assert f"opc-multipart-{uploaded.lower()}" in oracle.put("x", b"xy", True, algorithm=uploaded).checksums
    manifest = list_objects(source(oracle)).manifest
    assert ChecksumAlgorithm.NONE in {file.algorithm for file in manifest.files}


@pytest.mark.parametrize(
    ("uploaded", "wanted"), [("SHA256", ChecksumAlgorithm.SHA256), ("SHA384", ChecksumAlgorithm.SHA384)]
)
def test_an_object_that_is_listed_without_md5_is_asked_for_its_checksum(
    oracle: OracleStore, tmp_path: Path, uploaded: str, wanted: ChecksumAlgorithm
) -> None:
    oracle.put(WEIGHTS, MODEL["model.safetensors"], algorithm=uploaded, listed_md5=False)
    manifest = list_objects(source(oracle)).manifest
    weights = next(file for file in manifest.files if file.path == "model.safetensors")
    assert weights.algorithm is wanted
    assert weights.checksum == hashlib.new(uploaded, MODEL["model.safetensors"]).hexdigest()
    assert fetch(oracle, manifest, tmp_path) == MODEL


def test_bytes_that_do_not_match_the_crc_of_several_parts_are_not_taken(oracle: OracleStore, tmp_path: Path) -> None:
    oracle.put("llama/tiny/tokenizer/vocab.json", b"{}" * 5000, multipart=True, algorithm="CRC32C")
    manifest = list_objects(source(oracle)).manifest
    damaged = oracle.inject(Fault(path="/vocab.json", body=b"{ " * 5000, times=99))
    with pytest.raises(Corrupt) as error:
        fetch(oracle, manifest, tmp_path)
    assert error.value.reason == "ChecksumMismatch"
    assert damaged.fired > 1


@pytest.mark.parametrize(
    ("fault", "reason", "pause"),
    [
        (Fault(status=429, code="TooManyRequests", retry_after="7"), "RateLimited", 7),
        (Fault(status=503, code="ServiceUnavailable"), "Unavailable", None),
        (Fault(status=403, code="NotAllowed"), "Forbidden", None),
    ],
    ids=["429", "503", "403"],
)
def test_checksums_that_are_not_given_now_end_the_listing(
    oracle: OracleStore, fault: Fault, reason: str, pause: float | None
) -> None:
    for number in range(400):
        oracle.put(f"llama/tiny/part-{number}.safetensors", b"ab", multipart=True, algorithm="CRC32C")
    injected = oracle.inject(replace(fault, path=".safetensors", times=999))
    error = refusal(source(oracle))
    assert (error.reason, getattr(error, "retry_after_seconds", None)) == (reason, pause)
    # Who is asked to slow down does not go on with the others.
    assert 0 < injected.fired <= 10
    oracle.heal()
    assert ChecksumAlgorithm.NONE not in {file.algorithm for file in list_objects(source(oracle)).manifest.files}


def test_an_object_that_is_replaced_while_it_is_listed_is_listed_again(oracle: OracleStore) -> None:
    oracle.put(WEIGHTS, b"weights", multipart=True)
    replaced = oracle.inject(Fault(path="/model.safetensors", act=lambda: oracle.put(WEIGHTS, b"WEIGHTS")))
    error = refusal(source(oracle))
    assert isinstance(error, Unavailable)
    assert error.reason == "SourceChanged"
    assert replaced.fired == 1
    assert list_objects(source(oracle)).manifest.files


def test_an_object_that_may_be_listed_but_not_read_says_so(oracle: OracleStore) -> None:
    oracle.put(WEIGHTS, b"weights", multipart=True)
    # What the service answers to whom it does not want to tell that there is an object.
    hidden = oracle.inject(Fault(path="/model.safetensors", status=404, code="ObjectNotFound"))
    error = refusal(source(oracle))
    assert isinstance(error, Missing)
    assert error.reason == "NotFound"
    assert "not to read" in error.message
    assert hidden.fired == 1


@pytest.mark.parametrize(
    "uri",
    [
        f"oci://n/{NAMESPACE}/b/nothing/o/llama",
        f"oci://n/another/b/{BUCKET}/o/llama",
        f"oci://n/{NAMESPACE}/b/{BUCKET}/o/llama/nothing",
    ],
)
def test_what_is_missing_is_named(oracle: OracleStore, uri: str) -> None:
    error = refusal(source(oracle, uri, region="eu-frankfurt-1"))
    assert isinstance(error, Missing)
    assert error.reason == "NotFound"
    assert uri in error.message
    assert "check" in error.message


def test_a_missing_bucket_may_be_one_of_another_region_or_without_a_policy(oracle: OracleStore) -> None:
    error = refusal(source(oracle, f"oci://n/{NAMESPACE}/b/nothing/o/llama"))
    for word in ("another region", "parameters.region", "policy", oracle.endpoint, "BucketNotFound"):
        assert word in error.message


def test_a_signature_that_is_not_accepted_is_forbidden(oracle: OracleStore) -> None:
    error = refusal(source(oracle, secret=oracle.secret() | {"fingerprint": b":".join([b"b2"] * 16)}))
    assert isinstance(error, Missing)
    assert error.reason == "Forbidden"
    with OracleStore() as another:
        stranger = refusal(source(oracle, secret=another.secret()))
    assert stranger.reason == "Forbidden"
    assert {request.status for request in oracle.requests} == {401}


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "pause"),
    [
        (Fault(status=403, code="NotAllowed"), Missing, "Forbidden", None),
        (Fault(status=429, code="TooManyRequests", retry_after="7"), Unavailable, "RateLimited", 7),
        (Fault(status=500), Unavailable, "Unavailable", None),
        (Fault(status=503, code="ServiceUnavailable", retry_after="3"), Unavailable, "Unavailable", 3),
        (Fault(truncate=10), Unavailable, "Unavailable", None),
        (Fault(body=b"<html>log in</html>"), Unavailable, "Unavailable", None),
    ],
    ids=["403", "429", "500", "503", "truncated", "another page"],
)
def test_a_store_in_trouble_is_asked_once(
    oracle: OracleStore, fault: Fault, kind: type[ServiceError], reason: str, pause: float | None
) -> None:
    injected = oracle.inject(replace(fault, path="/o"))
    error = refusal(source(oracle))
    assert (type(error), error.reason, getattr(error, "retry_after_seconds", None)) == (kind, reason, pause)
    assert injected.fired == 1
    assert len(oracle.listings()) == 1
    assert list_objects(source(oracle)).manifest.files


def test_an_endpoint_where_nobody_listens_is_unavailable(oracle: OracleStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = refusal(source(oracle, endpoint=endpoint))
    assert isinstance(error, Unavailable)
    assert endpoint in error.message


def test_archived_weights_are_to_be_restored_first(oracle: OracleStore) -> None:
    oracle.put(WEIGHTS, b"weights", archival_state="Archived")
    assert "restore" in refusal(source(oracle)).message
    oracle.put(WEIGHTS, b"weights", archival_state="Restored")
    assert list_objects(source(oracle)).manifest.files


def test_an_unsafe_listing_is_refused(oracle: OracleStore) -> None:
    oracle.put("llama/tiny/../evil", b"x")
    with pytest.raises(InvalidValue) as error:
        list_objects(source(oracle))
    assert error.value.reason == "InvalidListing"


def test_the_whole_line_brings_verified_bytes_by_signed_ranges(oracle: OracleStore, tmp_path: Path) -> None:
    manifest = list_objects(source(oracle)).manifest
    assert fetch(oracle, manifest, tmp_path) == MODEL
    ranges = oracle.requested(WEIGHTS)
    assert len(ranges) == 1 + len(MODEL["model.safetensors"]) // PATIENT.range_bytes
    # The store has verified each signature; it does not cover the range, which the engine adds.
    assert {request.status for request in ranges} == {206}
    assert all("range" in request.headers and "if-match" in request.headers for request in ranges)


def test_a_large_object_is_signed_once_for_many_ranges(oracle: OracleStore) -> None:
    origin = OracleOrigin(source(oracle))
    small, large = (ManifestFile(name, size, ChecksumAlgorithm.NONE, "", "e") for name, size in _SMALL_AND_LARGE)
    first = origin.locate(large, again=False)
    assert origin.locate(large, again=False) is first
    assert origin.locate(large, again=True) is not first
    assert origin.locate(small, again=False) is not origin.locate(small, again=False)
    assert "Signature" not in repr(first)


def test_an_object_that_is_replaced_while_it_is_read_ends_the_transfer(oracle: OracleStore, tmp_path: Path) -> None:
    oracle.put(WEIGHTS, MODEL["model.safetensors"], multipart=True)
    manifest = list_objects(source(oracle)).manifest
    other = bytes(len(MODEL["model.safetensors"]))
    replaced = oracle.inject(Fault(path="/model.safetensors", skip=5, act=lambda: oracle.put(WEIGHTS, other)))
    with pytest.raises(Corrupt) as error:
        fetch(oracle, manifest, tmp_path)
    assert error.value.reason == "SourceChanged"
    assert replaced.fired == 1
    assert 412 in {request.status for request in oracle.requested(WEIGHTS)}
    again = list_objects(source(oracle)).manifest
    assert fetch(oracle, again, tmp_path / "again")["model.safetensors"] == other


def test_an_object_that_is_deleted_is_missing(oracle: OracleStore, tmp_path: Path) -> None:
    manifest = list_objects(source(oracle)).manifest
    oracle.delete(WEIGHTS)
    with pytest.raises(Missing) as error:
        fetch(oracle, manifest, tmp_path)
    assert error.value.reason == "NotFound"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(truncate=20_000, times=3),
        Fault(status=429, code="TooManyRequests", retry_after="0", times=3),
        Fault(status=503, code="ServiceUnavailable", times=3),
        Fault(status=401, code="NotAuthenticated"),
    ],
    ids=["truncated", "429", "503", "401 once"],
)
def test_what_passes_is_waited_for(oracle: OracleStore, tmp_path: Path, fault: Fault) -> None:
    manifest = list_objects(source(oracle)).manifest
    injected = oracle.inject(replace(fault, path="/model.safetensors", skip=2))
    assert fetch(oracle, manifest, tmp_path) == MODEL
    assert injected.fired == fault.times


def test_bytes_that_do_not_match_the_md5_are_not_taken(oracle: OracleStore, tmp_path: Path) -> None:
    manifest = list_objects(source(oracle)).manifest
    wrong = bytes(len(MODEL["tokenizer/vocab.json"]))
    damaged = oracle.inject(Fault(path="/vocab.json", body=wrong, times=99))
    with pytest.raises(Corrupt) as error:
        fetch(oracle, manifest, tmp_path)
    assert error.value.reason == "ChecksumMismatch"
    assert damaged.fired > 1


def test_a_key_may_have_a_passphrase_and_come_as_a_configuration_file(oracle: OracleStore) -> None:
    assert list_objects(source(oracle, secret=oracle.secret("open sesame"))).manifest.files
    secret = oracle.secret()
    key = secret.pop("private_key")
    lines = [b"[DEFAULT]", *(name.encode() + b"=" + value for name, value in secret.items())]
    config = b"\n".join([*lines, b"key_file=~/.oci/api_key.pem"])
    assert list_objects(source(oracle, secret={"config": config, "api_key.pem": key})).manifest.files
    assert list_objects(source(oracle, secret={**secret, "key_content": key + b"\n"})).manifest.files


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"private_key": b""}, "'private_key'"),
        ({"user": b"", "tenancy": b""}, "'user' and no 'tenancy'"),
        ({"user": "ü".encode()}, "not text"),
        ({"config": b"no section"}, "configuration file"),
        ({"user": b"somebody"}, "malformed in: user"),
        ({"private_key": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"}, "private key"),
        ({"passphrase": b"wrong"}, "passphrase"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_in_words(
    oracle: OracleStore, change: dict[str, bytes], word: str
) -> None:
    secret = (oracle.secret("right") if "passphrase" in change else oracle.secret()) | change
    with pytest.raises((Invalid, InvalidValue)) as raised:
        list_objects(source(oracle, secret=secret))
    error = raised.value
    assert isinstance(error, Invalid | InvalidValue)
    assert error.reason == "InvalidParameter"
    assert word in error.message
    assert "c2VjcmV0" not in error.message
    assert oracle.requests == []


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"auth_type": "user_principal"}, "UserPrincipal"),
        ({"region": "https://evil"}, "parameters.region"),
        ({"endpoint": "file:///etc"}, "parameters.endpoint"),
        ({"endpoint": "https://user:secret@host"}, "parameters.endpoint"),
        ({"endpoint": "https://host/path"}, "parameters.endpoint"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused_in_words(
    oracle: OracleStore, parameters: dict[str, str], word: str
) -> None:
    with pytest.raises(InvalidValue, match=word) as error:
        source(oracle, secret=None, **parameters)
    assert error.value.reason == "InvalidParameter"
    assert "secret@" not in error.value.message


def test_the_way_to_authenticate_follows_from_the_secret_unless_it_is_named(oracle: OracleStore) -> None:
    uri, secret = uri_of(URI), oracle.secret()
    assert oracle_source(uri, {}, secret).auth_type is AuthType.USER_PRINCIPAL
    assert oracle_source(uri, {}, {}).auth_type is AuthType.INSTANCE_PRINCIPAL
    assert oracle_source(uri, {"auth_type": "ResourcePrincipal"}, secret).key is None
    assert "BEGIN" not in repr(oracle_source(uri, {}, secret))
    with pytest.raises(InvalidValue, match="region is missing"):
        oracle_source(uri, {}, {name: value for name, value in secret.items() if name != "region"})


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-frankfurt-1", "objectstorage.eu-frankfurt-1.oraclecloud.com"),
        ("us-langley-1", "objectstorage.us-langley-1.oraclegovcloud.com"),
    ],
)
def test_a_region_has_an_endpoint_in_its_realm(oracle: OracleStore, region: str, host: str) -> None:
    origin = OracleOrigin(oracle_source(uri_of(URI), {"region": region}, oracle.secret()))
    file = ManifestFile("a b/c+d.json", 1, ChecksumAlgorithm.NONE, "", "e-1")
    location = origin.locate(file, again=False)
    assert location.url == f"https://{host}/n/{NAMESPACE}/b/{BUCKET}/o/llama/tiny/a%20b/c%2Bd.json"
    assert location.headers.keys() == {"date", "authorization", "If-Match"}


def test_odd_names_are_signed_as_they_are_sent(oracle: OracleStore, tmp_path: Path) -> None:
    oracle.put("llama/tiny/ein Modell/größe+1 %41.json", b"{}")
    manifest = list_objects(source(oracle)).manifest
    assert fetch(oracle, manifest, tmp_path)["ein Modell/größe+1 %41.json"] == b"{}"


def test_a_resource_principal_signs_with_its_token(oracle: OracleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    of = source(oracle, auth_type="ResourcePrincipal", secret={})
    assert "OCI_RESOURCE_PRINCIPAL_VERSION" in refusal(of).message
    for name, value in oracle.resource_principal().items():
        monkeypatch.setenv(name, value)
    manifest = list_objects(of).manifest
    location = OracleOrigin(of).locate(manifest.files[0], again=True)
    assert 'keyId="ST$' in location.headers["authorization"]


@pytest.fixture
def identity(
    oracle: OracleStore, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OracleIdentity]:
    with OracleIdentity(oracle, tmp_path_factory.mktemp("identity")) as identity:
        for name, value in identity.environment().items():
            monkeypatch.setenv(name, value)
        yield identity


PRINCIPALS = pytest.mark.parametrize("auth_type", ["InstancePrincipal", "OkeWorkloadIdentity"])


@PRINCIPALS
def test_the_sdks_own_signers_get_an_identity_and_fetch_with_it(
    oracle: OracleStore, identity: OracleIdentity, tmp_path: Path, auth_type: str
) -> None:
    of = source(oracle, auth_type=auth_type, secret={})
    manifest = list_objects(of).manifest
    with new_store(tmp_path) as store:
        acquire(store, manifest, OracleOrigin(of), StopFlag(), limits=PATIENT)
        assert contents_of(store.artifact_path(manifest.digest)) == MODEL
    assert {request.status for request in oracle.requests} <= {200, 206}
    assert all('keyId="ST$' in request.headers["authorization"] for request in oracle.requests)
    # One for the listing and one for the transfer, however many requests they sign.
    assert identity.exchanged == 2


@PRINCIPALS
def test_a_token_that_is_revoked_in_the_middle_is_exchanged_anew(
    oracle: OracleStore, identity: OracleIdentity, tmp_path: Path, auth_type: str
) -> None:
    of = source(oracle, auth_type=auth_type, secret={})
    manifest = list_objects(of).manifest
    revoked = oracle.inject(Fault(path="/model.safetensors", skip=5, act=oracle.revoke))
    with new_store(tmp_path) as store:
        acquire(store, manifest, OracleOrigin(of), StopFlag(), limits=PATIENT)
        assert contents_of(store.artifact_path(manifest.digest)) == MODEL
    assert revoked.fired == 1
    assert 401 in {request.status for request in oracle.requested(WEIGHTS)}
    assert identity.exchanged == 3


@PRINCIPALS
def test_the_region_of_a_principal_is_the_one_that_is_asked(identity: OracleIdentity, auth_type: str) -> None:
    origin = OracleOrigin(oracle_source(uri_of(URI), {"auth_type": auth_type}, {}))
    location = origin.locate(ManifestFile("a", 1, ChecksumAlgorithm.NONE, ""), again=False)
    assert location.url.startswith("https://objectstorage.us-phoenix-1.oraclecloud.com/n/")


@PRINCIPALS
@pytest.mark.parametrize(
    ("status", "code", "kind", "word"),
    [
        (401, "NotAuthenticated", Missing, "policies"),
        (403, "NotAuthorized", Missing, "policies"),
        (429, "TooManyRequests", Unavailable, "HTTP 429"),
        (500, "InternalServerError", Unavailable, "HTTP 500"),
    ],
)
def test_an_identity_that_is_refused_is_asked_for_once_each_time(
    oracle: OracleStore,
    identity: OracleIdentity,
    auth_type: str,
    status: int,
    code: str,
    kind: type[ServiceError],
    word: str,
) -> None:
    of = source(oracle, auth_type=auth_type, secret={})
    identity.refuse(status, code)
    # More often than the SDK's circuit breaker would let through.
    for _ in range(5):
        error = refusal(of)
        assert isinstance(error, kind)
        assert word in error.message
    assert identity.refused == 5
    assert oracle.listings() == []
    identity.relent()
    assert list_objects(of).manifest.files


def test_an_instance_principal_needs_a_node_of_oracles(oracle: OracleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    of = source(oracle, auth_type="InstancePrincipal", secret={})
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("OCI_METADATA_BASE_URL", nobody)
    unreachable = refusal(of)
    assert isinstance(unreachable, Unavailable)
    assert "InstancePrincipal does not work on this node: Instance principals" in unreachable.message
    assert oracle.listings() == []


def test_a_workload_identity_needs_a_pod(oracle: OracleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    error = refusal(source(oracle, auth_type="OkeWorkloadIdentity", secret={}))
    assert isinstance(error, Unavailable)
    assert "OkeWorkloadIdentity does not work on this node: Kubernetes service host" in error.message
