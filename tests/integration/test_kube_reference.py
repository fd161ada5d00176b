"""Our client of the Kubernetes API beside the official one, on a real API server: both must see the same.

The official client is the reference because it is generated from the API's own description, and reads kubeconfigs.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kubernetes.client import ApiClient, ApiException, CoordinationV1Api, CoreV1Api
from kubernetes.config import new_client_from_config
from kubernetes.watch import Watch

from libs.chassis.errors import ServiceError
from libs.chassis.kube import KubeClient, Object
from libs.chassis.leadership import Leadership
from tests.support.apiserver import ApiServer, running_api_server

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
# More than two of our pages.
MANY = 1100
_DEADLINE_SECONDS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with running_api_server(tmp_path_factory.mktemp("apiserver")) as running:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            # The namespace is there a moment after the server is.
            while not await exists(running.kube, "/api/v1/namespaces/default"):
                await asyncio.sleep(0.05)
        yield running


@pytest.fixture
def reference(server: ApiServer) -> Iterator[ApiClient]:
    with new_client_from_config(str(server.kubeconfig)) as client:
        yield client


async def exists(kube: KubeClient, path: str) -> bool:
    try:
        await kube.get(path)
    except ServiceError:
        return False
    return True


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_both_list_the_same_objects_and_see_the_same_changes(server: ApiServer, reference: ApiClient) -> None:
    kube, core = server.kube, CoreV1Api(reference)
    for start in range(0, MANY, 50):
        names = [f"many-{number}" for number in range(start, start + 50)]
        await asyncio.gather(*(kube.request("POST", CONFIG_MAPS, config_map(name)) for name in names))

    pages = [page async for page in kube.pages(CONFIG_MAPS)]
    ours = [item for page in pages for item in page["items"]]
    theirs = await asyncio.to_thread(core.list_namespaced_config_map, "default")

    assert len(pages) > 2
    assert [item["metadata"]["uid"] for item in ours] == [item.metadata.uid for item in theirs.items]
    # The API server may have renewed a Lease of its own in between.
    version = pages[-1]["metadata"]["resourceVersion"]
    assert int(version) <= int(theirs.metadata.resource_version)

    large = config_map("large", text="ä" * 150_000)
    await kube.request("POST", CONFIG_MAPS, large)
    await kube.request("PUT", f"{CONFIG_MAPS}/large", config_map("large", text="small"))
    await kube.request("DELETE", f"{CONFIG_MAPS}/large")

    seen = []
    async with asyncio.timeout(_DEADLINE_SECONDS), kube.watch(CONFIG_MAPS, version) as events:
        async for event in events:
            seen.append((event["type"], event["object"]["metadata"]["resourceVersion"]))
            if event["type"] == "DELETED":
                break
    assert seen == await asyncio.to_thread(watched, core, version)
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]


def watched(core: CoreV1Api, version: str) -> list[tuple[str, str]]:
    """What the reference sees from a version on, up to the first deletion."""
    watch, seen = Watch(), []
    arguments = {"resource_version": version, "timeout_seconds": _DEADLINE_SECONDS}
    for event in watch.stream(core.list_namespaced_config_map, "default", **arguments):
        seen.append((event["type"], event["object"].metadata.resource_version))
        if event["type"] == "DELETED":
            watch.stop()
    return seen


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{CONFIG_MAPS}/missing", None),
        ("POST", CONFIG_MAPS, config_map("kube-root-ca.crt", a="b") | {"kind": "Secret"}),
        ("POST", CONFIG_MAPS, config_map("No name")),
        ("PUT", f"{CONFIG_MAPS}/missing", config_map("missing")),
        ("GET", f"{CONFIG_MAPS}?limit=1&continue=nonsense", None),
    ],
)
async def test_both_are_refused_alike(
    method: str, path: str, body: Object | None, server: ApiServer, reference: ApiClient
) -> None:
    headers = {"Content-Type": "application/json"}
    with pytest.raises(ServiceError) as ours:
        await server.kube.request(method, path, body)
    with pytest.raises(ApiException) as theirs:
        await asyncio.to_thread(reference.call_api, path, method, header_params=headers, body=body)

    said: dict[str, Any] = json.loads(theirs.value.body)
    assert f"{theirs.value.status} {said['message']}" in ours.value.message


async def test_the_reference_reads_our_lease(server: ApiServer, reference: ApiClient) -> None:
    led = asyncio.Event()
    leases = CoordinationV1Api(reference)
    leadership = Leadership(server.kube, "default", "reference", "replica-1")
    running = asyncio.create_task(leadership.run(lambda leading: led.set() if leading else None))
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await led.wait()
        lease = await asyncio.to_thread(leases.read_namespaced_lease, "reference", "default")
    finally:
        running.cancel()
        await asyncio.wait([running])

    assert lease.spec.holder_identity == "replica-1"
    assert lease.spec.lease_duration_seconds == 15
    assert lease.spec.acquire_time == lease.spec.renew_time
    released = await asyncio.to_thread(leases.read_namespaced_lease, "reference", "default")
    assert not released.spec.holder_identity
