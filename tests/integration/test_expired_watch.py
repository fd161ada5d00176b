"""A watch from a version that the real API server has forgotten: it answers 410, and the collection is listed again."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from libs.chassis.errors import ServiceError
from libs.chassis.health import Health
from libs.chassis.kube import connect_kube
from libs.chassis.reflector import Reflector
from tests.support.apiserver import ApiServer, running_api_server
from tools.localcluster.certificates import Authority

pytestmark = pytest.mark.cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COLLECTION = "/apis/test.ome.io/v1/things"
# The server remembers versions from the moment on in which it was told of a kind: the first of all is forgotten.
DEFINITION = {
    "metadata": {"name": "things.test.ome.io"},
    "spec": {
        "group": "test.ome.io",
        "scope": "Cluster",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}
DEADLINE_SECONDS = 20


class Intermediary:
    """A proxy of the API server that lets a watch fall silent, end, and go on from a forgotten version."""

    def __init__(self, upstream: aiohttp.ClientSession, url: str) -> None:
        self._upstream = upstream
        self._url = url
        self._watches: set[asyncio.Task[None]] = set()
        self.silent = False
        self.versions: list[str] = []
        self.expired = 0

    async def forward(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if "watch" in query:
            self.versions.append(query["resourceVersion"])
            if self.silent:
                # The oldest that there ever was.
                query["resourceVersion"] = "1"
                self.silent = False
        answer = web.StreamResponse()
        async with self._upstream.request(request.method, self._url + request.path, params=query) as response:
            answer.set_status(response.status)
            answer.content_type = response.content_type
            await answer.prepare(request)
            passing = asyncio.create_task(self._pass(response, answer))
            if "watch" in query:
                self._watches.add(passing)
            await asyncio.wait([passing])
        await answer.write_eof()
        return answer

    async def _pass(self, response: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
        async for line in response.content:
            self.expired += b'"code":410' in line
            if not self.silent:
                await answer.write(line)

    def end_watches(self) -> None:
        for watch in self._watches:
            watch.cancel()
        self._watches.clear()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    folder = tmp_path / "apiserver"
    folder.mkdir()
    async with running_api_server(folder) as running:
        await running.kube.request("POST", DEFINITIONS, DEFINITION)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await is_served(running):
                await asyncio.sleep(0.05)
        yield running


async def is_served(server: ApiServer) -> bool:
    try:
        await server.kube.get(COLLECTION)
    except ServiceError:
        return False
    return True


async def between(stack: AsyncExitStack, server: ApiServer, account: Path) -> tuple[Intermediary, int]:
    """Put an intermediary before the server, and write the files of a ServiceAccount that trusts it; its port."""
    config = json.loads(server.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    trust.load_cert_chain(user["client-certificate"], user["client-key"])
    timeout = aiohttp.ClientTimeout(total=None)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), timeout=timeout)
    intermediary = Intermediary(await stack.enter_async_context(session), cluster["server"])

    account.mkdir()
    authority = Authority(account)
    pair = authority.issue_server("intermediary", ("localhost",), ("127.0.0.1",))
    (account / "ca.crt").write_bytes(authority.certificate.read_bytes())
    (account / "token").write_text("the intermediary brings its own identity")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", intermediary.forward)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return intermediary, runner.addresses[0][1]


def thing(name: str) -> dict[str, object]:
    return {"apiVersion": "test.ome.io/v1", "kind": "Thing", "metadata": {"name": name}}


async def test_a_forgotten_version_costs_a_listing_and_nothing_that_happened_meanwhile(
    server: ApiServer, tmp_path: Path
) -> None:
    await server.kube.request("POST", COLLECTION, thing("goes"))
    changed = asyncio.Event()
    async with AsyncExitStack() as stack:
        account = tmp_path / "account"
        intermediary, port = await between(stack, server, account)
        address = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
        client = await stack.enter_async_context(connect_kube(account, address))
        reflector = Reflector(COLLECTION, "things", Health())

        async def known(*names: str) -> None:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while sorted(name for _, name in reflector.objects) != sorted(names):
                    changed.clear()
                    await changed.wait()

        running = asyncio.create_task(reflector.run(client, lambda before, after: changed.set()))
        stack.callback(running.cancel)
        await known("goes")
        await server.kube.request("POST", COLLECTION, thing("stays"))
        await known("goes", "stays")

        intermediary.silent = True
        await server.kube.request("DELETE", f"{COLLECTION}/goes")
        await server.kube.request("POST", COLLECTION, thing("comes"))
        intermediary.end_watches()
        await known("comes", "stays")

        assert intermediary.expired == 1
        # It was the collection as it stands that was watched again, not the version that had been forgotten.
        assert int(intermediary.versions[-1]) > int(intermediary.versions[0])
        await server.kube.request("POST", COLLECTION, thing("last"))
        await known("comes", "last", "stays")


async def test_a_kind_that_is_missing_is_as_good_as_empty_where_that_is_allowed(server: ApiServer) -> None:
    missing = "/apis/nowhere.ome.io/v1/things"
    health = Health()
    optional = Reflector(missing, "optional", health, optional=True)
    needed = Reflector(missing, "needed", health)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        running = [group.create_task(each.run(server.kube, lambda before, after: None)) for each in (optional, needed)]
        await optional.synced()
        while "not been listed" in health.failures["needed"]:
            await asyncio.sleep(0.05)
        for task in running:
            task.cancel()
    assert "optional" not in health.failures
