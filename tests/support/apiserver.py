"""A real kube-apiserver on its own etcd, for tests of what the API itself decides: admission, schemas, permissions."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.errors import ServiceError
from libs.chassis.kube import KubeClient, open_kube
from tests.support.programs import programs
from tools.localcluster.addresses import claimed_plan
from tools.localcluster.controlplane import ControlPlane, write_files
from tools.localcluster.kube import connected_kube

_DEADLINE_SECONDS = 20
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
_LAST = "last.example.com"


@dataclass(frozen=True)
class ApiServer:
    """A running API server; kubeconfig is that of an administrator."""

    kube: KubeClient
    kubeconfig: Path
    url: str
    authority: Path

    async def token_of(self, account: str, namespace: str = "ome", *audiences: str) -> str:
        """A token of a ServiceAccount, as whoever has taken over one of its Pods holds it."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "audiences": list(audiences)},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str((await self.kube.request("POST", path, request))["status"]["token"])

    @asynccontextmanager
    async def as_account(self, account: str, namespace: str = "ome") -> AsyncIterator[KubeClient]:
        """A client that has nothing but a ServiceAccount's token."""
        token = await self.token_of(account, namespace)
        async with open_kube(self.url, ssl.create_default_context(cafile=str(self.authority)), lambda: token) as kube:
            yield kube


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
        yield ApiServer(kube, plane.write_kubeconfig(folder / "kubeconfig", files.admin), plane.url, files.authority)


async def policies_enforced(kube: KubeClient) -> None:
    """Wait until every ValidatingAdmissionPolicy that exists is enforced, which it is a moment after it was created.

    The API server learns of them in order: once it enforces one that was created later, it enforces all before it.
    """
    config_maps = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    policy = {
        "matchConstraints": {"resourceRules": [config_maps]},
        "matchConditions": [{"name": "last", "expression": f"object.metadata.name == '{_LAST}'"}],
        "validations": [{"expression": "false", "message": "the last policy is enforced"}],
    }
    binding = {"policyName": _LAST, "validationActions": ["Deny"]}
    for path, spec in ((_POLICIES, policy), (_BINDINGS, binding)):
        await kube.request("POST", path, {"metadata": {"name": _LAST}, "spec": spec})
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while not await _refuses(kube):
            await asyncio.sleep(0.1)
    for path in (_BINDINGS, _POLICIES):
        await kube.request("DELETE", f"{path}/{_LAST}")


async def _refuses(kube: KubeClient) -> bool:
    path = "/api/v1/namespaces/default/configmaps"
    try:
        await kube.request("POST", path, {"metadata": {"name": _LAST}}, {"dryRun": "All"})
    except ServiceError as error:
        return "the last policy is enforced" in error.message
    return False
