"""The web page of a running status service: over TLS, for whom the API server vouches, with what they may see there."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from libs.artifact.names import progress_subject
from ome.fetch.v1.fetch_pb2 import Problem, Progress
from ome.model.v1.model_pb2 import (
    NODE_PHASE_FAILED,
    NODE_PHASE_READY,
    NODE_PHASE_UPDATING,
    REASON_DOWNLOADING,
    REASON_INSUFFICIENT_DISK,
    Artifact,
)
from services.status.page.cells import FAILED, MOVING, READY
from services.status.page.session import COOKIE
from tests.support.mounted_secret import usual_sides
from tests.support.status_process import StatusCluster, eventually, path_of, running_status_cluster
from tools.localcluster.status_client import AUDIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

VERIFY = "models.ome.io/verify-requested-at"
ARTIFACT = Artifact(digest="sha256:" + "1" * 64, source_revision="c0ffee", bytes=1000, files=3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StatusCluster]:
    """Two nodes, and a model in namespace team-a that an account there may read."""
    async with running_status_cluster(tmp_path_factory.mktemp("page")) as running:
        for node in ("node-1", "node-2"):
            await running.node(node)
        team = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
        await running.kube.request("POST", "/api/v1/namespaces", team)
        await running.start_replica("status-a")
        yield running


class Browser:
    """Asks the first replica with a token."""

    def __init__(self, cluster: StatusCluster, session: aiohttp.ClientSession, token: str) -> None:
        self._address = cluster.replicas[0].page_address
        self._session = session
        self._cookies = {"Cookie": f"{COOKIE}={token}"} if token else {}

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, text and headers."""
        sent = {"Accept": "text/html", **self._cookies, **headers}
        async with self._session.get(self._address + path, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def until_shown(self, path: str, *words: str) -> str:
        """Wait until a page shows all the words."""

        async def shown() -> str:
            try:
                status, text, _ = await self.get(path)
            except aiohttp.ClientConnectionError:
                return ""
            return text if status == 200 and all(word in text for word in words) else ""

        return str(await eventually(shown, f"{path} shows {words}"))

    async def matrix(self) -> AsyncGenerator[dict[str, Any], None]:
        """The messages about the matrix, as they come."""
        async with self._session.get(f"{self._address}/fleet/stream", headers=self._cookies) as answer:
            assert answer.status == 200
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

    async def fleet(self) -> dict[str, Any]:
        """The first message about the matrix, which is all of it."""
        async with aclosing(self.matrix()) as messages:
            return await anext(messages)


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that knows the service by its certificate."""
    context = ssl.create_default_context(cafile=usual_sides().server.folder / "ca.crt")
    context.check_hostname = False
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), read_bufsize=1 << 20) as client:
        yield client


async def team_token(cluster: StatusCluster) -> str:
    """A token of an account that may read the models of namespace team-a and nothing else."""
    names = {"namespace": "team-a", "name": "reader"}
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a"
    rules = [{"apiGroups": ["ome.io"], "resources": ["basemodels"], "verbs": ["get", "list", "watch"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subjects = [{"kind": "ServiceAccount", **names}]
    for path, body in (
        ("/api/v1/namespaces/team-a/serviceaccounts", {}),
        (f"{rbac}/roles", {"rules": rules}),
        (f"{rbac}/rolebindings", {"roleRef": role, "subjects": subjects}),
    ):
        await cluster.kube.request("POST", path, {"metadata": names, **body})
    return await cluster.token_of("reader", "team-a", AUDIENCE)


async def test_the_page_shows_models_as_their_nodes_report_them(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    model = await cluster.model("everywhere")
    await cluster.plan(model, ["node-1", "node-2"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
    full = Problem(reason=REASON_INSUFFICIENT_DISK, message="2 GiB are needed, 1 GiB is <free>")
    await cluster.observed(model, "node-2", NODE_PHASE_FAILED, problem=full)
    browser = Browser(cluster, session, await cluster.reader_token())

    path = "/models/clusterbasemodels/everywhere"
    text = await browser.until_shown(path, "InsufficientDisk", "1 GiB is &lt;free&gt;", "node-1", "c0ffee")
    assert "1 GiB is <free>" not in text
    assert "storageUri: local:///models/everywhere" in (await browser.get(f"/manifest{path}"))[1]
    assert "everywhere" in await browser.until_shown("/nodes/node-2", "InsufficientDisk")
    assert "node-1" in await browser.until_shown("/nodes", "node-2")

    whole = await browser.fleet()
    assert whole["nodes"] == ["node-1", "node-2"]
    assert whole["models"] == [["clusterbasemodels", "", "everywhere", 1000]]
    assert whole["cells"] == ["b3A="]
    assert (READY, FAILED) == (0x6F, 0x70)


async def test_bytes_that_arrive_reach_the_matrix_as_one_cell(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    model = await cluster.model("moving")
    await cluster.plan(model, ["node-1"], ARTIFACT)
    loading = Problem(reason=REASON_DOWNLOADING)
    await cluster.observed(model, "node-1", NODE_PHASE_UPDATING, problem=loading, bytes_done=100)
    browser = Browser(cluster, session, await cluster.reader_token())
    await browser.until_shown("/models/clusterbasemodels/moving", "10 %")

    async def arrive() -> None:
        figures = Progress(bytes_done=420, bytes_total=1000, bytes_per_second=50, eta_seconds=12)
        while True:
            await cluster.client.publish(
                progress_subject("node-1", model["metadata"]["uid"]), figures.SerializeToString()
            )
            await asyncio.sleep(0.2)

    async with asyncio.timeout(20), aclosing(browser.matrix()) as messages:
        whole = await anext(messages)
        arriving = asyncio.create_task(arrive())
        try:
            change = await anext(messages)
        finally:
            arriving.cancel()

    row = [each[2] for each in whole["models"]].index("moving")
    assert change["cells"] == [row, 0, MOVING + 42]
    assert [row, 50, 580, 12] in [[number, line[5], line[6], line[7]] for number, line in change["lines"]]


async def test_strangers_are_led_to_the_login_and_scripts_get_401(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    await Browser(cluster, session, await cluster.reader_token()).until_shown("/nodes")
    junk = (await cluster.reader_token())[:-4] + "AAAA"
    for token in ("", junk, await cluster.token_of("ome-status", "ome")):
        browser = Browser(cluster, session, token)
        status, _, headers = await browser.get("/")
        assert (status, headers["Location"]) == (303, "/login?next=%2F")
        assert (await browser.get("/fleet/stream", Accept="text/event-stream"))[0] == 401


async def test_an_account_of_a_namespace_sees_its_models_and_is_refused_the_others(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    ours = await cluster.model("ours", "basemodels", "team-a")
    await cluster.plan(ours, ["node-2"], ARTIFACT)
    await cluster.observed(ours, "node-2", NODE_PHASE_READY, artifact=ARTIFACT)
    other = await cluster.model("not-theirs")
    await cluster.plan(other, ["node-1"], ARTIFACT)
    reader = Browser(cluster, session, await cluster.reader_token())
    await reader.until_shown("/models/clusterbasemodels/not-theirs", "node-1")
    browser = Browser(cluster, session, await team_token(cluster))
    await browser.until_shown("/models/basemodels/team-a/ours", "node-2")

    for path in ("/models/clusterbasemodels/not-theirs", "/models/basemodels/team-b/ours", "/nodes", "/nodes/node-2"):
        status, text, _ = await browser.get(path)
        assert (status, "may not" in text) == (403, True)
    whole = await browser.fleet()
    assert (whole["models"], whole["nodes"]) == ([["basemodels", "team-a", "ours", 1000]], ["node-2"])


async def test_a_login_with_a_real_token_opens_the_fleet_and_the_log_has_no_token(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    token = await cluster.reader_token()
    await Browser(cluster, session, token).until_shown("/")
    address = cluster.replicas[0].page_address
    async with session.post(f"{address}/login", data={"token": token}, allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Set-Cookie"].startswith(f"{COOKIE}={token}; HttpOnly")
    async with session.post(f"{address}/login", data={"token": token[:-9]}, allow_redirects=False) as answer:
        assert answer.status == 401
        assert token[:-9] not in await answer.text()

    log = cluster.replicas[0].log.read_text()
    assert token.partition(".")[2][:40] not in log


async def test_headers_of_a_proxy_count_where_a_setting_names_it(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    await cluster.start_replica("status-behind-a-proxy", OME_PAGE_PROXY_RANGES="127.0.0.0/8")
    address = cluster.replicas[-1].page_address
    try:
        for headers, expected in (
            ({"X-Forwarded-User": "ada"}, 403),
            ({"X-Forwarded-User": "ada", "X-Forwarded-Groups": "system:masters"}, 401),
            ({"X-Forwarded-User": "system:serviceaccount:default:ome-reader"}, 401),
            ({}, 401),
        ):

            async def answered(headers: dict[str, str] = headers, expected: int = expected) -> bool:
                try:
                    async with session.get(f"{address}/nodes", headers=headers) as answer:
                        return answer.status == expected
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(answered, f"{headers} get {expected}")
    finally:
        await cluster.replicas.pop().process.stop(5.0)


async def test_an_action_is_a_patch_by_the_one_who_confirms_it_and_never_by_the_service(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    model = await cluster.model("acted-on", storage={"storageUri": "hf://org/m"})
    await cluster.plan(model, ["node-1"], ARTIFACT)
    await cluster.observed(model, "node-1", NODE_PHASE_READY, artifact=ARTIFACT)
    path = "/models/clusterbasemodels/acted-on"
    await Browser(cluster, session, await cluster.reader_token()).until_shown(path, "node-1")
    names = {"namespace": "default", "name": "operator"}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "operator"}
    verbs = ["get", "list", "watch", "patch"]
    rules = [{"apiGroups": ["ome.io"], "resources": ["clusterbasemodels"], "verbs": verbs}]
    for where, body in (
        ("/api/v1/namespaces/default/serviceaccounts", {"metadata": names}),
        (f"{rbac}/clusterroles", {"metadata": {"name": "operator"}, "rules": rules}),
        (
            f"{rbac}/clusterrolebindings",
            {
                "metadata": {"name": "operator"},
                "roleRef": role,
                "subjects": [{"kind": "ServiceAccount", **names}],
            },
        ),
    ):
        await cluster.kube.request("POST", where, body)

    async def confirm(token: str) -> tuple[int, str]:
        address = f"{cluster.replicas[0].page_address}/act/verify{path}"
        sent = {"Cookie": f"{COOKIE}={token}", "Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
        async with session.post(address, data={"choice": ""}, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    # For the service alone: the API server does not take it, and the service does not lend its own.
    status, text = await confirm(await cluster.token_of("operator", "default", AUDIENCE))
    assert (status, "a second --audience" in text) == (403, True)
    assert (await confirm(await cluster.reader_token()))[0] == 403
    assert "annotations" not in (await cluster.get(path_of(model)) or {})["metadata"]

    both = await cluster.token_of("operator", "default", AUDIENCE, "https://kubernetes.default.svc.cluster.local")
    assert (await confirm(both))[0] == 303
    assert (await cluster.get(path_of(model)) or {})["metadata"]["annotations"].keys() == {VERIFY}
    assert both.partition(".")[2][:40] not in cluster.replicas[0].log.read_text()


async def test_events_are_those_that_the_api_server_shows_to_who_looks_and_never_to_the_service(
    cluster: StatusCluster, session: aiohttp.ClientSession
) -> None:
    model = await cluster.model("eventful", storage={"storageUri": "hf://org/m"})
    regarding = {"kind": "ClusterBaseModel", "name": "eventful", "uid": model["metadata"]["uid"]}
    about = {"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "NotSoGood", "message": "<b>look</b>"}
    for name, involved in (("eventful.1", regarding), ("other.1", {**regarding, "uid": "another", "name": "other"})):
        event = {
            **about,
            "metadata": {"name": name},
            "involvedObject": involved,
            "lastTimestamp": "2026-03-01T12:00:00Z",
        }
        await cluster.kube.request("POST", "/api/v1/namespaces/default/events", event)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    account = {"kind": "ServiceAccount", "namespace": "default", "name": "onlooker"}
    await cluster.kube.request(
        "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"namespace": "default", "name": "onlooker"}}
    )

    async def permit(name: str, group: str, resource: str, verb: str) -> None:
        rules = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        body = {"metadata": {"name": name}, "roleRef": role, "subjects": [account]}
        await cluster.kube.request("POST", f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        await cluster.kube.request("POST", f"{rbac}/clusterrolebindings", body)

    await permit("onlooker", "ome.io", "clusterbasemodels", "get")
    path = "/events/models/clusterbasemodels/eventful"
    page_alone = await cluster.token_of("onlooker", "default", AUDIENCE)
    text = await Browser(cluster, session, page_alone).until_shown(path, "401", "a second --audience")
    assert "NotSoGood" not in text
    both = await cluster.token_of("onlooker", "default", AUDIENCE, "https://kubernetes.default.svc.cluster.local")
    text = await Browser(cluster, session, both).until_shown(path, "403", "kubectl describe clusterbasemodel eventful")
    assert "NotSoGood" not in text
    await permit("onlooker-of-events", "", "events", "list")
    text = await Browser(cluster, session, both).until_shown(path, "NotSoGood", "&lt;b&gt;look&lt;/b&gt;")
    assert text.count("NotSoGood") == 1
    assert both.partition(".")[2][:40] not in cluster.replicas[0].log.read_text()
