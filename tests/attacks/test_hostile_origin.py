"""A tenant's model names a source, and the source names others: none of them is a way into the cluster or the machine.

What stands for the inside is a server on this machine. Nothing may reach it, whichever client would have asked.
"""

import asyncio
import base64
import gc
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.chassis.errors import ServiceError
from services.fetcher.settings import SourceSettings
from services.fetcher.sources.catalogue import Sources
from services.fetcher.sources.evidence import read_files
from services.fetcher.stop import StopFlag
from services.fetcher.store.scopes import claimant_of
from services.fetcher.transfer import acquire as acquiring
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.gate import Gate
from tests.support.hub import Hub, generated_model
from tests.support.one_answer import answering
from tests.support.oracle_store import OracleStore
from tests.support.origin import OriginServer
from tests.support.transfers import QUICK, UrlOrigin, acquire, manifest_of, new_store, serve, small_model

SECRET_OF_THE_INSIDE = b'{"message": "root password: hunter2hunter2", "aws": "credentials of the node"}'


@pytest.fixture
def inside() -> Iterator[tuple[str, list[str]]]:
    """The URL of a service that only the cluster's own should reach, and what it was asked for."""
    with answering(lambda _: (200, {"Content-Type": "application/json"}, SECRET_OF_THE_INSIDE)) as (url, asked):
        yield url, asked


async def refusal(
    uri: str,
    parameters: Mapping[str, str],
    credentials: Mapping[str, bytes] | None = None,
    namespaced: bool = True,
    **settings: Any,
) -> ServiceError:
    """The error that the listing of a tenant's model ends with."""
    with Sources(SourceSettings(**settings)) as sources, pytest.raises(ServiceError) as caught:
        await asyncio.to_thread(sources.list, uri, parameters, credentials or {}, namespaced)
    return caught.value


SCHEMES: dict[str, tuple[str, dict[str, str]]] = {
    "hf": ("hf://org/model", {}),
    "ms": ("ms://org/model", {}),
    "s3": ("s3://bucket/model", {"skip_signature": "true"}),
    "gs": ("gs://bucket/model", {"skip_signature": "true"}),
    "az": ("az://container/model", {"skip_signature": "true", "account_name": "acme"}),
}


@pytest.mark.parametrize("scheme", [*SCHEMES, "oci"])
@pytest.mark.parametrize("namespaced", [True, False])
async def test_no_client_reaches_the_machine_itself(
    inside: tuple[str, list[str]], scheme: str, namespaced: bool
) -> None:
    url, asked = inside
    uri, parameters = SCHEMES.get(scheme, ("oci://n/ns/b/bucket/o/model", {"auth_type": "UserPrincipal"}))
    credentials: dict[str, bytes] = {}
    if scheme == "oci":
        with OracleStore() as store:
            credentials = store.secret()
    error = await refusal(uri, {**parameters, "endpoint": url}, credentials, namespaced)
    assert error.reason == "EgressRefused"
    assert "no model may reach" in error.message
    assert asked == []
    assert "hunter2" not in error.message


@pytest.mark.parametrize("scheme", [*SCHEMES, "oci"])
async def test_no_variable_leads_a_client_past_the_gate(
    inside: tuple[str, list[str]], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = inside
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    # Whoever goes by the environment alone asks this proxy, or none for what is excepted.
    monkeypatch.setenv("http_proxy", url)
    uri, parameters = SCHEMES.get(scheme, ("oci://n/ns/b/bucket/o/model", {"auth_type": "UserPrincipal"}))
    credentials: dict[str, bytes] = {}
    if scheme == "oci":
        with OracleStore() as store:
            credentials = store.secret()
    error = await refusal(uri, {**parameters, "endpoint": url}, credentials)
    assert error.reason == "EgressRefused"
    assert asked == []


async def test_the_identity_of_the_pod_is_asked_for_by_a_model_that_signs_with_it_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-pod")
    keys = b'{"AccessKeyId": "AK", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}'
    with answering(lambda _: (200, {"Content-Type": "application/json"}, keys)) as (identity, asked):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{identity}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        # The cloud itself is played by nobody: what counts is who was asked before.
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await refusal("s3://bucket/model", {"skip_signature": "true"})
        assert asked == []
        await refusal("s3://bucket/model", {}, namespaced=False)
        assert asked == ["/v1/credentials"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("host", ["localhost", "127.1", "0.0.0.0", "rebound.example", "metadata.example"])
async def test_nor_under_another_name(
    inside: tuple[str, list[str]], scheme: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = inside
    port = urlsplit(url).port
    look_up, names = socket.getaddrinfo, {"rebound.example": "127.0.0.1", "metadata.example": "169.254.169.254"}

    def answer(name: str, *arguments: Any, **options: Any) -> Any:
        # As a name server of the tenant's answers when it comes to connecting, whatever it has answered before.
        return look_up(names.get(name, name), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    uri, parameters = SCHEMES[scheme]
    error = await refusal(uri, {**parameters, "endpoint": f"http://{host}:{port}"})
    assert error.reason == "EgressRefused"
    assert asked == []


async def test_open_and_closed_ports_of_the_inside_are_not_to_be_told_apart(inside: tuple[str, list[str]]) -> None:
    url, _ = inside
    with socket.create_server(("127.0.0.1", 0)) as closed:
        shut = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for uri, parameters in SCHEMES.values():
        said = [(await refusal(uri, {**parameters, "endpoint": each})).message for each in (url, shut)]
        assert said[0] == said[1]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_source_that_may_be_reached_leads_nowhere_else(inside: tuple[str, list[str]], scheme: str) -> None:
    url, asked = inside
    with answering(lambda target: (302, {"Location": f"{url}{target}"}, b""), "127.0.0.2") as (origin, origin_asked):
        uri, parameters = SCHEMES[scheme]
        error = await refusal(uri, {**parameters, "endpoint": origin}, egress_allow=("127.0.0.2",))
        assert origin_asked, "what the operator lists is reached"
    assert asked == []
    if scheme == "hf":
        assert error.reason == "EgressRefused"
    else:
        assert "redirects" in error.message
        assert "not followed" in error.message


def test_nor_does_a_file(inside: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = inside
    files = [ManifestFile(name, size, ChecksumAlgorithm.NONE, "") for name, size in (("small", 9), ("large", 9 << 20))]
    with answering(lambda target: (302, {"Location": f"{url}{target}"}, b"")) as (origin, _), new_store(tmp_path) as to:
        parts = urlsplit(origin)
        egress = Rule(own=((parts.hostname or "", parts.port or 0),))
        for file in files:
            manifest = new_manifest("", [file])
            with pytest.raises(ServiceError) as caught:
                acquire(to, manifest, UrlOrigin("hf://o/m", origin), StopFlag(), limits=QUICK, egress=egress)
            assert caught.value.reason == "EgressRefused"
            assert not to.holds(manifest.digest)
    assert asked == []


def test_nor_does_a_proof_that_the_origin_has_what_another_model_has_brought(
    inside: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = inside
    model = small_model()
    manifest = manifest_of(model)
    with OriginServer() as server, new_store(tmp_path) as to:
        acquire(to, manifest, serve(server, model), StopFlag(), limits=QUICK)
        with answering(lambda target: (302, {"Location": f"{url}{target}"}, b"")) as (origin, _):
            parts = urlsplit(origin)
            egress = Rule(own=((parts.hostname or "", parts.port or 0),))
            thief = claimant_of("thief", ["theirs"])
            with pytest.raises(ServiceError) as caught:
                acquiring.acquire(
                    to, manifest, UrlOrigin("hf://o/m", origin), StopFlag(), thief, limits=QUICK, egress=egress
                )
        assert caught.value.reason == "EgressRefused"
        assert not to.may_share(manifest.digest, thief)
    assert asked == []


@pytest.mark.parametrize("transport", ["http", "xet", "auto"])
async def test_neither_the_content_network_nor_the_storage_that_a_hub_names_is_inside(
    tmp_path: Path, transport: str
) -> None:
    with Hub() as hub, new_store(tmp_path / "root") as store:
        hub.add_model("org/model", {"README.md": "# tiny\n"}, generated=generated_model(1 << 20))
        parameters = {"transport": transport}
        # The operator's hub is reached where it is; the others of its servers are on other ports.
        with Sources(SourceSettings(hf_endpoint=hub.endpoint)) as sources:
            manifest = (await asyncio.to_thread(sources.list, "hf://org/model", parameters, {})).manifest
            origin = await sources.origin("hf://org/model", parameters, {}, manifest.source_revision)
            streams = sources.streams("hf://org/model", parameters, {}, manifest.source_revision)
            egress = sources.egress("hf://org/model")
            with pytest.raises(ServiceError) as caught:
                acquire(store, manifest, origin, StopFlag(), limits=QUICK, streams=streams, egress=egress)
        assert caught.value.reason == "EgressRefused"
        assert not hub.requests("*", port="cdn")
        assert not hub.requests("*", port="cas")


@pytest.mark.parametrize("status", [403, 404, 500, 418])
def test_the_words_of_what_a_redirect_leads_to_are_told_to_nobody(tmp_path: Path, status: int) -> None:
    manifest = new_manifest("", [ManifestFile("small", 9, ChecksumAlgorithm.NONE, "")])
    with (
        answering(lambda _: (status, {}, SECRET_OF_THE_INSIDE), "127.0.0.2") as (url, asked),
        answering(lambda target: (302, {"Location": f"{url}{target}"}, b"")) as (origin, _),
        new_store(tmp_path) as store,
        pytest.raises(ServiceError) as caught,
    ):
        acquire(store, manifest, UrlOrigin("hf://o/m", origin), StopFlag(), limits=QUICK)
    assert asked
    assert "root password" not in caught.value.message


def test_nor_is_the_size_of_its_answer(tmp_path: Path) -> None:
    with answering(lambda _: (200, {}, b"x" * 7654)) as (url, _), new_store(tmp_path) as store:
        manifest = new_manifest("", [ManifestFile("small", 9, ChecksumAlgorithm.NONE, "")])
        with pytest.raises(ServiceError) as caught:
            acquire(store, manifest, UrlOrigin("hf://o/m", url), StopFlag(), limits=QUICK)
    assert "another size" in caught.value.message
    assert "7654" not in caught.value.message


def ask(proxy: str, request: str, token: str = "") -> bytes:
    """What the gate answers to whoever connects to it."""
    parts = urlsplit(proxy)
    shown = base64.b64encode(f"ome:{token}".encode()).decode()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.sendall(f"{request}\r\nProxy-Authorization: Basic {shown}\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(4096):
            answer += data
    return answer


def test_others_on_the_machine_do_not_pass_the_gate(inside: tuple[str, list[str]]) -> None:
    url, asked = inside
    gate = Gate(lambda: None)
    passage = gate.passage(Rule(unrestricted=True))
    token = urlsplit(passage.url).password or ""
    request = f"GET {url}/x HTTP/1.1"
    for wrong in ("", "guess", token[:-1], f"{token}x"):
        assert ask(passage.url, request, wrong).startswith(b"HTTP/1.1 407 ")
        assert ask(passage.url, f"CONNECT {urlsplit(url).netloc} HTTP/1.1", wrong).startswith(b"HTTP/1.1 407 ")
    assert asked == []
    assert SECRET_OF_THE_INSIDE in ask(passage.url, request, token)
    where = passage.url
    del passage
    gc.collect()
    assert ask(where, request, token).startswith(b"HTTP/1.1 407 "), "a passage that nobody holds is closed"
    gate.close()


def test_what_follows_a_request_is_not_sent_where_that_one_went(inside: tuple[str, list[str]]) -> None:
    url, asked = inside
    gate = Gate(lambda: None)
    passage = gate.passage(Rule(unrestricted=True))
    token = urlsplit(passage.url).password or ""
    shown = base64.b64encode(f"ome:{token}".encode()).decode()
    head = f"GET {url}/first HTTP/1.1\r\nProxy-Authorization: Basic {shown}\r\n\r\nGET /second HTTP/1.1\r\nX: secret"
    answer = ask(passage.url, head, token)
    assert b"Connection: close" in answer
    assert asked == ["/first"]
    gate.close()


def test_a_tunnel_is_held_to_the_rule_as_well(inside: tuple[str, list[str]]) -> None:
    url, asked = inside
    gate = Gate(lambda: None)
    passage = gate.passage(Rule())
    token = urlsplit(passage.url).password or ""
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
        answer = ask(passage.url, f"CONNECT {host}:{urlsplit(url).port} HTTP/1.1", token)
        assert answer.startswith(b"HTTP/1.1 403 ")
        problem = passage.problem("hf://o/m")
        assert problem is not None
        assert problem.reason == "EgressRefused"
    assert asked == []
    gate.close()


def test_a_proxy_of_the_operators_is_not_asked_for_an_address_of_the_inside(
    inside: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = inside
    monkeypatch.setenv("http_proxy", url)
    gate = Gate(lambda: None)
    passage = gate.passage(Rule())
    token = urlsplit(passage.url).password or ""
    for host in ("127.0.0.9", "169.254.169.254", "127.1", "[fd00:ec2::254]"):
        assert ask(passage.url, f"GET http://{host}/ HTTP/1.1", token).startswith(b"HTTP/1.1 403 ")
    assert asked == []
    assert SECRET_OF_THE_INSIDE in ask(
        passage.url, "GET http://models.example/x HTTP/1.1", token
    ), "names are its matter"
    assert asked == ["http://models.example:80/x"]
    gate.close()


def test_nor_does_a_file_that_is_read_to_judge_a_listing(inside: tuple[str, list[str]]) -> None:
    url, asked = inside
    file = ManifestFile("model.safetensors.index.json", 9, ChecksumAlgorithm.NONE, "")
    with answering(lambda target: (302, {"Location": f"{url}{target}"}, b"")) as (origin, origin_asked):
        parts = urlsplit(origin)
        egress = Rule(own=((parts.hostname or "", parts.port or 0),))
        assert read_files(UrlOrigin("hf://o/m", origin), {file.path: file}, 1 << 20, StopFlag(), egress) is None
    assert origin_asked
    assert asked == []
