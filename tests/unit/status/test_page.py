"""The pages over HTTP: what strangers are told, what nobody can smuggle in, and how streams begin and end."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from libs.artifact.reasons import Reason
from libs.chassis.health import Health
from ome.model.v1.model_pb2 import MODEL_KIND_CLUSTER_BASE_MODEL, NODE_PHASE_FAILED, Artifact, ModelRef
from ome.parser.v1.parser_pb2 import ModelFacts
from ome.status.v1.status_pb2 import CONDITION_STATUS_TRUE, MODEL_STATE_FAILED, Condition, Model, NodeStatus
from services.status.access import Access, EveryAccess, Scope
from services.status.callers import Anyone, Caller, Callers, Unauthenticated, bearer_token
from services.status.page.pages import Door, Pages
from services.status.page.server import serve_page
from services.status.page.session import COOKIE, TrustedProxy
from services.status.page.sources import Sources
from services.status.page.streams import event, json_event
from services.status.page.views import model_address
from tests.support.simulated_page import SimulatedFleet
from tools.localcluster.addresses import free_port

# The first model of a simulated fleet, which is on each third node.
EVERY_THIRD = "00000000-0000-4000-8000-000000000000"
HTML = {"Accept": "text/html"}
# A name has no slash, at least.
NAME = "<img src=x onerror=alert(2)>\"'}}{{7*7}}<b>"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'}}{{7*7}}<b>"


class Owners:
    """Believes the tokens "ada" and "bob", until one is withdrawn."""

    def __init__(self) -> None:
        self.withdrawn: set[str] = set()

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Caller:
        """The token is the name."""
        token = bearer_token(metadata)
        if token not in {"ada", "bob"} - self.withdrawn:
            raise Unauthenticated(Reason.FORBIDDEN, "the token is not valid; send another")
        return Caller(token)


class Rights:
    """Lets ada see everything, and bob what is in namespace team-vision."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whether it may."""
        return caller.name == "ada" or scope.namespace == "team-vision"


class Site:
    """A running page."""

    def __init__(self, address: str, session: aiohttp.ClientSession, health: Health, stop: asyncio.Event) -> None:
        self.address = address
        self.session = session
        self.health = health
        self.stop = stop

    async def get(self, path: str, token: str = "ada", **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, text and headers of an answer."""
        cookies = {"Cookie": f"{COOKIE}={token}"} if token else {}
        sent = {**HTML, **cookies, **headers}
        async with self.session.get(self.address + path, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    @asynccontextmanager
    async def messages(self, path: str, token: str = "ada") -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
        """Names and contents of the messages of a stream."""
        sent = {"Cookie": f"{COOKIE}={token}"}
        async with self.session.get(self.address + path, headers=sent) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield _events(answer.content)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    name, lines = "", list[str]()
    async for raw in content:
        field, _, value = raw.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            lines.append(value)
        elif not field and name:
            yield name, "\n".join(lines)
            name, lines = "", []


@asynccontextmanager
async def site(
    fleet: SimulatedFleet, callers: Callers | None = None, access: Access | None = None, **more: object
) -> AsyncIterator[Site]:
    """A page for ada and bob on a fleet."""
    health, stop, port = Health(), asyncio.Event(), free_port()
    synced: Callable[[], bool] = more.get("synced") or (lambda: True)  # type: ignore[assignment]
    sources = Sources(fleet.catalog, fleet, fleet, fleet, fleet, fleet.model_object, synced, health)
    viewers = int(str(more.get("viewers", 4)))
    door = Door(callers or Owners(), access or Rights(), TrustedProxy(), True, "ome-status", 1000.0, viewers)
    pages = Pages(sources, door, stop)
    bounds: dict[str, Any] = {name: more[name] for name in ("patience_seconds", "most_connections") if name in more}
    async with (
        serve_page(pages.application(), "127.0.0.1", port, None, Path(), health, **bounds),
        aiohttp.ClientSession(read_bufsize=1 << 20) as session,
    ):
        found = Site(f"http://127.0.0.1:{port}", session, health, stop)
        async with asyncio.timeout(10):
            while True:
                try:
                    await found.get("/login", "")
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)
        yield found


@pytest.fixture
def fleet() -> SimulatedFleet:
    """A few models on a few nodes; number 3 is of team-vision."""
    return SimulatedFleet(6, 12)


class Markup(HTMLParser):
    """Collects elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


PAGES = ["/", "/nodes", "/nodes/gpu-a-1", "/sources", "/plan", "/models/clusterbasemodels/llama-4-maverick-17b-128e"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_is_led_to_the_login_and_a_script_is_told_so(fleet: SimulatedFleet, path: str) -> None:
    async with site(fleet) as here:
        status, _, headers = await here.get(path, "")
        assert (status, headers["Location"].partition("?")[0]) == (303, "/login")
        for stream in ("/fleet/stream", "/stream/nodes/gpu-a-1", "/session"):
            assert (await here.get(stream, "", Accept="text/event-stream"))[0] == 401


@pytest.mark.parametrize("path", [*PAGES, "/login", "/nowhere", "/models/clusterbasemodels/none", "/models/what/x"])
async def test_no_page_has_a_script_or_a_style_inside_or_from_elsewhere(fleet: SimulatedFleet, path: str) -> None:
    async with site(fleet) as here:
        _, text, headers = await here.get(path)

    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    for tag, attributes in Markup(text).elements:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "action", "sse-connect", "data-address"):
                assert re.match(r"[/#]", value or ""), (tag, value)


async def test_every_file_that_a_page_names_is_there_and_of_its_type(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here:
        wanted = set()
        for path in PAGES:
            wanted |= set(re.findall(r'"(/static/[^"]+)"', (await here.get(path))[1]))
        assert len(wanted) > 8
        for address in wanted:
            status, text, headers = await here.get(address, "")
            assert status == 200
            assert "immutable" in headers["cache-control"]
            expected = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[address.rpartition(".")[2]]
            assert headers["content-type"].startswith(expected)
            for imported in re.findall(r'^import .* from "\./([^"]+)"', text, re.MULTILINE):
                assert (await here.get(f"{address.rpartition('/')[0]}/{imported}", ""))[0] == 200
        for nowhere in ("/static/0/page.css", re.sub("[^/]+$", "../pages.py", next(iter(wanted)))):
            assert (await here.get(nowhere, ""))[0] == 404


async def test_nothing_that_a_model_a_node_or_an_origin_says_becomes_markup(fleet: SimulatedFleet) -> None:
    ref = ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name=NAME, uid="00000000-0000-4000-8000-000000000001")
    evil = Model(ref=ref, state=MODEL_STATE_FAILED, storage_uri=f"hf://{EVIL}")
    evil.artifact.CopyFrom(Artifact(digest=EVIL, source_revision=EVIL, bytes=5, files=1))
    evil.facts.CopyFrom(ModelFacts(architecture=EVIL, license=EVIL, warnings=[EVIL], capabilities=[EVIL]))
    evil.nodes.append(NodeStatus(node=NAME, phase=NODE_PHASE_FAILED, message=EVIL, path=EVIL))
    evil.nodes.append(NodeStatus(node="gpu-a-1", phase=NODE_PHASE_FAILED, message=EVIL, path=EVIL))
    evil.conditions.append(Condition(type="Stalled", status=CONDITION_STATUS_TRUE, reason=EVIL, message=EVIL))
    fleet.catalog.put(evil)
    fleet.nodes.append(NAME)
    name = quote(NAME)

    async with site(fleet) as here:
        texts = []
        for path in (
            f"/models/clusterbasemodels/{name}",
            f"/cell/models/clusterbasemodels/{name}?node=gpu-a-1",
            f"/files/models/clusterbasemodels/{name}",
            f"/events/models/clusterbasemodels/{name}",
            f"/plan?model=clusterbasemodels/{name}",
            "/nodes",
            "/nodes/gpu-a-1",
            "/sources",
            f"/nodes/{name}",
            f"/login?next=/{name}",
        ):
            status, text, headers = await here.get(path)
            assert status in (200, 404), path
            texts.append(text)
        async with here.messages(f"/stream/models/clusterbasemodels/{name}") as messages:
            async with asyncio.timeout(10):
                async for kind, text in messages:
                    if kind == "stale":
                        break
                    texts.append(text)
        status, text, headers = await here.get(f"/manifest/models/clusterbasemodels/{name}")
        assert headers["content-type"].startswith("text/plain")

    assert len(texts) > 10
    assert sum("{{7*7}}" in text for text in texts) > 5
    for text in texts:
        for tag, attributes in Markup(text).elements:
            assert tag not in ("script", "img") or (attributes.get("src") or "").startswith("/static/")
            assert "onerror" not in attributes
        assert "<script>alert" not in text


async def test_messages_of_a_stream_cannot_be_forged_by_line_breaks() -> None:
    for separator in ("\n", "\r", "\r\n", "\x0b", "\u2028"):
        text = event("why", f"a{separator}event: expired{separator}data: x{separator}{separator}b")
        lines = re.split(r"\r\n|\n|\r", text)
        assert [line for line in lines if line and not line.startswith("data: ")] == ["event: why"]
    assert json.loads(json_event("x", {"a": "b\r\nc"}).split("data: ")[1]) == {"a": "b\r\nc"}


async def test_whoever_may_see_one_namespace_sees_nothing_of_others(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here:
        async with here.messages("/fleet/stream", "bob") as messages:
            kind, text = await anext(messages)
        assert kind == "fleet"
        assert [model[:3] for model in json.loads(text)["models"]] == [["basemodels", "team-vision", "mixtral-8x22b"]]
        assert (await here.get("/models/basemodels/team-vision/mixtral-8x22b", "bob"))[0] == 200
        hidden = "/models/clusterbasemodels/llama-4-maverick-17b-128e"
        for path in (
            hidden,
            "/models/clusterbasemodels/none",
            "/models/basemodels/other/none",
            "/nodes",
            "/nodes/gpu-a-1",
        ):
            status, text, _ = await here.get(path, "bob")
            assert (status, "Not for you to see" in text) == (403, True), path
        for path in ("/stream" + hidden, "/manifest" + hidden, "/cell" + hidden, "/stream/nodes/gpu-a-1"):
            assert (await here.get(path, "bob", Accept="*/*"))[0] == 403, path
        assert "weights-eu" not in (await here.get("/sources", "bob"))[1]


async def test_a_login_puts_the_token_into_a_cookie_that_no_script_reads_and_nowhere_else(
    fleet: SimulatedFleet,
) -> None:
    async with site(fleet) as here:
        login = here.address + "/login"
        async with here.session.post(
            login, data={"token": " a\nda ", "next": "/nodes"}, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/nodes")
            cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-ome-token=ada;")
        assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
            "httponly",
            "path=/",
            "samesite=strict",
            "secure",
        }
        for data, status, words in (
            ({"token": "eve"}, 401, "The token is not valid."),
            ({"token": ""}, 401, "Paste a token first."),
            ({"token": "x" * 4000}, 401, "longer than 3,800"),
            ({"token": "x" * 70_000}, 413, ""),
        ):
            async with here.session.post(login, data=data, allow_redirects=False) as answer:
                assert (answer.status, words in await answer.text()) == (status, True)
                assert "Set-Cookie" not in answer.headers
                assert "x" * 100 not in await answer.text()
        foreign = {"Sec-Fetch-Site": "cross-site"}
        for path in ("/login", "/logout"):
            async with here.session.post(here.address + path, data={"token": "ada"}, headers=foreign) as answer:
                assert answer.status == 403
        async with here.session.post(here.address + "/logout", allow_redirects=False) as answer:
            assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_a_stream_ends_with_a_word_when_its_token_is_withdrawn(fleet: SimulatedFleet) -> None:
    owners = Owners()
    async with site(fleet, owners) as here, here.messages("/fleet/stream") as messages:
        assert (await anext(messages))[0] == "fleet"
        owners.withdrawn.add("ada")
        async with asyncio.timeout(10):
            kinds = [kind async for kind, _ in messages]
        assert kinds[-1] == "expired"


async def test_streams_tell_that_what_is_known_may_be_old_and_when_that_is_over(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here, here.messages("/stream/nodes/gpu-a-1") as messages:
        async with asyncio.timeout(20):
            stale = (text async for kind, text in messages if kind == "stale")
            assert await anext(stale) == ""
            here.health.fail("nats", "NATS cannot be reached")
            assert await anext(stale) == "NATS cannot be reached."
            here.health.ok("nats")
            assert await anext(stale) == ""


async def test_streams_end_when_the_service_stops(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here, here.messages("/fleet/stream") as messages:
        await anext(messages)
        here.stop.set()
        async with asyncio.timeout(20):
            assert [kind async for kind, _ in messages] in ([], ["stale"])


async def test_a_change_reaches_the_browser_as_a_difference(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here, here.messages("/fleet/stream") as messages:
        kind, text = await anext(messages)
        whole = len(text)
        fleet.step()
        async with asyncio.timeout(10):
            while kind != "cells":
                kind, text = await anext(messages)
        assert {"cells", "lines"} >= set(json.loads(text)) > set()
        assert len(text) < whole


async def test_open_pages_of_one_caller_are_limited_and_counted_when_they_close(fleet: SimulatedFleet) -> None:
    async with site(fleet, viewers=1) as here:
        async with here.messages("/fleet/stream") as first, here.messages("/stream/nodes/gpu-a-1") as second:
            assert (await anext(first))[0] == "fleet"
            kind, text = await anext(second)
            assert (kind, "too many open pages" in text) == ("ended", True)
        async with asyncio.timeout(10):
            while True:
                async with here.messages("/stream/nodes/gpu-a-1") as messages:
                    if (await anext(messages))[0] != "ended":
                        break
                await asyncio.sleep(0.05)


async def test_before_everything_is_read_the_page_says_so_and_tries_again(fleet: SimulatedFleet) -> None:
    async with site(fleet, synced=lambda: False) as here:
        status, text, headers = await here.get("/nodes")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "data-retry" in text
        assert (await here.get("/fleet/stream", Accept="text/event-stream"))[0] == 503


async def test_without_authentication_there_is_no_login(fleet: SimulatedFleet) -> None:
    async with site(fleet, Anyone(), EveryAccess()) as here:
        assert (await here.get("/", ""))[0] == 200


async def test_a_manifest_can_be_applied_again(fleet: SimulatedFleet) -> None:
    async with site(fleet) as here:
        _, text, _ = await here.get("/manifest/models/clusterbasemodels/llama-4-maverick-17b-128e")
    assert text.startswith("apiVersion: ome.io/v1beta1\nkind: ClusterBaseModel\nmetadata:\n  name: llama-4-maverick")
    assert "uid" not in text


async def test_a_plan_is_made_for_the_owner_of_the_token_and_for_no_other_site(fleet: SimulatedFleet) -> None:
    async with site(fleet) as page:

        async def post(body: str, token: str = "ada", **headers: str) -> tuple[int, str]:
            sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}
            async with page.session.post(f"{page.address}/plan", data=body, headers=sent) as answer:
                return answer.status, await answer.text()

        status, text = await post("{}")
        assert (status, json.loads(text)["credentials"]) == (200, "what ada may use")
        assert (await post("{}", ""))[0] == 401
        assert await post("[]") == (400, "The manifest is no JSON.\n")
        assert (await post("{" + "x" * (65 << 10)))[0] == 413
        assert (await post("{}", **{"Sec-Fetch-Site": "cross-site"}))[0] == 403


async def test_why_a_model_is_not_on_a_node_is_told_to_those_who_may_see_the_node(fleet: SimulatedFleet) -> None:
    [elsewhere] = [node for node in fleet.nodes if node not in fleet.desired_nodes(EVERY_THIRD)][:1]
    cell = f"/cell/models/clusterbasemodels/llama-3-3-70b-instruct?node={elsewhere}"
    async with site(fleet) as here:
        assert "it lacks pool=inference" in (await here.get(cell))[1]
        own = await here.get(f"/cell/models/basemodels/team-vision/mixtral-8x22b?node={fleet.nodes[0]}", "bob")
        assert own[0] == 200
        assert "pool" not in own[1]


async def test_a_node_tells_which_pods_use_its_models_to_those_who_may_see_these(fleet: SimulatedFleet) -> None:
    async with site(fleet) as found:
        _, first, _ = await found.get(f"/nodes/{fleet.nodes[0]}")
        _, second, _ = await found.get(f"/nodes/{fleet.nodes[1]}")
    pods = re.findall(r"in use by (serving/[a-z0-9-]+-0)", first)
    assert pods
    assert len(pods) == len(set(pods))
    assert "in use by" not in second


async def test_a_model_that_has_failed_says_what_comes_next_and_who_must_act(fleet: SimulatedFleet) -> None:
    bigger = SimulatedFleet(12, 12)
    async with site(bigger) as here:
        _, text, _ = await here.get("/models/clusterbasemodels/deepseek-v3")
        failing = next(model for model in bigger.catalog.models() if "failed" in str(model.conditions))
        _, failed, _ = await here.get(model_address(failing.ref))
    assert "Revisions" in text
    assert "To do, by" in failed


async def test_what_strangers_send_that_makes_no_sense_is_their_fault(fleet: SimulatedFleet) -> None:
    async with site(fleet) as found:
        async with found.session.post(f"{found.address}/login", data="&".join("abcdefgh")) as answer:
            assert answer.status == 400
        status, _, _ = await found.get("/models/basemodels/a/b", "", Host="[")
        assert status in (303, 400)


HALF_REQUESTS = {
    "nothing": b"",
    "half a request": b"GET /login HTTP/1.1\r\nHost: page\r\n",
    "half a form": b"POST /login HTTP/1.1\r\nHost: page\r\nContent-Length: 1000\r\n\r\ntoken=",
    "half a form that is not asked for": b"POST / HTTP/1.1\r\nHost: page\r\nContent-Length: 1000\r\n\r\ntoken=",
}


@pytest.mark.parametrize("sent", HALF_REQUESTS)
async def test_a_stranger_who_leaves_the_page_waiting_is_cut_off(fleet: SimulatedFleet, sent: str) -> None:
    async with site(fleet, patience_seconds=0.05) as found, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found.address.rpartition(":")[2]))
        writer.write(HALF_REQUESTS[sent])
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1 << 16):
                pass
        writer.close()


async def test_a_stranger_who_reads_no_answer_is_cut_off(fleet: SimulatedFleet) -> None:
    async with site(fleet, patience_seconds=0.2) as found, asyncio.timeout(10):
        asset = re.findall(r"/static/[0-9a-f]+/", (await found.get("/login", ""))[1])[0] + "vendor/htmx.js"
        _, writer = await asyncio.open_connection("127.0.0.1", int(found.address.rpartition(":")[2]), limit=1 << 10)

        async def ask_on() -> None:
            while True:
                writer.write(f"GET {asset} HTTP/1.1\r\nHost: page\r\n\r\n".encode() * 100)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await ask_on()
        writer.close()


async def test_a_stream_outlives_the_patience_for_strangers(fleet: SimulatedFleet) -> None:
    async with site(fleet, patience_seconds=0.05) as found, found.messages("/fleet/stream") as messages:
        assert (await anext(messages))[0] == "fleet"
        async with asyncio.timeout(10):
            fleet.step()
            while (await anext(messages))[0] != "cells":
                pass


async def test_connections_beyond_the_bound_are_refused_and_those_before_go_on(fleet: SimulatedFleet) -> None:
    async with site(fleet, most_connections=2) as found, asyncio.timeout(10):
        port = int(found.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        with contextlib.suppress(ConnectionResetError):
            assert await others[-1][0].read(1) == b""
        writer.write(b"GET /login HTTP/1.1\r\nHost: page\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for each in (writer, *(other for _, other in others)):
            each.close()
