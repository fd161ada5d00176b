"""ModelScope as a source: its listing, its commits, its two ways to send files, and its refusals."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm
from libs.artifact.uri import ModelScopeUri
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.modelscope.listing import list_revision
from services.fetcher.sources.modelscope.source import ModelScopeOrigin, ModelScopeSource, modelscope_source
from services.fetcher.stop import StopFlag, Stopped
from tests.contract.sources.suite import (
    MODEL,
    PAUSE_SECONDS,
    Access,
    Ground,
    SourceSuite,
    Trouble,
    closed_endpoint,
)
from tests.support.modelscope import ModelScope
from tests.support.one_answer import answering

TOKEN, REVOKED = "ms-of-a-reader", "ms-of-nobody"
NAME = "acme/tiny"


class ModelScopeGround:
    """Private repositories, and a token that may read them."""

    tells_pauses = True
    takes_any_parameter = False
    secrets = (TOKEN, REVOKED)

    def __init__(self, hub: ModelScope) -> None:
        self._hub = hub

    @property
    def access(self) -> Access:
        return Access(credentials={"token": TOKEN.encode()}, settings={"modelscope_endpoint": self._hub.endpoint})

    @property
    def wrong_access(self) -> Access:
        return replace(self.access, credentials={"token": REVOKED.encode()})

    @property
    def away(self) -> Access:
        return replace(self.access, settings={"modelscope_endpoint": closed_endpoint()})

    def uri(self, name: str) -> str:
        return f"ms://{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        self._hub.push(name, contents, private=True)
        self._hub.add_token(TOKEN, [name])

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        headers = {"Retry_After": str(PAUSE_SECONDS)} if status == 429 else {}
        with self._hub.refusing("/repo/files", status, **headers) as refused:
            yield Trouble(self.access, lambda: len(refused))


@pytest.fixture
def hub() -> Iterator[ModelScope]:
    with ModelScope() as hub:
        yield hub


@pytest.fixture(params=[True, False], ids=["large files redirected", "all files from the hub"])
def ground(hub: ModelScope, request: pytest.FixtureRequest) -> Ground:
    hub.redirects = request.param
    return ModelScopeGround(hub)


class TestModelScope(SourceSuite):
    """ms:// is a source like every other."""


def source(hub: ModelScope, token: str = "", revision: str = "", **parameters: str) -> ModelScopeSource:
    credentials = {"token": token.encode()} if token else {}
    return modelscope_source(ModelScopeUri(NAME, revision), parameters, credentials, hub.endpoint)


def refusal(of: ModelScopeSource) -> ServiceError | InvalidValue:
    with pytest.raises((ServiceError, InvalidValue)) as raised:
        list_revision(of, StopFlag())
    assert isinstance(raised.value, ServiceError | InvalidValue)
    return raised.value


def test_every_file_is_listed_with_its_sha256(hub: ModelScope) -> None:
    hub.push(NAME, MODEL)
    files = list_revision(source(hub), StopFlag()).manifest.files
    assert {file.path: (file.algorithm, file.checksum) for file in files} == {
        path: (ChecksumAlgorithm.SHA256, hashlib.sha256(content).hexdigest()) for path, content in MODEL.items()
    }
    assert [request.path for request in hub.requests] == [f"/api/v1/models/{NAME}/repo/files"]


@pytest.mark.parametrize("named", [("ShortId",), ("Id",), ("Id", "ShortId")], ids=" ".join)
def test_a_branch_is_listed_at_the_commit_that_it_stands_for(hub: ModelScope, named: Collection[str]) -> None:
    hub.commit_fields = named
    hub.push(NAME, {"config.json": b"{}", "a.txt": b"a"})
    commit = hub.push(NAME, {"config.json": b"{}", "a.txt": b"b"})
    for of in (source(hub), source(hub, revision="master"), source(hub, revision=commit)):
        assert list_revision(of, StopFlag()).manifest.source_revision == commit


def test_a_branch_whose_commit_is_not_named_is_fetched_by_its_own_name(hub: ModelScope) -> None:
    hub.push(NAME, {"config.json": b"{}", "a.txt": b"a"})
    # A commit that only deletes is named by no file, and its beginning alone could be that of another.
    hub.push(NAME, {"config.json": b"{}"})
    manifest = list_revision(source(hub), StopFlag()).manifest
    assert manifest.source_revision == "master"
    assert [file.path for file in manifest.files] == ["config.json"]


def test_branches_and_parameters_name_a_revision(hub: ModelScope) -> None:
    first = hub.push(NAME, {"config.json": b"{}"})
    second = hub.push(NAME, {"config.json": b"[]"}, branch="v1.0")
    for of, commit in (
        (source(hub), first),
        (source(hub, revision="v1.0"), second),
        (modelscope_source(ModelScopeUri(NAME, ""), {"revision": "v1.0"}, {}, hub.endpoint), second),
    ):
        assert list_revision(of, StopFlag()).manifest.source_revision == commit


def test_a_revision_that_does_not_exist_is_missing_although_the_hub_says_success(hub: ModelScope) -> None:
    hub.push(NAME, {"config.json": b"{}"})
    error = refusal(source(hub, revision="v9"))
    assert isinstance(error, Missing)
    assert error.reason == "NotFound"
    assert "no revision 'v9'" in error.message


async def test_a_range_that_comes_with_the_status_of_a_whole_file_is_taken_for_what_it_is(
    hub: ModelScope, tmp_path: Path
) -> None:
    hub.redirects = False
    hub.push(NAME, MODEL)
    access = Access(settings={"modelscope_endpoint": hub.endpoint})
    assert await access.fetch(f"ms://{NAME}", await access.list(f"ms://{NAME}"), tmp_path) == MODEL
    ranges = [request for request in hub.requests if "range" in request.headers]
    assert len(ranges) > 10
    assert {request.status for request in ranges} == {200}


async def test_the_token_stays_with_the_hub(hub: ModelScope, tmp_path: Path) -> None:
    hub.push(NAME, MODEL, private=True)
    hub.add_token(TOKEN, [NAME])
    access = Access(credentials={"token": f"{TOKEN}\n".encode()}, settings={"modelscope_endpoint": hub.endpoint})
    assert await access.fetch(f"ms://{NAME}", await access.list(f"ms://{NAME}"), tmp_path) == MODEL
    asked = {request.path.startswith("/api/"): "authorization" in request.headers for request in hub.requests}
    assert asked == {True: True, False: False}


async def test_an_endpoint_of_a_model_comes_before_the_fetchers(hub: ModelScope) -> None:
    hub.push(NAME, MODEL)
    access = Access(settings={"modelscope_endpoint": closed_endpoint()})
    assert (await access.list(f"ms://{NAME}", endpoint=f"{hub.endpoint}/")).files


@pytest.mark.parametrize(
    ("status", "token", "kind", "reason", "word"),
    [
        (400, "", Invalid, "InvalidUri", "check storageUri"),
        (401, "", Missing, "Forbidden", "create a Secret"),
        (401, TOKEN, Missing, "Forbidden", "replace it in the Secret"),
        (403, "", Missing, "Forbidden", "create a Secret"),
        (403, TOKEN, Missing, "Forbidden", "has not been granted access"),
        (404, "", Missing, "NotFound", "if it is private, create a Secret"),
        (404, TOKEN, Missing, "NotFound", "check storageUri"),
        (429, "", Unavailable, "RateLimited", "slow down"),
        (302, "", Unavailable, "Unavailable", "not followed"),
        (500, "", Unavailable, "Unavailable", "answers 500"),
        (503, "", Unavailable, "Unavailable", "answers 503"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(
    hub: ModelScope, status: int, token: str, kind: type[ServiceError], reason: str, word: str
) -> None:
    with hub.refusing("/repo/files", status, Retry_After="9") as refused:
        error = refusal(source(hub, token))
    assert len(refused) == 1
    assert isinstance(error, kind)
    assert (error.reason, word in error.message) == (reason, True)
    assert f"ms://{NAME}" in error.message
    assert TOKEN not in error.message
    if isinstance(error, Unavailable) and status != 302:
        assert error.retry_after_seconds == 9


@pytest.mark.parametrize(
    ("document", "reason", "word"),
    [
        (b"<html>log in</html>", "Unavailable", "no JSON object"),
        (b"[]", "Unavailable", "no JSON object"),
        (b'{"Code": 404, "Success": false}', "NotFound", "does not exist"),
        (b'{"Code": 10010205001, "Success": false}', "Unavailable", "answers 10010205001"),
        (b'{"Code": 200}', "Unavailable", "does not answer as ModelScope does"),
        (b'{"Code": 200, "Data": {"Files": {}}}', "Unavailable", "does not answer as ModelScope does"),
        (b'{"Code": 200, "Data": {"Files": [5]}}', "Unavailable", "does not answer as ModelScope does"),
        (b'{"Code": 200, "Data": {"Files": [{"Path": "a"}]}}', "InvalidListing", "without its size"),
        (b'{"Code": 200, "Data": {"Files": [{"Path": "a", "Size": 1}]}}', "InvalidListing", "without its SHA-256"),
        (b'{"Code": 200, "Data": {"Files": [{"Path": "a"}, {"Path": "a"}]}}', "InvalidListing", "twice"),
        (
            b'{"Code": 200, "Data": {"Files": [{"Path": "../a", "Size": 1, "Sha256": "%s"}]}}' % (b"A" * 64),
            "InvalidListing",
            "not created",
        ),
    ],
)
def test_a_listing_that_cannot_be_used_is_refused_with_the_place(document: bytes, reason: str, word: str) -> None:
    with answering(lambda _target: (200, {}, document)) as (endpoint, _):
        error = refusal(modelscope_source(ModelScopeUri(NAME, ""), {}, {}, endpoint))
    assert error.reason == reason
    assert word in error.message


@pytest.mark.parametrize(
    ("revision", "parameters", "token", "word"),
    [
        ("v1", {"revision": "v2"}, b"", "one place"),
        ("", {"revision": "../x"}, b"", "parameters.revision"),
        ("", {"endpoint": "ftp://hub"}, b"", "must be a URL"),
        ("", {"endpoint": "https://hub:99999"}, b"", "must be a URL"),
        ("", {"endpoint": "https://me:canary@hub"}, b"", "into a Secret"),
        ("", {}, b"ms-canary\r\nX: 1", "holds no token of ModelScope"),
        ("", {}, b"ms-canary;x", "semicolons"),
        ("", {}, b"\xff", "holds no token of ModelScope"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    revision: str, parameters: dict[str, str], token: bytes, word: str
) -> None:
    with pytest.raises(InvalidValue, match=word) as raised:
        modelscope_source(ModelScopeUri(NAME, revision), parameters, {"token": token}, "https://www.modelscope.cn")
    assert raised.value.reason == "InvalidParameter"
    assert "canary" not in raised.value.message


def test_addresses_are_those_of_the_api_and_odd_names_stay_in_them() -> None:
    of = modelscope_source(ModelScopeUri(NAME, "v1+x"), {}, {}, "https://www.modelscope.cn/")
    base = "https://www.modelscope.cn/api/v1/models/acme/tiny"
    assert of.listing_url == f"{base}/repo/files?Revision=v1%2Bx&Recursive=True"
    assert of.file_url("a b/c&d=#.txt", "c" * 40) == f"{base}/repo?Revision={'c' * 40}&FilePath=a+b%2Fc%26d%3D%23.txt"
    assert ModelScopeOrigin(of, "v1").name == "ms://acme/tiny"


def test_a_listing_ends_with_the_process(hub: ModelScope) -> None:
    hub.push(NAME, MODEL)
    stop = StopFlag()
    stop.set()
    with pytest.raises(Stopped):
        list_revision(source(hub), stop)
