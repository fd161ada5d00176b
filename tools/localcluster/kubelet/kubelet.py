"""Decides which Pods run: those bound to a node that is switched on. Stands in for all kubelets of a cluster."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.chassis.kube import KubeClient, Object
from tools.localcluster.addresses import AddressPlan, to_loopback
from tools.localcluster.kube import Key, changed_key, reflect
from tools.localcluster.kubelet.containerlogs import ContainerLogs
from tools.localcluster.kubelet.containers import BackOff
from tools.localcluster.kubelet.environment import service_links
from tools.localcluster.kubelet.images import Images
from tools.localcluster.kubelet.nodes import Node
from tools.localcluster.kubelet.pods import Pod, Surroundings
from tools.localcluster.kubelet.services import ServiceProxy

_log = logging.getLogger(__name__)


class Mirrors:
    """ConfigMaps and Secrets of the whole cluster, so that no start of a Pod waits for a request."""

    def __init__(self, kube: KubeClient, changed: "ChangeListener") -> None:
        self._kube = kube
        self._changed = changed
        self._config_maps = reflect("/api/v1/configmaps")
        self._secrets = reflect("/api/v1/secrets")

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self._config_maps.objects.get((namespace, name))

    def secret(self, namespace: str, name: str) -> Object | None:
        return self._secrets.objects.get((namespace, name))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._config_maps.run(self._kube, self._changed))
            group.create_task(self._secrets.run(self._kube, self._changed))


class ChangeListener:
    """Tells every running Pod that something it may refer to has changed."""

    def __init__(self, pods: Mapping[str, "Running"]) -> None:
        self._pods = pods

    def __call__(self, _before: Object | None, _after: Object | None) -> None:
        for running in self._pods.values():
            running.pod.reconsider_references()


@dataclass(frozen=True)
class Running:
    pod: Pod
    task: asyncio.Task[None]


@dataclass(frozen=True)
class PoweredNode:
    node: Node
    heartbeat: asyncio.Task[None]


class Kubelet:
    """Runs until `run` is cancelled; then every process it started is dead."""

    def __init__(
        self,
        kube: KubeClient,
        plan: AddressPlan,
        *,
        api_port: int,
        images: Images,
        folder: Path,
        logs: Path,
        back_off: BackOff,
        renew_seconds: float,
        log_server: ssl.SSLContext,
    ) -> None:
        self._kube = kube
        self._plan = plan
        self._api_port = api_port
        self._folder = folder
        self._renew_seconds = renew_seconds
        self._running: dict[str, Running] = {}
        self._nodes: dict[str, PoweredNode] = {}
        self._indexes: dict[str, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._pods = reflect("/api/v1/pods", fieldSelector="spec.nodeName!=")
        self._sources = Mirrors(kube, ChangeListener(self._running))
        self._proxy = ServiceProxy(kube, plan)
        self._container_logs = ContainerLogs(self._find_log, log_server)
        self._surroundings = Surroundings(
            kube=kube,
            plan=plan,
            images=images,
            sources=self._sources,
            links=self._links,
            logs=logs,
            back_off=back_off,
        )

    async def run(self, started: asyncio.Event) -> None:
        try:
            async with self._container_logs.served(), asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._pods.run(self._kube, self._pod_changed))
                group.create_task(self._sources.run())
                group.create_task(self._proxy.run())
                await self._pods.synced()
                started.set()
        finally:
            self._group = None

    @property
    def pods(self) -> Iterator[Pod]:
        return iter([running.pod for running in self._running.values()])

    def node(self, name: str) -> Node:
        return self._nodes[name].node

    @property
    def nodes(self) -> list[str]:
        return list(self._nodes)

    async def add_node(self, name: str, labels: Mapping[str, str]) -> Node:
        """Register a node, or switch one on again that was switched off, with the folder it had."""
        assert self._group is not None
        index = self._indexes.setdefault(name, len(self._indexes))
        node = Node(
            self._kube,
            name,
            labels=labels,
            address=self._plan.node_address(index),
            folder=self._folder / name,
            renew_seconds=self._renew_seconds,
        )
        await self._container_logs.listen(to_loopback(node.address))
        await node.register()
        self._nodes[name] = PoweredNode(node, self._group.create_task(node.run()))
        for key in list(self._pods.objects):
            self._reconcile(key)
        return node

    async def power_off(self, name: str) -> Node:
        """Kill everything on the node without a word to the API server: its heartbeat stops."""
        powered = self._nodes.pop(name)
        victims = [running for running in self._running.values() if running.pod.node == name]
        for task in (powered.heartbeat, *(victim.task for victim in victims)):
            task.cancel()
        await asyncio.wait([powered.heartbeat, *(victim.task for victim in victims)])
        return powered.node

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        self._reconcile(changed_key(before, after))

    def _reconcile(self, key: Key) -> None:
        """Start the Pod if it should run and does not; ask it to end if it should not."""
        found = self._pods.objects.get(key)
        uid = found["metadata"]["uid"] if found else None
        for running in self._running.values():
            # Deleted from the API, or replaced by another of the same name: nobody waits for this one.
            if (running.pod.namespace, running.pod.name) == key and running.pod.uid != uid:
                running.pod.end(grace_seconds=0)
        if found is None or found["spec"]["nodeName"] not in self._nodes:
            return
        deleting = "deletionTimestamp" in found["metadata"]
        if uid in self._running:
            if deleting:
                self._running[uid].pod.end(found["metadata"].get("deletionGracePeriodSeconds", 30))
        elif found.get("status", {}).get("phase") not in ("Succeeded", "Failed") or deleting:
            self._start(found)

    def _start(self, found: Object) -> None:
        assert self._group is not None
        node = self._nodes[found["spec"]["nodeName"]].node
        pod = Pod(found, node_folder=node.folder, node_address=node.address, surroundings=self._surroundings)
        if "deletionTimestamp" in found["metadata"]:
            pod.end(grace_seconds=0)
        self._running[pod.uid] = Running(pod, self._group.create_task(self._run(pod)))

    async def _run(self, pod: Pod) -> None:
        try:
            await pod.run()
        except Exception:
            # One Pod that trips over a gap in this stand-in must not take the others with it.
            _log.exception("pod %s/%s cannot be run", pod.namespace, pod.name)
        finally:
            del self._running[pod.uid]

    def _find_log(self, namespace: str, name: str, container_name: str) -> tuple[Path, Callable[[], bool]] | None:
        for pod in self.pods:
            for container in pod.containers:
                found = (pod.namespace, pod.name, container.name) == (namespace, name, container_name)
                if found and container.log.exists():
                    return container.log, lambda pod=pod: pod.uid in self._running
        return None

    def _links(self, namespace: str, enabled: bool) -> dict[str, str]:
        """Variables of the namespace's Services; those of the API server are there even when a Pod wants no links."""
        services = self._proxy.services(namespace) if enabled else ()
        api_server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._api_port)}
        return service_links(services, self._plan.name_address) | api_server
