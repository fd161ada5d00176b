"""Puts the parts of one cluster together, in the order in which they start and, reversed, stop."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.chassis.kube import KubeClient, Object
from tools.localcluster.addresses import AddressPlan, claimed_plan
from tools.localcluster.charts import (
    CHARTS,
    CRDS,
    FETCHER,
    NAMESPACE,
    Charts,
    local_values,
    merged,
    prepare_namespace,
    write_certificates,
)
from tools.localcluster.controlplane import ControlPlane, write_files
from tools.localcluster.daemon import Daemon
from tools.localcluster.hub import Hub
from tools.localcluster.kube import connected_kube
from tools.localcluster.kubelet.containerlogs import server_context
from tools.localcluster.kubelet.containers import BackOff
from tools.localcluster.kubelet.images import Images
from tools.localcluster.kubelet.kubelet import Kubelet
from tools.localcluster.natsserver import Identities, NatsServer, new_identities
from tools.localcluster.processes import tail
from tools.localcluster.programs import Programs
from tools.localcluster.reminder import Reminder

_STOP_SECONDS = 10.0


class NotReady(RuntimeError):
    """What was installed did not become ready in time; the message says what is missing and shows its log."""


@dataclass(frozen=True)
class Plan:
    """What a cluster is to consist of."""

    nodes: Mapping[str, Mapping[str, str]]
    charts: Sequence[str] = ()
    hub: bool = True
    helm_values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    back_off: BackOff = field(default_factory=BackOff)
    node_grace_seconds: float = 40.0
    ready_seconds: float = 120.0


@dataclass
class Cluster:
    """The running parts."""

    plan: Plan
    folder: Path
    addresses: AddressPlan
    programs: Programs
    control_plane: ControlPlane
    nats: NatsServer
    identities: Identities
    kubelet: Kubelet
    kube: KubeClient
    kubeconfig: Path
    authority: Path
    audit_log: Path
    hub: Hub | None
    charts: Charts
    announce: Callable[[str], None]

    @property
    def hub_url(self) -> str | None:
        return self.hub.url if self.hub else os.environ.get("HF_ENDPOINT")

    def daemons(self) -> dict[str, Daemon]:
        plane = self.control_plane
        daemons = [plane.etcd, plane.apiserver, plane.controller_manager, plane.scheduler, self.nats.daemon]
        if self.hub is not None:
            daemons.append(self.hub.daemon)
        return {daemon.name: daemon for daemon in daemons}

    async def install(self, names: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> None:
        """Install or upgrade charts and wait until everything in them is ready."""
        defaults = local_values(
            self.nats.url, self.hub_url, lambda service: self.addresses.name_address(NAMESPACE, service)
        )
        await self.install_from(CHARTS, {name: merged(defaults.get(name, {}), values.get(name, {})) for name in names})

    async def install_from(self, charts: Path, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Install or upgrade charts of a folder with these values alone, and wait until everything in them is ready."""
        names = list(values)
        # NATS lets no fetcher in before the controller can vouch for it: started together, each waits for the other's
        # share of the processor and for the end of a refused connection.
        for stage in ([name for name in names if name != FETCHER], [name for name in names if name == FETCHER]):
            if stage:
                await self.charts.install(stage, values, charts)
                await self.until_ready(CRDS in names)
        await write_certificates(self.kube, self.folder)

    async def until_ready(self, with_crds: bool = True) -> None:
        """Wait until all CRDs are established and all workloads of our namespace are rolled out."""
        missing: list[str] = []
        reminder = Reminder(lambda about: self.announce(f"waiting for {about}"))
        try:
            async with asyncio.timeout(self.plan.ready_seconds):
                while missing := await self._unready(with_crds):
                    reminder.waits_for(", ".join(missing))
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise NotReady(
                f"not ready after {self.plan.ready_seconds:.0f} s: {', '.join(missing)}\n{self.diagnostics()}"
            ) from error

    async def _unready(self, with_crds: bool) -> list[str]:
        apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"
        unready = [
            f"{kind[:-1]} {item['metadata']['name']}"
            for kind in ("deployments", "daemonsets")
            for item in (await self.kube.get(f"{apps}/{kind}"))["items"]
            if not _rolled_out(item)
        ]
        if with_crds:
            crds = (await self.kube.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions"))["items"]
            unready += [f"CRD {item['metadata']['name']}" for item in crds if not _has_condition(item, "Established")]
        return unready

    def diagnostics(self) -> str:
        """What someone wants to read when something went wrong: each container's state and the end of its log."""
        parts = []
        for pod in self.kubelet.pods:
            for container in pod.containers:
                state = container.state
                where = f"{pod.namespace}/{pod.name} on {pod.node}"
                how = f"ready={state.ready} restarts={state.restart_count} {state.state}"
                parts.append(f"--- {where}: {how}\n{tail(container.log, 30)}")
        return "\n".join(parts)


def _rolled_out(item: Object) -> bool:
    """As `kubectl rollout status` sees it."""
    status = item.get("status", {})
    if status.get("observedGeneration", 0) < item["metadata"]["generation"]:
        return False
    if item["spec"].get("replicas") is None:
        wanted, fields = status.get("desiredNumberScheduled", 0), ["updatedNumberScheduled", "numberReady"]
    else:
        wanted, fields = item["spec"]["replicas"], ["updatedReplicas", "readyReplicas", "replicas"]
    return all(status.get(field, 0) == wanted for field in fields)


def _has_condition(item: Object, kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


@asynccontextmanager
async def running_cluster(
    plan: Plan, programs: Programs, folder: Path, announce: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Cluster]:
    """A whole cluster in `folder`, which must be empty, until the context ends. `announce` hears of each stage."""
    async with AsyncExitStack() as stack:
        addresses = stack.enter_context(claimed_plan())
        for name in ("logs", "nodes"):
            (folder / name).mkdir()
        programs.link_into(folder / "bin")
        files = write_files(folder, addresses)
        control_plane = ControlPlane(programs, files, addresses, plan.node_grace_seconds)
        identities = new_identities()
        nats = NatsServer(programs, folder, identities, files.nats)
        hub = Hub(folder) if plan.hub and not os.environ.get("HF_ENDPOINT") else None
        announce("starting etcd, kube-apiserver and nats-server")
        async with asyncio.TaskGroup() as group:
            group.create_task(_start(stack, nats.daemon, announce))
            if hub is not None:
                group.create_task(_start(stack, hub.daemon, announce))
            await _start(stack, control_plane.etcd, announce)
            await _start(stack, control_plane.apiserver, announce)
        kubeconfig = control_plane.write_kubeconfig(folder / "kubeconfig", files.admin)
        kube = await stack.enter_async_context(connected_kube(control_plane.url, files.authority, files.kubelet))
        announce(f"starting the controllers and {len(plan.nodes)} nodes")
        kubelet = Kubelet(
            kube,
            addresses,
            api_port=control_plane.port,
            images=Images(plan.images),
            folder=folder / "nodes",
            logs=folder / "logs" / "pods",
            back_off=plan.back_off,
            renew_seconds=min(10.0, plan.node_grace_seconds / 5),
            log_server=server_context(files.authority, files.server.certificate, files.server.key),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(_start(stack, control_plane.controller_manager, announce))
            group.create_task(_start(stack, control_plane.scheduler, announce))
            group.create_task(prepare_namespace(kube, identities, files.authority.read_text()))
        await stack.enter_async_context(_running_kubelet(kubelet))
        for name, labels in plan.nodes.items():
            await kubelet.add_node(name, labels)
        cluster = Cluster(
            plan=plan,
            folder=folder,
            addresses=addresses,
            programs=programs,
            control_plane=control_plane,
            nats=nats,
            identities=identities,
            kubelet=kubelet,
            kube=kube,
            kubeconfig=kubeconfig,
            authority=files.authority,
            audit_log=files.audit_log,
            hub=hub,
            charts=Charts(programs, kubeconfig, folder),
            announce=announce,
        )
        if plan.charts:
            announce(f"installing the charts {', '.join(plan.charts)}")
            await cluster.install(plan.charts, plan.helm_values)
        yield cluster


async def _start(stack: AsyncExitStack, daemon: Daemon, announce: Callable[[str], None]) -> None:
    stack.push_async_callback(daemon.stop, _STOP_SECONDS)
    await daemon.start(Reminder(lambda about: announce(f"waiting for {about}")))


@asynccontextmanager
async def _running_kubelet(kubelet: Kubelet) -> AsyncIterator[None]:
    """The end of the cluster is a power failure for its Pods: nothing of them has to be kept."""
    started = asyncio.Event()
    task = asyncio.create_task(kubelet.run(started))
    try:
        started_task = asyncio.create_task(started.wait())
        await asyncio.wait([task, started_task], return_when=asyncio.FIRST_COMPLETED)
        started_task.cancel()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
