"""`LocalCluster`, the cluster as tests, benchmarks and the command line use it: blocking calls, from any thread.

The cluster itself lives on an event loop in a thread of its own, so both plain and asyncio tests may use it; each call
takes milliseconds unless it says otherwise.
"""

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any, Self, TypeVar

from tools.localcluster.assembly import Cluster, Plan, running_cluster
from tools.localcluster.builds import Builder
from tools.localcluster.charts import CRDS, NAMESPACE, SERVICES
from tools.localcluster.kubelet.containers import BackOff
from tools.localcluster.kubelet.pods import Pod
from tools.localcluster.loop_thread import LoopThread
from tools.localcluster.natsserver import Identities
from tools.localcluster.processes import tail
from tools.localcluster.programs import Programs, obtain
from tools.localcluster.status_client import reader_token

ALL_CHARTS = (CRDS, *SERVICES)
_SHORT_NAMES = {"apiserver": "kube-apiserver", "nats": "nats-server"}

T = TypeVar("T")


@dataclass(frozen=True)
class ContainerProcess:
    """A container as it runs now. `pid` is None while it does not."""

    name: str
    pid: int | None
    log: Path


@dataclass(frozen=True)
class PodProcess:
    """A Pod as it runs now. `pid` is that of its first running container, None while there is none."""

    namespace: str
    name: str
    node: str
    pid: int | None
    ready: bool
    restarts: int
    address: str
    log: Path
    containers: tuple[ContainerProcess, ...]


class LocalCluster:
    """A cluster between `start` and `stop`; also a context manager, plain or async.

    `nodes`: how many (node-1, node-2, …), or names with labels. `charts`: which of deploy/helm to install and wait for.
    `helm_values`: overrides by chart. `images`: further images by repository, each an argument list; `python` is ours.
    `node_grace_seconds`: a node is NotReady after so long a silence.
    """

    def __init__(
        self,
        *,
        nodes: int | Mapping[str, Mapping[str, str]] = 3,
        state_dir: Path | None = None,
        hub: bool = True,
        charts: Sequence[str] = ALL_CHARTS,
        helm_values: Mapping[str, Mapping[str, Any]] | None = None,
        images: Mapping[str, Sequence[str]] | None = None,
        node_grace_seconds: float = 40.0,
        back_off: BackOff | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        named = {f"node-{number}": {} for number in range(1, nodes + 1)} if isinstance(nodes, int) else nodes
        self._plan = Plan(
            nodes=named,
            charts=charts,
            hub=hub,
            helm_values=helm_values or {},
            images=images or {},
            node_grace_seconds=node_grace_seconds,
            back_off=back_off or BackOff(),
        )
        self._announce = announce
        self._own_folder = state_dir is None
        self.state_dir = state_dir or Path(tempfile.mkdtemp(prefix="ome-localcluster-"))
        self._programs = Programs({})
        self._servers = LoopThread(
            "localcluster", lambda: running_cluster(self._plan, self._programs, self.state_dir, self._announce)
        )

    def start(self) -> Self:
        """Takes seconds, or minutes when programs are built first. Raises what went wrong, with the log of it."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In the caller's thread, so that an interrupt ends a build.
        self._programs = obtain(Builder(os.environ).build, os.environ)
        try:
            self._servers.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything in reverse order and wait for it. May be called again."""
        self._servers.stop()
        if self._own_folder:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and self._servers.is_open:
            print(self.diagnostics(), file=sys.stderr)
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self._cluster.kubeconfig

    @property
    def nats_url(self) -> str:
        return self._cluster.nats.url

    @property
    def nats_authority(self) -> Path:
        """What the services know nats-server by."""
        return self._cluster.authority

    @property
    def nats_identities(self) -> Identities:
        """Passwords and issuer seed, for tests that speak to NATS as one of the services."""
        return self._cluster.identities

    @property
    def hub_url(self) -> str | None:
        """The Hugging Face endpoint that the fetchers use."""
        return self._cluster.hub_url

    @property
    def status_authority(self) -> Path:
        """What callers know the status service by."""
        return self.state_dir / "ome-status-ca" / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """One JSON event per completed API request."""
        return self._cluster.audit_log

    @property
    def nodes(self) -> list[str]:
        """Those that are switched on."""
        return self._cluster.kubelet.nodes

    def env(self) -> dict[str, str]:
        """What another tool needs to join in."""
        variables = {
            "KUBECONFIG": str(self.kubeconfig),
            "NATS_URL": self.nats_url,
            "NATS_CA": str(self.nats_authority),
            "STATUS_ADDR": self.service_address("ome-status", 9090),
            "STATUS_PAGE": f"https://{self.service_address('ome-status', 8443)}",
            "STATUS_CA": str(self.status_authority),
            "STATUS_TOKEN": self.status_token,
            "PARSER_ADDR": self.service_address("ome-parser", 9090),
            "PARSER_TLS_DIR": str(self.state_dir / "ome-parser-client-tls"),
            "HF_ENDPOINT": self.hub_url or "",
            "NODES": ",".join(self.nodes),
        }
        return variables | {
            f"NODE_ROOT_{number}": str(self.node_root(name)) for number, name in enumerate(self.nodes, 1)
        }

    @functools.cached_property
    def status_token(self) -> str:
        """A token for StatusService, of an account that may read models and nodes."""
        return reader_token(self.kubectl)

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """The output of kubectl as administrator; with `check=False` also what it says on stderr when it fails."""
        result = subprocess.run(
            [self._cluster.programs["kubectl"], *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0 and check:
            raise RuntimeError(f"kubectl {' '.join(arguments)} failed: {result.stderr}")
        return result.stdout if result.returncode == 0 else result.stdout + result.stderr

    def install(self, *names: str, values: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Install or upgrade charts of deploy/helm and wait until all of them are ready (seconds)."""
        self._servers.call(self._cluster.install(names, values or {}))

    def install_from(self, charts: Path, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Install or upgrade charts of another folder with these values alone, by chart, and wait until ready."""
        self._servers.call(self._cluster.install_from(charts, values))

    @property
    def kubectl_program(self) -> Path:
        """The program behind `kubectl`, for tests that follow what it prints."""
        return Path(self._cluster.programs["kubectl"])

    def wait_ready(self) -> None:
        """Wait until every workload in namespace `ome` is rolled out (seconds)."""
        self._servers.call(self._cluster.until_ready())

    def service_address(self, service: str, port: int, namespace: str = NAMESPACE) -> str:
        """host:port at which a Service is reached from this machine, whether or not it exists yet."""
        address = self._servers.call(self._in_loop(lambda: self._cluster.addresses.name_address(namespace, service)))
        return f"{address}:{port}"

    def pid(self, program: str) -> int | None:
        """The process of a server (etcd, apiserver, nats, …)."""
        return self._cluster.daemons()[_SHORT_NAMES.get(program, program)].pid

    def kill(self, program: str) -> None:
        """SIGKILL a server and wait until it is dead."""
        self._servers.call(self._daemon(program).kill())

    def restart(self, program: str) -> None:
        """Start a killed server (kill a running one first) on the same ports and data; returns when it is ready."""
        daemon = self._daemon(program)
        self._servers.call(daemon.kill())
        self._servers.call(daemon.start())

    def send_signal(self, program: str, number: int) -> None:
        """Send a signal, for example SIGSTOP and SIGCONT, to a server."""
        self._servers.call(self._in_loop(lambda: self._daemon(program).signal(number)))

    def pods(self, service: str | None = None, node: str | None = None, namespace: str = NAMESPACE) -> list[PodProcess]:
        """The Pods that run now, of one service (its directory's name) and on one node if given."""
        return [_process_of(pod) for pod in self._select(service, node, namespace)]

    def kill_pod_process(
        self,
        service: str,
        node: str | None = None,
        *,
        pod: str | None = None,
        number: int = SIGKILL,
        namespace: str = NAMESPACE,
    ) -> int:
        """Send a signal to every container process of the selected Pods; the number of processes that got it."""
        selected = [found for found in self._select(service, node, namespace) if pod in (None, found.name)]
        running = [container for found in selected for container in found.containers if container.pid is not None]

        def send() -> int:
            for container in running:
                container.signal(number)
            return len(running)

        return self._servers.call(self._in_loop(send))

    def logs(
        self, service: str | None = None, node: str | None = None, namespace: str = NAMESPACE, lines: int = 200
    ) -> str:
        """The ends of the logs of the Pods that `pods` would return."""
        return "\n".join(
            f"--- {pod.name} on {pod.node}\n{tail(container.log, lines)}"
            for pod in self._select(service, node, namespace)
            for container in pod.containers
        )

    def diagnostics(self) -> str:
        """State and log of every container, for a failure's report."""
        if not self._servers.is_alive:
            return "the cluster has ended"
        return self._servers.call(self._in_loop(self._cluster.diagnostics))

    def add_node(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Register a new node, or switch on again one that was stopped."""
        self._servers.call(self._cluster.kubelet.add_node(name, labels or {}))

    def stop_node(self, name: str) -> None:
        """Power failure: every process on the node dies, its lease goes stale, its folder stays."""
        self._servers.call(self._cluster.kubelet.power_off(name))

    def remove_node(self, name: str) -> None:
        """Power failure for good: as `stop_node`, and the Node object is deleted."""

        async def remove() -> None:
            node = await self._cluster.kubelet.power_off(name)
            await node.unregister()

        self._servers.call(remove())

    def node_root(self, name: str) -> Path:
        """The folder that is the node's `/`, also after the node was stopped."""
        return self.state_dir / "nodes" / name / "root"

    @property
    def _cluster(self) -> Cluster:
        if not self._servers.is_alive:
            raise RuntimeError("the cluster does not run")
        return self._servers.held

    def _daemon(self, program: str) -> Any:
        return self._cluster.daemons()[_SHORT_NAMES.get(program, program)]

    def _select(self, service: str | None, node: str | None, namespace: str) -> list[Pod]:
        def select() -> list[Pod]:
            return [
                pod
                for pod in self._cluster.kubelet.pods
                if pod.namespace == namespace
                and node in (None, pod.node)
                and (service is None or pod.labels.get("app.kubernetes.io/name") in (service, f"ome-{service}"))
            ]

        return self._servers.call(self._in_loop(select))

    async def _in_loop(self, function: Callable[[], T]) -> T:
        return function()


def _process_of(pod: Pod) -> PodProcess:
    containers = pod.containers
    pids = [container.pid for container in containers if container.pid is not None]
    return PodProcess(
        namespace=pod.namespace,
        name=pod.name,
        node=pod.node,
        pid=pids[0] if pids else None,
        ready=all(container.state.ready for container in containers),
        restarts=sum(container.state.restart_count for container in containers),
        address=pod.address,
        log=containers[-1].log,
        containers=tuple(ContainerProcess(each.name, each.pid, each.log) for each in containers),
    )
