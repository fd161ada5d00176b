"""A real kube-apiserver on its own etcd, for tests of what the API itself decides: admission, schemas, permissions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.kube import KubeClient
from tests.support.programs import programs
from tools.localcluster.addresses import claimed_plan
from tools.localcluster.controlplane import ControlPlane, write_files
from tools.localcluster.kube import connected_kube


@dataclass(frozen=True)
class ApiServer:
    """A running API server; kubeconfig is that of an administrator."""

    kube: KubeClient
    kubeconfig: Path


@asynccontextmanager
async def running_api_server(folder: Path) -> AsyncIterator[ApiServer]:
    """Start etcd and kube-apiserver with their files in folder, which must be empty, and stop them at the end."""
    (folder / "logs").mkdir()
    async with AsyncExitStack() as stack:
        plan = stack.enter_context(claimed_plan())
        files = write_files(folder, plan)
        plane = ControlPlane(programs(), files, plan, node_grace_seconds=40)
        for server in (plane.etcd, plane.apiserver):
            stack.push_async_callback(server.stop)
            await server.start()
        kube = await stack.enter_async_context(connected_kube(plane.url, files.authority, files.admin))
        yield ApiServer(kube, plane.write_kubeconfig(folder / "kubeconfig", files.admin))
