"""The Hugging Face adapter against a hub that speaks the real API."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm
from libs.artifact.reasons import Reason
from libs.artifact.uri import HuggingFaceUri, parse_uri
from libs.chassis.errors import Missing, ServiceError, Unavailable
from services.fetcher.sources.hub.huggingface import list_revision, xet_hashes
from services.fetcher.sources.hub.source import HubOrigin, HubSource, Transport, hub_source
from tests.contract.sources.suite import PAUSE_SECONDS, Access, Ground, SourceSuite, Trouble, closed_endpoint
from tests.support.hub import Fault, Hub
from tests.support.hub.xet import xet_hash
from tests.support.one_answer import Answer, answering

MODEL = "acme/tiny"
WEIGHTS = bytes(range(256)) * 40
FILES: dict[str, bytes | str] = {
    "config.json": '{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS,
    "nested/notes.txt": "hello\n",
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(cache_dir=tmp_path / "cache") as hub:
        hub.add_model(MODEL, FILES)
        hub.add_token("hf_reader", [MODEL])
        hub.add_token("hf_other")
        yield hub


class HubGround:
    """Private repositories, and a token that may read them."""

    tells_pauses = True
    takes_any_parameter = False
    secrets = ("hf_reader", "hf_revoked")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._paths: dict[str, set[str]] = {}

    @property
    def access(self) -> Access:
        return Access(credentials={"token": b"hf_reader"}, settings={"hf_endpoint": self._hub.endpoint})

    @property
    def wrong_access(self) -> Access:
        return replace(self.access, credentials={"token": b"hf_revoked"})

    @property
    def away(self) -> Access:
        return replace(self.access, settings={"hf_endpoint": closed_endpoint()})

    def uri(self, name: str) -> str:
        return f"hf://{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        if name in self._paths:
            self._hub.push(name, contents, delete=sorted(self._paths[name] - contents.keys()))
        else:
            self._hub.add_model(name, contents, private=True)
        self._paths[name] = set(contents)
        self._hub.add_token("hf_reader", [name])

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        pause = str(PAUSE_SECONDS) if status == 429 else ""
        fault = self._hub.inject(Fault("status", path="/api/models/*", status=status, retry_after=pause))
        yield Trouble(self.access, lambda: fault.fired)
        fault.remove()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with Hub(cache_dir=tmp_path / "cache") as hub:
        yield HubGround(hub)


class TestHuggingFace(SourceSuite):
    """hf:// is a source like every other."""


def source(hub: Hub, uri: str = f"hf://{MODEL}", token: str = "", **parameters: str) -> HubSource:
    parsed = parse_uri(uri)
    assert isinstance(parsed, HuggingFaceUri)
    return hub_source(parsed, parameters, {"token": token.encode()} if token else {}, hub.endpoint)


def refusal(of: HubSource) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        list_revision(of)
    return raised.value


def test_a_revision_is_listed_with_commit_sizes_and_checksums(hub: Hub) -> None:
    commit = hub.push(MODEL, {"README.md": "# tiny\n"})
    listing = list_revision(source(hub))
    assert listing.commit == listing.manifest.source_revision == commit
    assert listing.warnings == ()
    files = {file.path: file for file in listing.manifest.files}
    assert list(files) == ["README.md", "config.json", "model.safetensors", "nested/notes.txt"]
    weights, notes = files["model.safetensors"], files["nested/notes.txt"]
    assert (weights.algorithm, weights.size_bytes) == (ChecksumAlgorithm.SHA256, len(WEIGHTS))
    assert weights.checksum == hashlib.sha256(WEIGHTS).hexdigest()
    assert (notes.algorithm, notes.size_bytes) == (ChecksumAlgorithm.GIT_SHA1, 6)
    # printf 'hello\n' | git hash-object --stdin
    assert notes.checksum == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_tree_is_listed_at_the_commit_not_at_the_branch(hub: Hub) -> None:
    commit = list_revision(source(hub)).commit
    (request,) = hub.requests(f"/api/models/{MODEL}/tree/*")
    assert request.path.endswith(commit)


@pytest.mark.parametrize("name", ["experiments/a", "v1"])
def test_branches_tags_and_commits_are_resolved(hub: Hub, name: str) -> None:
    hub.tag(MODEL, "v1")
    first = list_revision(source(hub)).commit
    second = hub.push(MODEL, {"extra.txt": "e"}, branch="experiments/a")
    hub.push(MODEL, {"later.txt": "l"})
    expected = {"v1": first, "experiments/a": second}[name]
    assert list_revision(source(hub, f"hf://{MODEL}@{name}")).commit == expected
    assert list_revision(source(hub, revision=name)).commit == expected
    assert list_revision(source(hub, f"hf://{MODEL}@{expected}")).commit == expected


def test_equal_files_at_two_commits_are_one_artifact(hub: Hub) -> None:
    first = list_revision(source(hub))
    hub.push(MODEL, {"extra.txt": "e"})
    hub.push(MODEL, {}, delete=["extra.txt"])
    second = list_revision(source(hub))
    assert first.commit != second.commit
    assert first.manifest.digest == second.manifest.digest


def test_a_listing_of_many_pages_is_complete(hub: Hub) -> None:
    hub.add_model("acme/many", {f"part-{number:03d}.txt": str(number) for number in range(25)})
    hub.configure(page_size=10)
    assert len(list_revision(source(hub, "hf://acme/many")).manifest.files) == 25


def test_what_is_missing_is_named(hub: Hub) -> None:
    for of, word in (
        (source(hub, "hf://acme/nothing"), "storage.storageKey"),
        (source(hub, "hf://acme/nothing", token="hf_other"), "check storageUri"),
        (source(hub, f"hf://{MODEL}@nothing"), "no revision 'nothing'"),
    ):
        error = refusal(of)
        assert isinstance(error, Missing)
        assert error.reason == "NotFound"
        assert word in error.message


@pytest.mark.parametrize("listing_gated", [False, True])
def test_a_gated_repository_says_what_to_do_before_any_node_is_sent_to_it(hub: Hub, listing_gated: bool) -> None:
    hub.set_access(MODEL, gated="manual", listing_gated=listing_gated)
    anonymous = refusal(source(hub))
    assert isinstance(anonymous, Missing)
    assert anonymous.reason == "Gated"
    assert "storage.storageKey" in anonymous.message
    stranger = refusal(source(hub, token="hf_other"))
    assert stranger.reason == "Gated"
    assert f"{hub.endpoint}/{MODEL}" in stranger.message
    assert list_revision(source(hub, token="hf_reader")).manifest.files


def test_a_private_repository_is_listed_with_its_token_only(hub: Hub) -> None:
    hub.set_access(MODEL, private=True)
    assert refusal(source(hub)).reason == "NotFound"
    assert refusal(source(hub, token="hf_other")).reason == "NotFound"
    assert list_revision(source(hub, token="hf_reader")).manifest.files


def test_a_bad_token_and_a_disabled_repository_are_forbidden(hub: Hub) -> None:
    revoked = refusal(source(hub, token="hf_revoked"))
    assert isinstance(revoked, Missing)
    assert revoked.reason == "Forbidden"
    assert "Secret" in revoked.message
    assert "hf_revoked" not in revoked.message
    hub.set_access(MODEL, disabled=True)
    assert refusal(source(hub)).reason == "Forbidden"


@pytest.mark.parametrize("path", ["/api/models/acme/tiny", "/api/models/acme/tiny/tree/*"])
@pytest.mark.parametrize(
    ("fault", "reason", "pause"),
    [
        (Fault("status", status=429, retry_after="7"), "RateLimited", 7),
        (Fault("status", status=500), "Unavailable", None),
        (Fault("status", status=502), "Unavailable", None),
        (Fault("status", status=503, retry_after="3"), "Unavailable", 3),
        (Fault("status", status=504), "Unavailable", None),
        (Fault("reset"), "Unavailable", None),
        (Fault("cut", after_bytes=10), "Unavailable", None),
        (Fault("corrupt", offset=0), "Unavailable", None),
        (Fault("redirect"), "Unavailable", None),
    ],
    ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else "",
)
def test_a_hub_in_trouble_is_unavailable_and_asked_once(
    hub: Hub, path: str, fault: Fault, reason: str, pause: float | None
) -> None:
    injected = hub.inject(Fault(**{**vars(fault), "path": path}))
    error = refusal(source(hub))
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after_seconds) == (reason, pause)
    # The SDK gives up a loop of redirects after 20; anything else is one request.
    assert injected.fired == (21 if fault.kind == "redirect" else 1)
    injected.remove()
    assert list_revision(source(hub)).manifest.files


def test_an_exhausted_quota_gives_the_pause_of_the_rate_limit_headers(hub: Hub) -> None:
    hub.configure(api_quota=1)
    error = refusal(source(hub))
    assert isinstance(error, Unavailable)
    assert error.reason == "RateLimited"
    assert error.retry_after_seconds is not None
    assert 200 < error.retry_after_seconds <= 300
    assert "token" in error.message


def test_an_endpoint_where_nobody_listens_is_unavailable(hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = refusal(source(hub, endpoint=f"http://127.0.0.1:{port}"))
    assert isinstance(error, Unavailable)
    assert str(port) in error.message


def test_an_endpoint_that_is_no_hub_is_told_so(hub: Hub) -> None:
    with answering(lambda _path: (200, {}, b"<html>log in</html>")) as (endpoint, _):
        error = refusal(source(hub, endpoint=endpoint))
    assert isinstance(error, Unavailable)
    assert "proxies" in error.message


def test_a_mirror_that_hands_out_the_public_hubs_pages_is_asked_for_them_itself(hub: Hub) -> None:
    answers = _pages_of_a_mirror("https://huggingface.co")
    with answering(answers) as (endpoint, _):
        listing = list_revision(source(hub, endpoint=f"{endpoint}/mirror", token="hf_secret"))
    assert [file.path for file in listing.manifest.files] == ["a.txt", "b.txt"]


def test_a_listing_that_continues_elsewhere_is_not_followed(hub: Hub) -> None:
    error = None
    with answering(_pages_of_a_mirror(hub.endpoint)) as (endpoint, _):
        error = refusal(source(hub, endpoint=endpoint, token="hf_secret"))
    assert isinstance(error, Unavailable)
    assert "continues" in error.message
    assert hub.requests() == []


def test_an_unsafe_listing_is_refused(hub: Hub) -> None:
    with (
        answering(_pages_of_a_mirror("https://huggingface.co", second="../evil")) as (endpoint, _),
        pytest.raises(InvalidValue) as error,
    ):
        list_revision(source(hub, endpoint=f"{endpoint}/mirror"))
    assert error.value.reason == "InvalidListing"


def test_every_request_of_a_fresh_process_goes_to_the_endpoint_of_the_model(hub: Hub, tmp_path: Path) -> None:
    """As in a cluster without a way to the public hub, where a request to it would hang."""
    program = (
        "import sys\n"
        "from services.fetcher.sources.hub.source import HubSource\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "from services.fetcher.sources.hub.huggingface import list_revision\n"
        f"print(list_revision(HubSource({MODEL!r}, '', {hub.endpoint!r})).commit)\n"
    )
    with Hub(cache_dir=tmp_path / "other") as public:
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "proto")),
            "HF_ENDPOINT": public.endpoint,
            "HF_TOKEN": "hf_of_the_machine",
            "HF_HOME": str(tmp_path / "home"),
        }
        output = subprocess.run(
            [sys.executable, "-c", program], env=environ, cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        assert public.requests() == []
    assert output.strip() == list_revision(source(hub)).commit
    assert not any(request.authorized for request in hub.requests())
    assert not (tmp_path / "home").exists()


def test_an_origin_leads_to_the_bytes_of_the_commit(hub: Hub) -> None:
    listing = list_revision(source(hub))
    hub.push(MODEL, {"nested/notes.txt": "changed\n"})
    origin = HubOrigin(source(hub, token="hf_reader"), listing.commit)
    notes = next(file for file in listing.manifest.files if file.path == "nested/notes.txt")
    location = origin.locate(notes, again=False)
    assert location.url == f"{hub.endpoint}/{MODEL}/resolve/{listing.commit}/nested/notes.txt"
    assert location.headers == {"Authorization": "Bearer hf_reader"}
    assert origin.name == f"hf://{MODEL}"
    assert "hf_reader" not in repr(location)
    assert "hf_reader" not in repr(source(hub, token="hf_reader"))


@pytest.mark.parametrize(
    ("uri", "parameters", "token", "word"),
    [
        (f"hf://{MODEL}@v1", {"revision": "v2"}, b"", "one place"),
        (f"hf://{MODEL}", {"revision": "../x"}, b"", "parameters.revision"),
        (f"hf://{MODEL}", {"endpoint": "file:///etc"}, b"", "parameters.endpoint"),
        (f"hf://{MODEL}", {"endpoint": "https://user:secret@hub"}, b"", "Secret"),
        (f"hf://{MODEL}", {"transport": "torrent"}, b"", "write auto, http, xet"),
        (f"hf://{MODEL}", {}, b"hf_x\r\nX-Evil: 1", "storage.storageKey"),
        (f"hf://{MODEL}", {}, "hf_ü".encode(), "storage.storageKey"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused_in_words(
    uri: str, parameters: dict[str, str], token: bytes, word: str
) -> None:
    parsed = parse_uri(uri)
    assert isinstance(parsed, HuggingFaceUri)
    with pytest.raises(InvalidValue, match=word) as error:
        hub_source(parsed, parameters, {"token": token}, "https://huggingface.co")
    assert error.value.reason == "InvalidParameter"
    assert "secret@" not in error.value.message


def test_a_token_may_end_with_a_line_as_files_do() -> None:
    parsed = HuggingFaceUri(MODEL, "")
    found = hub_source(
        parsed, {"cache_dir": "/tmp/x", "revision": "main"}, {"token": b"hf_x\n"}, "https://hub.example/"
    )
    assert (found.token, found.endpoint, found.revision) == ("hf_x", "https://hub.example", "main")
    assert hub_source(parsed, {}, {"token": b"\n"}, "https://hub.example").token is None


def test_a_model_may_choose_another_transport_than_the_fetchers() -> None:
    parsed = HuggingFaceUri(MODEL, "")
    assert hub_source(parsed, {}, {}, "https://hub.example").transport is Transport.AUTO
    assert hub_source(parsed, {}, {}, "https://hub.example", Transport.XET).transport is Transport.XET
    assert (
        hub_source(parsed, {"transport": "http"}, {}, "https://hub.example", Transport.XET).transport is Transport.HTTP
    )


def test_names_in_xet_storage_are_listed_where_the_hub_has_them(hub: Hub) -> None:
    commit = list_revision(source(hub)).commit
    assert xet_hashes(source(hub), commit) == {}
    hub.configure(xet=True, page_size=2)
    listed = xet_hashes(source(hub), commit)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert listed == {(path, digest): xet_hash(digest) for path in ("model.safetensors", "pytorch_model.bin")}


def _pages_of_a_mirror(next_host: str, second: str = "b.txt") -> Answer:
    commit = "c" * 40

    def entry(path: str) -> list[dict[str, object]]:
        return [{"type": "file", "path": path, "size": 1, "oid": "d" * 40}]

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        path = path.removeprefix("/mirror")
        if path == f"/api/models/{MODEL}":
            return 200, {}, json.dumps({"id": MODEL, "sha": commit}).encode()
        if "cursor" in path:
            return 200, {}, json.dumps(entry(second)).encode()
        link = f'<{next_host}/api/models/{MODEL}/tree/{commit}?recursive=true&cursor=x>; rel="next"'
        return 200, {"Link": link}, json.dumps(entry("a.txt")).encode()

    return answer


@pytest.mark.parametrize(
    ("change", "token", "reason", "words"),
    [
        ("deleted", None, Reason.NOT_FOUND, "its repository is gone or private"),
        ("deleted", b"hf_reader", Reason.NOT_FOUND, "gone, or the owner of the token may not see it"),
        ("private", None, Reason.NOT_FOUND, "if it is private, name a Secret that holds a token"),
        ("private", b"hf_other", Reason.NOT_FOUND, "what the token may read"),
        ("gated", None, Reason.GATED, "accept its terms with an account, and name a Secret"),
        ("gated", b"hf_other", Reason.GATED, "the account that the token belongs to"),
    ],
)
async def test_a_repository_that_went_after_it_was_listed_is_what_is_said_to_be_missing(
    change: str, token: bytes | None, reason: Reason, words: str, hub: Hub, tmp_path: Path
) -> None:
    access = Access(credentials={"token": token} if token else {}, settings={"hf_endpoint": hub.endpoint})
    manifest = await access.list(f"hf://{MODEL}")
    if change == "deleted":
        hub.delete_model(MODEL)
    else:
        hub.set_access(MODEL, private=change == "private", gated=change == "gated")

    with pytest.raises(Missing) as refused:
        await access.fetch(f"hf://{MODEL}", manifest, tmp_path / "models")

    assert refused.value.reason == reason
    assert words in refused.value.message
    assert "does not exist" not in refused.value.message
