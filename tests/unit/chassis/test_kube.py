"""The client of the Kubernetes API against a server that answers as told: what is sent, and what an answer means."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from libs.chassis.errors import Conflict, Invalid, Missing, ServiceError, Unavailable
from libs.chassis.kube import (
    APPLY_PATCH,
    METADATA_ONLY,
    Expired,
    KubeClient,
    Object,
    TokenFile,
    connect_kube,
    open_kube,
    proxy_of_environment,
)
from libs.chassis.settings import SettingsError
from tools.localcluster.certificates import Authority

PATH = "/api/v1/nodes"


class Server:
    """Answers every request with what `answer` returns, and remembers them."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[web.Request], web.StreamResponse] = lambda request: web.json_response({})
        self.chunks: list[bytes] = []
        self.cut = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        if "watch" not in request.query or not self.chunks:
            return self.answer(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in self.chunks:
            await response.write(chunk)
        if self.cut and request.transport:
            request.transport.close()
        return response

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[KubeClient]:
    async with server.listening() as port, open_kube(f"http://127.0.0.1:{port}", ssl.create_default_context()) as kube:
        yield kube


async def events_of(client: KubeClient) -> list[Object]:
    async with client.watch(PATH, "7") as events:
        return [event async for event in events]


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, Invalid, "InvalidRequest"),
        (401, Missing, "Forbidden"),
        (403, Missing, "Forbidden"),
        (404, Missing, "NotFound"),
        (409, Conflict, "Conflict"),
        (410, Expired, "Conflict"),
        (415, Invalid, "InvalidRequest"),
        (422, Invalid, "InvalidRequest"),
        (429, Unavailable, "RateLimited"),
        (500, Unavailable, "Unavailable"),
        (503, Unavailable, "Unavailable"),
    ],
)
async def test_a_refusal_says_what_to_do_next(
    status: int, kind: type[ServiceError], reason: str, server: Server, client: KubeClient
) -> None:
    server.answer = lambda request: web.json_response({"message": "because"}, status=status)

    for attempt in (client.get(PATH), events_of(client)):
        with pytest.raises(ServiceError, match=f"{PATH}: {status} because") as refused:
            await attempt
        assert type(refused.value) is kind
        assert refused.value.reason == reason


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("", None), ("Fri, 27 Nov 2026 21:00:00 GMT", None)])
async def test_a_busy_server_says_when_to_come_back(
    header: str, seconds: float | None, server: Server, client: KubeClient
) -> None:
    server.answer = lambda request: web.Response(status=429, headers={"Retry-After": header})

    with pytest.raises(Unavailable) as busy:
        await client.get(PATH)

    assert busy.value.retry_after_seconds == seconds


async def test_what_is_no_json_and_no_answer_at_all_are_an_api_server_that_is_away(
    server: Server, client: KubeClient
) -> None:
    server.answer = lambda request: web.Response(text="<html>a proxy</html>")
    with pytest.raises(Unavailable):
        await client.get(PATH)

    def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.close()
        return web.Response()

    server.answer = hang_up
    with pytest.raises(Unavailable):
        await client.request("POST", PATH, {})


async def test_a_server_is_ready_when_it_says_so(server: Server, client: KubeClient) -> None:
    server.answer = lambda request: web.Response(text="ok" if request.path == "/readyz" else "", status=200)
    assert await client.is_ready()

    server.answer = lambda request: web.Response(text="[-]poststarthook failed", status=500)
    assert not await client.is_ready()


async def test_query_body_and_types_are_sent_as_given(server: Server, client: KubeClient) -> None:
    selector = "a in (b,c),d!=e+f&g=%"
    query = {"labelSelector": selector, "limit": 5}
    accept = METADATA_ONLY.format("PartialObjectMetadata")

    await client.request("PATCH", f"{PATH}/a", {"ä": None}, query, APPLY_PATCH, accept)

    [request] = server.seen
    assert dict(request.query) == {"labelSelector": selector, "limit": "5"}
    assert (request.method, request.path) == ("PATCH", f"{PATH}/a")
    assert request.headers["Content-Type"] == APPLY_PATCH
    assert request.headers["Accept"] == accept
    assert json.loads(server.bodies[0]) == {"ä": None}


async def test_a_collection_comes_in_pages(server: Server, client: KubeClient) -> None:
    def page(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("continue", "1=").rstrip("="))
        metadata = {"resourceVersion": "9"} | ({"continue": f"{number + 1}="} if number < 3 else {})
        return web.json_response({"items": [number], "metadata": metadata})

    server.answer = page

    pages = [page async for page in client.pages(PATH, {"labelSelector": "a"})]

    assert [page["items"] for page in pages] == [[1], [2], [3]]
    assert all(request.query["labelSelector"] == "a" for request in server.seen)
    assert {request.query["limit"] for request in server.seen} == {"500"}


def event(kind: str, version: int, **more: Any) -> Object:
    return {"type": kind, "object": {"metadata": {"resourceVersion": str(version)}, **more}}


async def test_events_of_a_watch_are_put_together_however_they_arrive(server: Server, client: KubeClient) -> None:
    # One is longer than what aiohttp takes for a line.
    sent = [event("ADDED", 8, data="ä" * 700_000), event("BOOKMARK", 9), event("DELETED", 10)]
    stream = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in sent)
    server.chunks = [stream[:5], stream[5:1001], stream[1001:]]

    assert await events_of(client) == sent

    [request] = server.seen
    assert request.query["resourceVersion"] == "7"
    assert request.query["allowWatchBookmarks"] == "true"


async def test_a_watch_that_fails_in_its_course_says_how(server: Server, client: KubeClient) -> None:
    good = json.dumps(event("ADDED", 8)).encode() + b"\n"
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
    for end, kind in ((json.dumps(expired).encode() + b"\n", Expired), (b"nonsense\n", Unavailable)):
        server.chunks = [good, end]
        with pytest.raises(kind):
            await events_of(client)

    server.chunks, server.cut = [good], True
    with pytest.raises(Unavailable):
        await events_of(client)


def test_a_token_is_read_again_as_it_is_rotated_and_kept_while_it_cannot_be(tmp_path: Path) -> None:
    file, now = tmp_path / "token", 100.0
    token = TokenFile(file, lambda: now)
    with pytest.raises(Unavailable):
        token()

    file.write_text("first\n")
    assert token() == "first"
    file.write_text("second\n")
    assert token() == "first"
    now += 60
    assert token() == "second"
    for break_it in (file.unlink, lambda: file.write_text(""), lambda: file.write_bytes(b"\xff")):
        break_it()
        now += 60
        assert token() == "second"


async def test_a_pod_is_who_its_service_account_says(server: Server, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue_server("apiserver", ("localhost",), ("127.0.0.1",))
    (tmp_path / "token").write_text("secret\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    async with server.listening(context) as port:
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
        async with connect_kube(tmp_path, environ) as kube:
            await kube.get(PATH)
        assert server.seen[0].headers["Authorization"] == "Bearer secret"

        (tmp_path / "other").mkdir()
        authority.certificate.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
        async with connect_kube(tmp_path, environ) as kube:
            with pytest.raises(Unavailable):
                await kube.get(PATH)
    assert len(server.seen) == 1


async def test_all_that_a_pod_lacks_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")

    with pytest.raises(SettingsError) as refused:
        async with connect_kube(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}):
            pass

    address, token, authority = refused.value.problems
    assert "KUBERNETES_SERVICE_PORT" in address
    assert str(tmp_path / "token") in token
    assert str(tmp_path / "ca.crt") in authority


@pytest.mark.parametrize(
    ("exceptions", "proxy"),
    [
        ("", "http://proxy.example:3128"),
        ("10.96.0.1", None),
        (".svc,10.96.0.1", None),
        ("*", None),
        ("10.96.0.2", "http://proxy.example:3128"),
    ],
)
def test_the_environment_names_the_proxy_unless_it_excepts_the_server(
    exceptions: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", exceptions)
    assert proxy_of_environment("10.96.0.1") == proxy
