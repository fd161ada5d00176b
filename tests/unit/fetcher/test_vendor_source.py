"""A vendor's model: addresses that a user cannot lead astray, and secrets that go where they should."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.uri import VendorUri
from libs.chassis.errors import Missing
from services.fetcher.sources.vendor.drivers import ExecDriver, HttpDriver
from services.fetcher.sources.vendor.source import exec_source, http_source

URI = VendorUri("acme", "models", "team/llama")
BASE = "https://models.acme.com:8443"
# What a part of a URI may hold: the rest is refused by parse_uri, or by the manifest.
PARTS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1).filter(
    lambda part: part not in (".", "..")
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


def file(path: str) -> ManifestFile:
    return ManifestFile(path, 1, ChecksumAlgorithm.NONE, "")


@given(PARTS, PATHS, PATHS, PARTS)
def test_whatever_a_model_is_called_its_files_stay_where_the_template_says(
    kind: str, path: str, name: str, revision: str
) -> None:
    driver = HttpDriver(
        f"{BASE}/api/{{type}}/{{path}}@{{revision}}/index?type={{type}}&path={{path}}&limit=5",
        f"{BASE}/files/{{vendor}}/{{type}}/{{revision}}/{{path}}/-/{{file}}",
    )
    source = http_source(VendorUri("acme", kind, path), {"revision": f"r{revision}".strip()}, {}, driver)
    index = urlsplit(source.index_url)
    assert f"{index.scheme}://{index.netloc}" == BASE
    assert index.path.startswith("/api/")
    assert index.path.endswith("/index")
    assert parse_qs(index.query) == {"type": [kind], "path": [path], "limit": ["5"]}
    assert index.fragment == ""

    found = urlsplit(source.file_url(file(name), "main"))
    assert f"{found.scheme}://{found.netloc}" == BASE
    assert [unquote(part) for part in found.path.split("/")] == [
        "", "files", "acme", kind, "main", *path.split("/"), "-", *name.split("/"),
    ]  # fmt: skip
    assert (found.query, found.fragment) == ("", "")
    assert source.index_url.isascii()
    assert source.index_url.isprintable()


@pytest.mark.parametrize(
    ("uri", "index"),
    [
        (VendorUri("acme", "..", "m"), f"{BASE}/a/{{type}}/{{path}}"),
        (VendorUri("acme", ".", "m"), f"{BASE}/a/{{type}}/{{path}}"),
        (VendorUri("acme", ".", "m"), f"{BASE}/a/.{{type}}/{{path}}"),
        (VendorUri("..", "models", "m"), f"{BASE}/{{vendor}}/{{path}}"),
    ],
)
def test_a_part_that_climbs_is_refused(uri: VendorUri, index: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        _ = http_source(uri, {}, {}, HttpDriver(index)).index_url
    assert raised.value.reason == "InvalidUri"


def test_a_file_is_addressed_by_the_listed_revision_and_else_by_the_asked_one() -> None:
    driver = HttpDriver(f"{BASE}/{{path}}@{{revision}}", f"{BASE}/{{revision}}/{{file}}")
    source = http_source(URI, {"revision": "main"}, {}, driver)
    assert source.file_url(file("a"), "c0ffee") == f"{BASE}/c0ffee/a"
    assert source.file_url(file("a"), "") == f"{BASE}/main/a"
    unnamed = http_source(URI, {}, {}, HttpDriver(f"{BASE}/{{path}}", f"{BASE}/{{revision}}/{{file}}"))
    with pytest.raises(InvalidValue, match="names no 'revision'") as raised:
        unnamed.file_url(file("a"), "")
    assert raised.value.reason == "InvalidListing"


@pytest.mark.parametrize(
    ("index", "parameters", "sentence"),
    [
        (f"{BASE}/{{path}}", {"region": "eu"}, "parameters.region does not exist for vendor acme"),
        (f"{BASE}/{{path}}", {"revision": "main"}, "parameters.revision is 'main', but"),
        (f"{BASE}/{{path}}@{{revision}}", {}, "parameters.revision is missing"),
        (f"{BASE}/{{path}}@{{revision}}", {"revision": " "}, "parameters.revision is missing"),
    ],
)
def test_a_parameter_that_has_no_effect_is_refused(index: str, parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence) as raised:
        http_source(URI, parameters, {}, HttpDriver(index))
    assert raised.value.reason == "InvalidParameter"


HEADERS = {"Authorization": "Bearer {secret:token}", "X-Pair": "{secret:user}:{secret:token}", "X-Plain": "yes"}
DRIVER = HttpDriver(f"{BASE}/{{path}}", headers=HEADERS)


def test_headers_take_their_secrets_from_the_keys_of_the_secret() -> None:
    source = http_source(URI, {}, {"token": b"s3cret\n", "user": b"me", "other": b"\xff"}, DRIVER)
    assert source.headers == {"Authorization": "Bearer s3cret", "X-Pair": "me:s3cret", "X-Plain": "yes"}
    assert "s3cret" not in repr(source)


def test_without_a_secret_the_headers_that_need_one_are_left_out() -> None:
    assert http_source(URI, {}, {}, DRIVER).headers == {"X-Plain": "yes"}


def test_a_key_that_the_secret_lacks_is_named() -> None:
    with pytest.raises(Missing, match="no key 'user', which vendor acme wants") as raised:
        http_source(URI, {}, {"token": b"s3cret"}, DRIVER)
    assert raised.value.reason == "SecretNotFound"


@pytest.mark.parametrize("value", [b"", b"\n", b"a\r\nHost: evil", b"a\0", "schlüssel".encode(), b"\xff"])
def test_a_value_that_is_no_header_is_refused_without_being_shown(value: bytes) -> None:
    with pytest.raises(InvalidValue, match=r"'token'.*one line of ASCII") as raised:
        http_source(URI, {}, {"token": value, "user": b"me"}, DRIVER)
    assert raised.value.reason == "InvalidParameter"
    assert "evil" not in raised.value.message


def test_words_of_a_program_lose_every_form_of_a_secret() -> None:
    source = exec_source(URI, {}, {"token": b"s3cret\n", "short": b"on"}, ExecDriver(("/opt/driver",)))
    assert source.without_secrets("s3cret, czNjcmV0Cg== and on") == "***, *** and on"
    assert "s3cret" not in repr(source)
