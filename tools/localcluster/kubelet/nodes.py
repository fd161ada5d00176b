"""A node as the API sees it: the Node object, its status, and the Lease that says its kubelet is alive."""

import asyncio
import datetime
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from libs.chassis.errors import Conflict, Missing, ServiceError, Unavailable
from libs.chassis.kube import MERGE_PATCH, KubeClient, Object
from tools.localcluster.addresses import to_loopback
from tools.localcluster.kube import apply, until_reachable
from tools.localcluster.kubelet.containerlogs import PORT

_log = logging.getLogger(__name__)
_UNREACHABLE_SECONDS = 0.1
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Node:
    """One node. `run` is its heartbeat; while that does not run, the node is as good as switched off."""

    def __init__(
        self,
        kube: KubeClient,
        name: str,
        *,
        labels: Mapping[str, str],
        address: str,
        folder: Path,
        renew_seconds: float,
    ) -> None:
        self._kube = kube
        self._labels = labels
        self._renew_seconds = renew_seconds
        self.name = name
        self.address = address
        self.folder = folder
        self.root = folder / "root"
        self._uid = ""

    async def register(self) -> None:
        """Create the Node object with its status and Lease, or take up the ones that are there."""
        self.root.mkdir(parents=True, exist_ok=True)
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": self._all_labels()},
            "spec": {},
            "status": self._status(),
        }
        try:
            created = await self._kube.request("POST", "/api/v1/nodes", node)
        except Conflict:
            created = await self._publish_ready()
        self._uid = created["metadata"]["uid"]
        await self._renew_lease()

    async def unregister(self) -> None:
        try:
            await until_reachable(lambda: self._kube.request("DELETE", f"/api/v1/nodes/{self.name}"))
        except Missing as error:
            if error.reason != "NotFound":
                raise

    async def run(self) -> None:
        """Renew the Lease until cancelled; after a silence that made the node NotReady, say that it is Ready again."""
        while True:
            try:
                await self._renew_lease()
                node = await self._kube.get(f"/api/v1/nodes/{self.name}")
                if not is_ready(node):
                    await self._publish_ready()
            except Unavailable:
                await asyncio.sleep(_UNREACHABLE_SECONDS)
                continue
            except ServiceError as error:
                # Somebody may have deleted the Node; like a kubelet, this one does not register again while it runs.
                _log.debug("node %s: heartbeat refused: %s", self.name, error)
            await asyncio.sleep(self._renew_seconds)

    async def _renew_lease(self) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": self._uid}
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "ownerReferences": [owner]},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now},
        }
        await apply(self._kube, f"{_LEASES}/{self.name}", lease)

    async def _publish_ready(self) -> Object:
        patch = {"status": self._status()}
        return await self._kube.request("PATCH", f"/api/v1/nodes/{self.name}/status", patch, content_type=MERGE_PATCH)

    def _all_labels(self) -> dict[str, str]:
        known = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": _MACHINE}
        return known | dict(self._labels)

    def _status(self) -> Object:
        # Room for every Pod a test wants: on this machine they share what there is.
        resources = {"cpu": "32", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}
        healthy = ("MemoryPressure", "DiskPressure", "PIDPressure")
        conditions = [
            _condition(kind, "False", "KubeletHasSufficient" + kind.removesuffix("Pressure")) for kind in healthy
        ]
        return {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [*conditions, _condition("Ready", "True", "KubeletReady")],
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self.name},
                {"type": "ExternalIP", "address": to_loopback(self.address)},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "nodeInfo": {
                "architecture": _MACHINE,
                "operatingSystem": "linux",
                "kernelVersion": os.uname().release,
                "osImage": "local processes",
                "containerRuntimeVersion": "process://1",
                "kubeletVersion": "v1.36.3",
                "kubeProxyVersion": "",
                "bootID": "",
                "machineID": "",
                "systemUUID": "",
            },
        }


def is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _condition(kind: str, status: str, reason: str) -> Object:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now}
