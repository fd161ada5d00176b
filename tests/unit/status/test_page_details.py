"""Files, events and plans on the page: who may see them, by whose rights, and what is said where they cannot be had."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from clients.kubectl import plans
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, ServiceError, Unavailable
from libs.chassis.health import Health
from ome.fetch.v1.fetch_pb2 import FileProgress, FilesReply, NodeHeartbeat, NodeLimits, Progress
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import (
    MODEL_KIND_CLUSTER_BASE_MODEL,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_RATE_LIMITED,
    Forecast,
    ModelRef,
)
from ome.status.v1.status_pb2 import Model, NodeStatus
from services.status.access import NODES, Denied, Scope
from services.status.callers import Caller, TooMany
from services.status.page.own_events import shown_events
from services.status.page.pages import Door, Pages
from services.status.page.plan_view import plan_view, verdict_of
from services.status.page.server import serve_page
from services.status.page.session import COOKIE, TrustedProxy, networks_of
from services.status.page.sources import Sources
from services.status.page.views import FileOnItsWay, limits_of_nodes, model_view, source_views
from tests.support.simulated_page import Events, Named, Patches, SimulatedFleet
from tools.localcluster.addresses import free_port

MODEL = "/models/clusterbasemodels/llama-4-maverick-17b-128e"
UID = "00000000-0000-4000-8000-000000000001"
EVIL = "<script>alert(1)</script>\u202e\n"


class Rights:
    """Lets ada see everything, and bob nothing."""

    async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
        """Whether it may."""
        return caller.name == "ada"


class Behind:
    """The controller: tells of files, and makes plans, or says why not."""

    def __init__(self, fleet: SimulatedFleet, refusal: ServiceError | None = None) -> None:
        self.digests: list[str] = []
        self.manifests: list[str] = []
        self._fleet = fleet
        self._refusal = refusal

    async def files(self, digest: str) -> FilesReply:
        """Two files with names that an origin has chosen, of many."""
        self.digests.append(digest)
        if self._refusal:
            raise self._refusal
        reply = FilesReply(total=12_345)
        reply.files.add(path=EVIL, size_bytes=5 << 30)
        reply.files.add(path="config.json", size_bytes=700)
        return reply

    async def plan(self, caller: Caller, manifest: str) -> Forecast:
        """A forecast of the simulated fleet."""
        self.manifests.append(manifest)
        if self._refusal:
            raise self._refusal
        return await self._fleet.plan(caller, manifest)


class Tab:
    """Asks one page as somebody."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session

    async def get(self, path: str, token: str = "ada", **headers: str) -> tuple[int, str]:
        """Status and text."""
        sent = {"Accept": "text/html", **({"Cookie": f"{COOKIE}={token}"} if token else {}), **headers}
        async with self._session.get(self._address + path, headers=sent) as answer:
            return answer.status, await answer.text()

    async def plan(self, text: str, token: str = "ada", site: str = "same-origin") -> tuple[int, str]:
        """Status and text after the form was sent."""
        sent = {"Accept": "text/html", "Cookie": f"{COOKIE}={token}", "Sec-Fetch-Site": site}
        async with self._session.post(f"{self._address}/plan", data={"manifest": text}, headers=sent) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def opened(
    refusal: ServiceError | None = None,
    events: Events | None = None,
    proxied: bool = False,
    behind: list[Behind] | None = None,
    access: Rights | None = None,
) -> AsyncIterator[Tab]:
    """A page on a fleet of three models and nine nodes."""
    fleet, health, port = SimulatedFleet(3, 9), Health(), free_port()
    controller = Behind(fleet, refusal)
    if behind is not None:
        behind.append(controller)
    sources = Sources(fleet.catalog, fleet, fleet, controller, controller, fleet.model_object, lambda: True, health)
    proxy = TrustedProxy(networks_of(["127.0.0.0/8"] if proxied else []))
    door = Door(Named(), access or Rights(), proxy, True, "ome-status", 1000.0, 4, Patches(), events or Events())
    pages = Pages(sources, door, asyncio.Event())
    async with (
        serve_page(pages.application(), "127.0.0.1", port, None, Path(), health),
        aiohttp.ClientSession() as session,
        asyncio.timeout(20),
    ):
        tab = Tab(f"http://127.0.0.1:{port}", session)
        while True:
            try:
                await tab.get("/session")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
        yield tab


async def test_files_are_those_of_the_artifact_that_nodes_must_hold_and_no_name_becomes_markup() -> None:
    behind: list[Behind] = []
    async with opened(behind=behind) as tab:
        status, text = await tab.get("/files" + MODEL)
    assert status == 200
    assert behind[0].digests == ["sha256:" + hashlib.sha256(b"llama-4-maverick-17b-128e").hexdigest()]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "\u202e" not in text
    assert "5 GiB" in text
    assert "and 12,343 smaller ones" in text


@pytest.mark.parametrize("what", ["/files", "/events", "/plan?model="])
async def test_whoever_may_not_get_a_model_learns_nothing_of_it(what: str) -> None:
    behind, events = list[Behind](), Events()
    path = what + (MODEL.removeprefix("/models/") if "=" in what else MODEL)
    async with opened(events=events, behind=behind) as tab:
        status, text = await tab.get(path, "bob")
        assert (status, "weights" in text, "hf://" in text) == (403, False, False)
        assert (await tab.get(path.replace("llama-4", "no"), "bob"))[0] == 403
        assert (await tab.get(path.replace("llama-4", "no")))[0] == 404
    assert (behind[0].digests, events.asked) == ([], [])


async def test_where_no_controller_answers_the_page_says_so_in_place_of_files() -> None:
    async with opened(Unavailable(Reason.UNAVAILABLE, "no controller answers: NoRespondersError")) as tab:
        status, text = await tab.get("/files" + MODEL)
    assert (status, "Not known now: no controller answers" in text) == (200, True)


async def test_events_are_read_with_the_token_of_who_looks_the_newest_first() -> None:
    events = Events()
    async with opened(events=events) as tab:
        status, text = await tab.get("/events" + MODEL)
    assert status == 200
    assert events.asked == [("ada", UID)]
    assert text.index("ChecksumMismatch") < text.index("Downloading")
    assert "3 times" in text


async def test_without_a_right_to_events_the_page_says_what_the_api_server_said_and_how_kubectl_shows_them() -> None:
    refusal = Missing(Reason.FORBIDDEN, "GET /api/v1/namespaces/default/events: 401 Unauthorized")
    async with opened(events=Events(refusal)) as tab:
        status, text = await tab.get("/events" + MODEL)
    assert status == 200
    assert "401 Unauthorized" in text
    assert "second --audience" in text
    assert "kubectl describe clusterbasemodel llama-4-maverick-17b-128e" in text


async def test_whom_a_proxy_names_is_shown_no_events_with_the_rights_of_the_page() -> None:
    events = Events()
    async with opened(events=events, proxied=True) as tab:
        named = {"X-Forwarded-User": "ada"}
        status, text = await tab.get("/events" + MODEL, "", **named)
    assert (status, events.asked) == (200, [])
    assert "kubectl describe clusterbasemodel" in text


def test_whatever_an_event_says_it_is_one_line() -> None:
    [shown] = shown_events([{"message": EVIL * 1000, "reason": EVIL, "type": 7, "count": 2, "series": None}])
    assert shown.message.isprintable()
    assert len(shown.message) <= 1024
    assert (shown.time, shown.is_warning, shown.times) == ("", False, 2)
    assert len(shown_events([{} for _ in range(500)])) == 50


async def test_a_manifest_is_planned_and_stays_in_the_form() -> None:
    behind: list[Behind] = []
    text = f"kind: ClusterBaseModel\nmetadata: {{name: llama}}\n# {EVIL.strip()}</textarea>"
    async with opened(behind=behind) as tab:
        status, page = await tab.plan(text)
    assert status == 200
    assert behind[0].manifests == ['{"kind": "ClusterBaseModel", "metadata": {"name": "llama"}}']
    assert "&lt;/textarea&gt;" in page
    assert page.count("<script>") == 0
    for words in (
        "It fails",
        "would be changed",
        "140 GiB in 34 files",
        "Too little room",
        "phi-4",
        "above its watermark",
    ):
        assert words in page


async def test_the_manifest_of_a_model_is_the_start_of_a_plan() -> None:
    async with opened() as tab:
        status, page = await tab.get("/plan?model=" + MODEL.removeprefix("/models/"))
    assert (status, "storageUri: hf://example/llama-4-maverick-17b-128e" in page) == (200, True)
    assert "resourceVersion" not in page


@pytest.mark.parametrize(
    ("refusal", "status", "words"),
    [
        (Denied(Reason.FORBIDDEN, "ada may not create basemodels"), 403, "Ada may not create basemodels."),
        (TooMany(Reason.RATE_LIMITED, "ada asks for plans too often"), 429, "Ada asks for plans too often."),
        (Unavailable(Reason.UNAVAILABLE, "no controller answers"), 503, "No controller answers."),
    ],
)
async def test_a_refused_plan_keeps_what_was_typed(refusal: ServiceError, status: int, words: str) -> None:
    async with opened(refusal) as tab:
        answered, page = await tab.plan("kind: ClusterBaseModel\nmetadata: {name: typed-by-hand}")
    assert (answered, words in page, "typed-by-hand" in page) == (status, True, True)


async def test_what_is_no_manifest_asks_nobody() -> None:
    behind: list[Behind] = []
    async with opened(behind=behind) as tab:
        for text, status in (("a: *b", 400), ("", 400), ("x" * 60_000, 400), ("x" * 200_000, 413)):
            assert (await tab.plan(text))[0] == status
        assert (await tab.plan("kind: BaseModel", site="cross-site"))[0] == 403
        assert (await tab.plan("kind: BaseModel", token=""))[0] in (401, 200)
    assert behind[0].manifests == []


NUMBERS = st.integers(0, 2**40)
FORECASTS = st.builds(
    Forecast,
    model=st.just(model_pb2.ModelRef(kind=model_pb2.MODEL_KIND_CLUSTER_BASE_MODEL, name="m")),
    exists=st.booleans(),
    reason=st.sampled_from(model_pb2.Reason.values()),
    source_reason=st.sampled_from(model_pb2.Reason.values()),
    listed=st.booleans(),
    lacking_nodes=st.integers(0, 2),
    node_count=NUMBERS,
    artifact=st.builds(model_pb2.Artifact, digest=st.sampled_from(["", "sha256:0"]), bytes=NUMBERS, files=NUMBERS),
    nodes=st.lists(
        st.builds(
            model_pb2.ForecastNode,
            node=st.just("n"),
            room=st.sampled_from(model_pb2.RoomVerdict.values()),
            total_bytes=NUMBERS,
            bytes_per_second=NUMBERS,
            seconds=NUMBERS,
        ),
        max_size=3,
    ),
)


@given(FORECASTS)
def test_the_page_judges_a_plan_as_the_plugin_does(forecast: Forecast) -> None:
    assert verdict_of(forecast) == plans.verdict(MessageToDict(forecast))
    assert plan_view(forecast).head


def test_files_on_their_way_are_told_of_the_slowest_nodes_alone() -> None:
    file = FileProgress(path="w.safetensors", bytes_done=9, bytes_total=90, bytes_per_second=1 << 20, eta_seconds=81)
    nodes = [
        NodeStatus(node=f"n-{number:02}", phase=NODE_PHASE_UPDATING, reason=REASON_DOWNLOADING) for number in range(20)
    ]
    model = Model(ref=ModelRef(name="m", uid="u", kind=MODEL_KIND_CLUSTER_BASE_MODEL), nodes=nodes)
    for node in model.nodes:
        node.bytes_total = 100

    def progress(node: str, uid: str) -> Progress:
        return Progress(bytes_done=int(node[2:]) * 4, bytes_total=100, bytes_per_second=5, files=[file])

    view = model_view(model, frozenset(node.node for node in nodes), progress, None, {})
    assert [each.node for each in view.standings if each.files] == [f"n-{number:02}" for number in range(6)]
    assert view.standings[0].files == (
        FileOnItsWay("w.safetensors", 10, "9 bytes of 90 bytes", "1 MiB/s", "1 min 21 s"),
    )


def test_revisions_tell_which_of_them_is_wanted_and_what_the_last_download_took() -> None:
    model = Model(ref=ModelRef(name="m", uid="u", kind=MODEL_KIND_CLUSTER_BASE_MODEL))
    model.artifact.digest = "sha256:b"
    status = {
        "history": [
            {"digest": "sha256:b", "sourceRevision": "two", "bytes": 2048, "files": 3, "since": "2026-01-02T00:00:00Z"},
            {"digest": "sha256:a", "sourceRevision": "one", "bytes": 1024},
        ],
        "download": {"bytes": 4096, "seconds": 75, "finishedAt": "2026-01-02T00:01:00Z"},
    }
    view = model_view(model, frozenset(), lambda node, uid: None, None, status)
    assert [(one.name, one.since, one.files, one.size, one.is_wanted) for one in view.revisions] == [
        ("two", "2026-01-02 00:00", "3", "2 KiB", True),
        ("one", "", "", "1 KiB", False),
    ]
    assert ("Last download", "4 KiB in 1 min 15 s, until 2026-01-02 00:01") in view.artifact


def test_the_limits_of_nodes_are_told_with_their_number_and_those_of_old_fetchers_are_not() -> None:
    limited = NodeHeartbeat(limits=NodeLimits(bytes_per_second=1 << 30, connections_per_host=1))
    free = NodeHeartbeat(limits=NodeLimits())
    assert limits_of_nodes([limited, free, limited, NodeHeartbeat()]) == [
        ("1 GiB/s at most, by 1 connection to a host", 2),
        ("any rate, by any number of connections", 1),
    ]


async def test_whoever_may_not_list_nodes_is_not_told_of_their_limits() -> None:
    class OfModels(Rights):
        async def permits(self, caller: Caller, verb: str, scope: Scope, name: str = "") -> bool:
            return scope != NODES

    async with opened() as tab:
        assert "connections to a host" in (await tab.get("/sources"))[1]
    async with opened(access=OfModels()) as tab:
        status, text = await tab.get("/sources")
        assert (status, "hf://" in text, "connections to a host" in text) == (200, True, False)


def test_a_source_tells_how_many_nodes_it_has_asked_to_slow_down() -> None:
    model = Model(storage_uri="hf://org/model")
    for reason in (REASON_RATE_LIMITED, REASON_DOWNLOADING, REASON_RATE_LIMITED):
        model.nodes.add(node=str(len(model.nodes)), phase=NODE_PHASE_UPDATING, reason=reason)
    [source] = source_views([model], lambda node, uid: None)
    assert (source.held_back, sum(source.failures.values())) == (2, 0)
