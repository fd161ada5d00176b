"""`NodeCluster`: a control plane and real nodes, as tests use it: blocking calls, from any thread.

Must run in a machine of its own, which `python -m tools.node` makes: network, mounts and processes are changed freely.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from libs.chassis.errors import Unavailable
from libs.chassis.kube import KubeClient
from tools.localcluster.addresses import AddressPlan
from tools.localcluster.controlplane import ControlPlane, Files, write_files
from tools.localcluster.daemon import Daemon
from tools.localcluster.kube import connected_kube
from tools.localcluster.loop_thread import LoopThread
from tools.localcluster.processes import tail
from tools.localcluster.programs import Programs
from tools.node import configuration, policies
from tools.node.configuration import MACHINE, RUN, SOURCES, NodePlan

Object = dict[str, Any]

_ADDRESSES = AddressPlan(1)
_DNS = "10.1.128.10"
_NODE_GRACE_SECONDS = 12.0
_READY_SECONDS = 180.0
_LOOK_EVERY_SECONDS = 0.2
_ENFORCE_EVERY_SECONDS = 0.5


class NodeFailed(RuntimeError):
    """A node did not come up; the message has the ends of its logs."""


class Node:
    """A node of the cluster, between `power_on` and `power_off`."""

    def __init__(self, plan: NodePlan) -> None:
        self.plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def root(self) -> Path:
        """What is `/` on the node, as far as it is the node's own: below it are /models, /opt, /var."""
        return Path(self.plan.folder) / "root"

    def power_on(self) -> None:
        """Start the node's programs; its disk is as it was."""
        description = Path(self.plan.folder) / "plan.json"
        description.write_text(self.plan.to_json())
        command = [
            "nsenter",
            f"--net={self.plan.network_namespace}",
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
        ]
        command += ["--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        with (Path(self.plan.folder) / "start.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "tools.node.inside", str(description)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def power_off(self) -> None:
        """All processes of the node end at once; its disk stays, and so does the Node object."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def processes(self, name: str) -> list[int]:
        """Numbers, as this machine sees them, of the node's own programs of that name."""
        assert self._process is not None
        [first] = _children(self._process.pid)
        return [pid for pid in _children(first) if _program_of(pid) == self.plan.programs[name]]

    def kill(self, name: str) -> None:
        """SIGKILL a program of the node, which is then started again."""
        [pid] = self.processes(name)
        os.kill(pid, signal.SIGKILL)

    def load(self, images: Iterable[Path]) -> None:
        """Import further images, each an archive, while the node is on (seconds for each)."""
        assert self._process is not None
        [first] = _children(self._process.pid)
        for image in images:
            command = ("images", "import", str(image))
            _run(
                "nsenter",
                f"--target={first}",
                "--mount",
                self.plan.programs["ctr"],
                *configuration.CTR_OPTIONS,
                *command,
            )

    def log(self, lines: int = 40) -> str:
        """The ends of the logs of its programs."""
        logs = [Path(self.plan.folder) / "start.log", *sorted((Path(self.plan.folder) / "logs").glob("*.log"))]
        return "\n".join(f"--- {self.name} {log.name}\n{tail(log, lines)}" for log in logs)


class NodeCluster:
    """A cluster between `start` and `stop`; also a context manager. `archives` are the images of every node."""

    def __init__(self, folder: Path, programs: Programs, userland: Path, archives: list[Path]) -> None:
        self.folder = folder
        self.programs = programs
        self.nodes: dict[str, Node] = {}
        self._userland = userland
        self._archives = archives
        self._servers = LoopThread("node-cluster", self._running)

    def start(self) -> Self:
        """Bring up network and control plane, without any node (seconds)."""
        for name in ("logs", "nodes"):
            (self.folder / name).mkdir(parents=True)
        # Where iproute2 keeps the names of network namespaces.
        _run("mount", "-t", "tmpfs", "tmpfs", "/run")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "nodes", "type", "bridge")
        for address in (MACHINE, SOURCES):
            _run("ip", "address", "add", f"{address}/24", "dev", "nodes")
        _run("ip", "link", "set", "nodes", "up")
        self._servers.start()
        return self

    def stop(self) -> None:
        """Stop nodes and servers, and remove what they wrote."""
        for node in self.nodes.values():
            node.power_off()
        self._servers.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def kubectl_program(self) -> Path:
        """The program behind `kubectl`, for tests that follow what it prints."""
        return self.programs["kubectl"]

    @property
    def api_port(self) -> int:
        """The port of the API server at MACHINE."""
        return self._servers.held[0].port

    @property
    def environment(self) -> dict[str, str]:
        """For kubectl and helm."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}

    def add_node(self, name: str) -> Node:
        """Start a node and wait until it is Ready (half a minute, most of it for unpacking images)."""
        control_plane, files = self._servers.held
        number = len(self.nodes) + 1
        folder = self.folder / "nodes" / name
        folder.mkdir(mode=0o755)
        client = files.issuer.issue_client(f"system:node:{name}", "system:nodes")
        proxy = files.issuer.issue_client("system:kube-proxy")
        plan = NodePlan(
            name=name,
            number=number,
            run=os.environ[RUN],
            folder=str(folder),
            programs={program: str(path) for program, path in self.programs.paths.items()},
            userland=str(self._userland),
            archives=tuple(map(str, self._archives)),
            authority=str(files.authority),
            kubeconfig=str(control_plane.write_kubeconfig(folder / "kubeconfig", client)),
            proxy_kubeconfig=str(control_plane.write_kubeconfig(folder / "proxy.kubeconfig", proxy)),
            dns_address=_DNS,
        )
        node = self.nodes[name] = Node(plan)
        _connect(plan, [other.plan for other in self.nodes.values() if other is not node])
        node.power_on()
        self.await_ready(name)
        return node

    def await_ready(self, name: str, seconds: float = _READY_SECONDS) -> None:
        """Wait until a node is Ready."""
        node = self.nodes[name]

        def ready() -> bool:
            if not node.is_on():
                raise NodeFailed(f"{name} has ended\n{node.log()}")
            return self.is_ready(name)

        self.until(f"{name} is Ready", ready, seconds)

    def is_ready(self, name: str) -> bool:
        """Whether the API server believes that a node is Ready."""
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", name, "-o", f"jsonpath={path}", check=False).strip() == "True"

    def until_reported(self, name: str, moment: datetime) -> None:
        """Wait until the kubelet of a node has renewed its Lease since `moment`."""

        def renewed() -> bool:
            lease = self.get("lease", name, "-n", "kube-node-lease")
            return bool(lease) and datetime.fromisoformat(lease["spec"]["renewTime"]) > moment

        self.until(f"{name} reports", renewed)

    def install_names(self) -> None:
        """Let Pods find Services by name."""
        self.apply(*configuration.names(_DNS))
        self.kubectl("rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=120s")

    def add_disk(self, name: str, node: str, owner: int = 0) -> Path:
        """A PersistentVolume in a folder of a node's disk; the folder as this machine sees it."""
        path = f"/var/disks/{name}"
        folder = self.nodes[node].root / path.lstrip("/")
        folder.mkdir(parents=True)
        os.chown(folder, owner, owner)
        self.apply(*configuration.disk(name, node, path))
        return folder

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """The output of kubectl as administrator; with `check=False` also what it says on stderr when it fails."""
        return self._client("kubectl", arguments, input, check)

    def helm(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """The output of helm as administrator; with `check=False` also what it says on stderr when it fails."""
        return self._client("helm", arguments, input, check)

    def warnings(self, *arguments: str) -> str:
        """What the API server warns of in answer to a command of kubectl, which must succeed."""
        command = [str(self.programs["kubectl"]), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stderr

    def apply(self, *manifests: Object) -> None:
        """kubectl apply."""
        listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))

    def get(self, *arguments: str) -> Object:
        """kubectl get, as JSON; empty when there is no such object."""
        output = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        found: Object = json.loads(output) if output.strip() else {}
        return found

    def until(self, what: str, holds: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait until a condition holds and return what it returned; fails with what the cluster says of itself."""
        deadline = time.monotonic() + seconds
        while not (result := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.diagnostics()}")
            time.sleep(_LOOK_EVERY_SECONDS)
        return result

    def diagnostics(self) -> str:
        """Pods, the last events and the ends of logs, for the report of a failure."""
        parts = [
            self.kubectl("get", "pods", "-A", "-o", "wide", check=False),
            self.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-6000:],
        ]
        for line in self.kubectl("get", "pods", "-n", "ome", "-o", "name", check=False).split():
            parts.append(f"--- {line}\n{self.kubectl('logs', '-n', 'ome', line, '--tail=15', check=False)}")
        parts += [node.log(15) for node in self.nodes.values()]
        return "\n".join(parts)

    def _client(self, program: str, arguments: tuple[str, ...], input: str | None, check: bool) -> str:
        result = subprocess.run(
            [self.programs[program], *arguments],
            env=self.environment,
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode and check:
            said = f"{result.stderr}{result.stdout}\n{self.diagnostics()}"
            raise RuntimeError(f"{program} {' '.join(arguments)} failed: {said}")
        return result.stdout if result.returncode == 0 else result.stdout + result.stderr

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[tuple[ControlPlane, Files]]:
        async with AsyncExitStack() as stack:
            files = write_files(self.folder, _ADDRESSES, MACHINE)
            plane = ControlPlane(self.programs, files, _ADDRESSES, _NODE_GRACE_SECONDS, MACHINE)
            for daemon in (plane.etcd, plane.apiserver, plane.controller_manager, plane.scheduler):
                await _start(stack, daemon)
            plane.write_kubeconfig(self.kubeconfig, files.admin)
            kube = await stack.enter_async_context(connected_kube(plane.url, files.authority, files.admin))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            enforcing = group.create_task(self._enforce_policies(kube))
            yield plane, files
            enforcing.cancel()

    async def _enforce_policies(self, kube: KubeClient) -> None:
        """Keep the firewall of each node as the NetworkPolicies want it; does not return."""
        paths = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
        applied: dict[str, str] = {}
        rules = policies.ruleset([], [], [])
        while True:
            with suppress(Unavailable):
                rules = policies.ruleset(*[(await kube.get(path))["items"] for path in paths])
            for node in list(self.nodes.values()):
                if node.is_on() and applied.get(node.name) != rules:
                    await self._filter(node.plan, rules)
                    applied[node.name] = rules
            await asyncio.sleep(_ENFORCE_EVERY_SECONDS)

    async def _filter(self, plan: NodePlan, rules: str) -> None:
        nft = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={plan.network_namespace}", str(self._userland / "nft"), "-f", "-"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await nft.communicate(rules.encode())
        if nft.returncode:
            raise NodeFailed(f"nft refuses the policies on {plan.name}: {said.decode()}\n{rules}")


async def _start(stack: AsyncExitStack, daemon: Daemon) -> None:
    stack.push_async_callback(daemon.stop)
    await daemon.start()


def _connect(plan: NodePlan, others: list[NodePlan]) -> None:
    """A network namespace for a node, on the bridge of all nodes, with routes to the Pods of the others and back."""
    _run("ip", "netns", "add", plan.name)
    outer = f"to-{plan.name}"
    _run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", plan.name)
    _run("ip", "link", "set", outer, "master", "nodes", "up")
    inside = ("ip", "-n", plan.name)
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "address", "add", f"{plan.address}/24", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "route", "add", "default", "via", MACHINE)
    _run("ip", "route", "add", plan.pod_range, "via", plan.address)
    for other in others:
        _run(*inside, "route", "add", other.pod_range, "via", other.address)
        _run("ip", "-n", other.name, "route", "add", plan.pod_range, "via", plan.address)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _program_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodeFailed(f"{' '.join(command)}: {done.stderr.strip()}")
