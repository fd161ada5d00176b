"""`make bench-fleet NODES=1000 MODELS=100`: how controller and status do with a fleet, beside real servers.

etcd, kube-apiserver and nats-server are real, controller and status run as processes under the permissions of their
charts; nodes are objects only, and one process speaks for all their fetchers (simulated_fetchers). For each thing that
happens to the fleet it prints how long that took until everything was as desired, and at what cost.
"""

import argparse
import asyncio
import contextlib
import copy
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from libs.chassis.errors import Missing, ServiceError
from libs.chassis.kube import MERGE_PATCH, METADATA_ONLY, KubeClient
from services.controller.permissions import NODES
from tests.bench.simulated_fetchers import node_names
from tests.support.chart_memory import charted_memory
from tests.support.fleet import model
from tests.support.mounted_secret import usual_sides
from tests.support.nats_server import NatsServer
from tests.support.programs import ROOT, programs, render
from tools.localcluster.addresses import claimed_plan, free_port
from tools.localcluster.controlplane import ControlPlane, write_files
from tools.localcluster.kube import apply, connected_kube
from tools.localcluster.natsserver import Identities, configuration, new_identities
from tools.localcluster.processes import Process

Object = dict[str, Any]

NAMESPACE = "ome"
COLLECTION = "/apis/ome.io/v1beta1/clusterbasemodels"
LABEL = "models.ome/"
OURS = f"system:serviceaccount:{NAMESPACE}:"
_LOOK_SECONDS = 0.25
# Node objects: how many requests the bench has under way, and how often a kubelet reports although nothing has changed.
_PARALLEL = 32
_NODE_STATUS_SECONDS = 300.0
# A service counts as quiet when it takes less of a processor than this for so long.
_QUIET_SHARE, _QUIET_SECONDS = 0.2, 1.5
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Phase:
    """What one thing that happened has taken."""

    name: str
    seconds: list[tuple[str, float]] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)
    nats_in: int = 0
    nats_out: int = 0
    requests: Counter[str] = field(default_factory=Counter)


class Bench:
    """A running installation and the clock beside it."""

    def __init__(
        self,
        kube: KubeClient,
        folder: Path,
        nats_server: NatsServer,
        monitor: str,
        api_port: int,
        size: tuple[int, int],
    ) -> None:
        """monitor is the address of nats-server's own figures, size how many nodes and models there are."""
        self.kube = kube
        self.nodes, self.models = size
        self.phases: list[Phase] = []
        self.pids: dict[str, Callable[[], int]] = {}
        self._folder = folder
        self._nats_server = nats_server
        self._monitor = monitor
        self._api_port = api_port
        self._services: dict[str, Process] = {}
        self._http: dict[str, int] = {}
        self._audited = 0

    async def start(self, service: str) -> None:
        """Start controller, gateway, status or the simulated fetchers; a former process must have ended."""
        log = self._folder / "logs" / f"{service}.log"
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", f"services.{service}"]
        if service == "gateway":
            command = [sys.executable, "-m", "services.controller", "gateway"]
        if service == "fetchers":
            command = [sys.executable, "-m", "tests.bench.simulated_fetchers", "--nodes", str(self.nodes)]
            command += ["--nats-url", self._nats_server.url, "--nats-ca", str(self._nats_server.authority)]
            command += ["--password-file", str(self._folder / "fleet-password")]
            command += ["--resolver-password-file", str(self._folder / "resolvers-password")]
        else:
            self._http[service] = free_port()
            environ |= await self._settings(service)
        self._services[service] = Process(command, environ, ROOT, log)
        self.pids[service] = lambda: self._services[service].pid

    async def stop(self) -> None:
        """Stop whatever runs."""
        for process in self._services.values():
            await process.stop(5.0)

    async def restart(self, service: str) -> None:
        """kill -9, and start again at once, as a kubelet does."""
        if service == "nats-server":
            await self._nats_server.kill()
            await self._nats_server.start()
        else:
            await self._services[service].kill()
            await self.start(service)

    async def ready_and_quiet(self) -> None:
        """Wait until both services say that they are ready and nothing takes processor time any more."""
        quiet_since, before = time.monotonic(), self._cpu()
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            started = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            now = self._cpu()
            share = {name: (now[name] - before[name]) / (time.monotonic() - started) for name in now}
            busy = any(share[name] > _QUIET_SHARE for name in ("controller", "gateway", "status", "fetchers"))
            before = now
            if busy or not all([await self._is_ready(service) for service in ("controller", "gateway", "status")]):
                quiet_since = time.monotonic()

    @property
    def pace_seconds(self) -> float:
        """How often to look at all models: the bench must not be what keeps the API server busy."""
        return _LOOK_SECONDS + self.nodes * self.models / 100_000

    async def has_all_ready(self) -> bool:
        """Whether each model is Ready on every node that it is meant for, as its status says."""
        items = [item async for item in self.items()]
        return len(items) == self.models and all(is_complete(item) for item in items)

    async def items(self) -> AsyncIterator[Object]:
        """All models."""
        async for page in self.kube.pages(COLLECTION):
            for item in page["items"]:
                yield item

    async def labels(self) -> Counter[str]:
        """Of each model, by uid, on how many nodes a label says that it is Ready."""
        counts: Counter[str] = Counter()
        async for page in self.kube.pages("/api/v1/nodes", accept=METADATA_ONLY.format("PartialObjectMetadataList")):
            for node in page["items"]:
                labels = node["metadata"].get("labels") or {}
                counts.update(
                    key.removeprefix(LABEL) for key, word in labels.items() if key.startswith(LABEL) and word == "Ready"
                )
        return counts

    async def has_all_labels(self) -> bool:
        """Whether the nodes' labels say what the statuses say."""
        counts = await self.labels()
        wanted = {item["metadata"]["uid"]: item["status"]["nodes"]["ready"] async for item in self.items()}
        return +counts == +Counter(wanted)

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[Phase]:
        """Measure what happens inside."""
        phase = Phase(name)
        cpu, (came, went) = self._cpu(), await self._messages()
        self._requests()
        started = time.monotonic()
        failed = False
        try:
            yield phase
        except TimeoutError:
            failed = True
        phase.seconds.append(("until the deadline: FAILED" if failed else "all", time.monotonic() - started))
        after, (came_after, went_after) = self._cpu(), await self._messages()
        # The processor time of a process that was killed is lost with it.
        phase.cpu = {key: after[key] - (cpu[key] if after[key] >= cpu[key] else 0.0) for key in after}
        phase.nats_in, phase.nats_out = came_after - came, went_after - went
        phase.requests = self._requests()
        phase.resident = self.resident()
        self.phases.append(phase)
        show(phase)

    def resident(self) -> dict[str, int]:
        """The memory of each process, in bytes."""
        return {key: _resident_bytes(pid()) for key, pid in self.pids.items()}

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs of the services into a folder; that of all requests is too large."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in (self._folder / "logs").glob("*.log"):
            if log.name != "audit.log":
                (folder / log.name).write_bytes(log.read_bytes())

    def _cpu(self) -> dict[str, float]:
        return {key: cpu_seconds(pid()) for key, pid in self.pids.items()}

    async def _messages(self) -> tuple[int, int]:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self._monitor}/varz") as answer:
                figures = await answer.json()
                return int(figures["in_msgs"]), int(figures["out_msgs"])
        except aiohttp.ClientError:
            return 0, 0

    def _requests(self) -> Counter[str]:
        """Requests of our services since the last look at the audit log, by service, verb and resource."""
        counts: Counter[str] = Counter()
        with (self._folder / "logs" / "audit.log").open("rb") as lines:
            lines.seek(self._audited)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._audited += len(line)
                event = json.loads(line)
                user, reference = event["user"]["username"], event.get("objectRef", {})
                if user.startswith(OURS) and event["verb"] != "watch":
                    resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
                    counts[f"{user.removeprefix(OURS).removeprefix('ome-')} {event['verb']} {resource}"] += 1
        return counts

    async def _is_ready(self, service: str) -> bool:
        address = f"http://127.0.0.1:{self._http[service]}/readyz"
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(address) as answer:
                return answer.status == 200
        return False

    async def _settings(self, service: str) -> dict[str, str]:
        account = self._folder / f"{service}-account"
        account.mkdir(exist_ok=True)
        owner = "controller" if service == "gateway" else service
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/ome-{owner}/token"
        request: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        request["spec"] = {"expirationSeconds": 86400}
        (account / "token").write_text((await self.kube.request("POST", path, request))["status"]["token"])
        (account / "ca.crt").write_text((self._folder / "keys" / "ca.crt").read_text())
        settings = {
            "OME_NAMESPACE": NAMESPACE,
            # The same at each start, as a container has that the kubelet starts again in its Pod.
            "OME_POD_NAME": f"{service}-0",
            "OME_NATS_URL": self._nats_server.url,
            "OME_NATS_CA_FILE": str(self._nats_server.authority),
            "OME_NATS_PASSWORD_FILE": str(self._folder / f"{service}-password"),
            "OME_SERVICE_ACCOUNT_DIR": str(account),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._api_port),
            "OME_HTTP_PORT": str(self._http[service]),
        }
        if service == "status":
            tls = str(usual_sides().server.folder)
            return {**settings, "OME_GRPC_PORT": str(free_port()), "OME_GRPC_TLS_DIR": tls}
        if service == "gateway":
            nodes_password = str(self._folder / "gateway-nodes-password")
            seed = str(self._folder / "issuer-seed")
            return {**settings, "OME_NATS_NODES_PASSWORD_FILE": nodes_password, "OME_NATS_ISSUER_SEED_FILE": seed}
        size = str(256 << 20)
        return {**settings, "OME_PARSER_IMAGE": "parser", "OME_NATS_REPLICAS": "1", "OME_NATS_BUCKET_BYTES": size}


def is_complete(item: Object) -> bool:
    """Whether a status answers the present generation and lists all desired nodes as ready."""
    status = item.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    return status.get("observedGeneration") == item["metadata"]["generation"] and conditions.get("Complete") == "True"


async def until(seconds: float, holds: Callable[[], Awaitable[bool]], every: float = _LOOK_SECONDS) -> None:
    """Wait until a condition holds; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(every)


async def spread(requests: Iterable[Awaitable[Any]]) -> None:
    """Make requests, several at a time."""
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(request: Awaitable[Any]) -> None:
        async with gate:
            await request

    await asyncio.gather(*(one(request) for request in requests))


def node_object(number: int, name: str) -> Object:
    """A Node as a kubelet registers it."""
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"z{number % 10}"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [_ready_condition()]},
    }


def _ready_condition() -> Object:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}


async def report_nodes(kube: KubeClient, nodes: list[str]) -> None:
    """Renew each node's status as kubelets do, until cancelled."""
    while True:
        for name in nodes:
            await asyncio.sleep(_NODE_STATUS_SECONDS / len(nodes))
            with contextlib.suppress(ServiceError):
                body = {"status": {"conditions": [_ready_condition()]}}
                await kube.request("PATCH", f"/api/v1/nodes/{name}/status", body, content_type=_STRATEGIC)


_STRATEGIC = "application/strategic-merge-patch+json"


async def measure(bench: Bench, idle_seconds: float, patience: float) -> None:
    kube, names = bench.kube, node_names(bench.nodes)
    manifests = [model(f"bench-{number:04}", f"hf://bench/model-{number}@one") for number in range(bench.models)]

    async with bench.phase("start: nodes, services"):
        await spread(
            kube.request("POST", "/api/v1/nodes", node_object(number, name)) for number, name in enumerate(names)
        )
        await bench.ready_and_quiet()

    async with bench.phase("apply all models") as phase:
        started = time.monotonic()
        await spread(kube.request("POST", COLLECTION, manifest) for manifest in manifests)
        await until(patience, bench.has_all_ready, bench.pace_seconds)
        phase.seconds.append(("all Ready", time.monotonic() - started))
        await until(120, bench.has_all_labels, 2 * bench.pace_seconds)
        phase.seconds.append(("all labels", time.monotonic() - started))
        await bench.ready_and_quiet()

    async with bench.phase(f"idle for {idle_seconds:g} s"):
        await asyncio.sleep(idle_seconds)

    special = model("bench-special", "hf://bench/special@one", nodeSelector={"bench": "special"})
    await kube.request("POST", COLLECTION, special)
    await bench.ready_and_quiet()
    async with bench.phase("relabel one node") as phase:
        body = {"metadata": {"labels": {"bench": "special"}}}
        await kube.request("PATCH", f"/api/v1/nodes/{names[0]}", body, content_type=MERGE_PATCH)

        async def is_placed() -> bool:
            status = (await kube.get(f"{COLLECTION}/bench-special")).get("status") or {}
            return list(status.get("nodesReady") or ()) == [names[0]]

        await until(60, is_placed, 0.05)
    await kube.request("DELETE", f"{COLLECTION}/bench-special")
    await bench.ready_and_quiet()

    async with bench.phase("edit of one selector") as phase:
        edit = {"spec": {"storage": {"nodeSelector": {"topology.kubernetes.io/zone": "z3"}}}}
        path = f"{COLLECTION}/bench-0000"
        await kube.request("PATCH", path, edit, content_type=MERGE_PATCH)
        wanted = sum(1 for number in range(bench.nodes) if number % 10 == 3)

        async def has_moved() -> bool:
            item = await kube.get(path)
            return is_complete(item) and item["status"]["nodes"]["ready"] == wanted

        started = time.monotonic()
        await until(60, has_moved, 0.05)
        phase.seconds.append(("status", time.monotonic() - started))
        await until(120, bench.has_all_labels, 2 * bench.pace_seconds)
    await bench.ready_and_quiet()

    for service in ("controller", "gateway", "status", "nats-server"):
        async with bench.phase(f"kill -9 {service}"):
            await bench.restart(service)
            async with asyncio.timeout(180):
                await bench.ready_and_quiet()

    # By now nodes have read what they had said, of which they read only what is newer from then on.
    async with bench.phase(f"idle for {idle_seconds:g} s, later"):
        await asyncio.sleep(idle_seconds)

    async with bench.phase("new revision of every model") as phase:
        started = time.monotonic()
        await spread(
            kube.request(
                "PATCH",
                f"{COLLECTION}/{manifest['metadata']['name']}",
                {"spec": {"storage": {"storageUri": f"hf://bench/model-{number}@two"}}},
                content_type=MERGE_PATCH,
            )
            for number, manifest in enumerate(manifests)
        )
        await until(patience, bench.has_all_ready, bench.pace_seconds)
        phase.seconds.append(("all Ready", time.monotonic() - started))
        await bench.ready_and_quiet()

    async with bench.phase("delete all models") as phase:
        started = time.monotonic()
        await spread(_delete(kube, manifest) for manifest in manifests)

        async def are_gone() -> bool:
            return not [item async for item in bench.items()]

        await until(patience, are_gone)
        phase.seconds.append(("gone", time.monotonic() - started))

        async def have_no_labels() -> bool:
            return not await bench.labels()

        await until(120, have_no_labels, 2 * bench.pace_seconds)
        phase.seconds.append(("labels gone", time.monotonic() - started))
        await bench.ready_and_quiet()


async def _delete(kube: KubeClient, manifest: Object) -> None:
    with contextlib.suppress(Missing):
        await kube.request("DELETE", f"{COLLECTION}/{manifest['metadata']['name']}")


def show(phase: Phase) -> None:
    """Print one phase as soon as it is over: the bench takes long."""
    console = Console(width=140)
    console.print(f"[bold]{phase.name}[/bold]: " + ", ".join(f"{what} {took:.1f} s" for what, took in phase.seconds))
    processors = ", ".join(f"{name} {seconds:.1f}" for name, seconds in phase.cpu.items())
    console.print(f"  CPU-s: {processors}; sum {sum(phase.cpu.values()):.1f}")
    resident = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in phase.resident.items())
    console.print(f"  RSS MB: {resident}; NATS messages in {phase.nats_in:,}, out {phase.nats_out:,}")
    requests = ", ".join(f"{name} {count}" for name, count in phase.requests.most_common(12))
    console.print(f"  API requests {sum(phase.requests.values())}: {requests}")


def summarize(bench: Bench) -> None:
    pairs = bench.nodes * bench.models
    table = Table("phase", "seconds", "CPU-s", "per 1,000 pairs", "API requests per pair")
    for phase in bench.phases:
        cpu, requests = sum(phase.cpu.values()), sum(phase.requests.values())
        took = ", ".join(f"{what} {seconds:.1f}" for what, seconds in phase.seconds)
        table.add_row(phase.name, took, f"{cpu:.1f}", f"{cpu / pairs * 1000:.2f}", f"{requests / pairs:.3f}")
    Console(width=140).print(table)


def check_memory(bench: Bench) -> None:
    """Hold the most memory that each process had at the end of a phase against its chart. Exits 1 beyond a limit."""
    table = Table("process", "most MB", "request MB", "limit MB")
    beyond = []
    for process, charted in (("controller",) * 2, ("gateway",) * 2, ("status",) * 2, ("nats-server", "nats")):
        most = max((phase.resident.get(process, 0) for phase in bench.phases), default=0)
        memory = charted_memory(charted)
        table.add_row(process, *(f"{size / 1e6:.0f}" for size in (most, memory.request, memory.limit)))
        if most > memory.limit:
            beyond.append(process)
    Console(width=140).print(table)
    if beyond:
        sys.exit(f"beyond the limit of its chart: {', '.join(beyond)}")


@asynccontextmanager
async def running_bench(folder: Path, nodes: int, models: int) -> AsyncIterator[Bench]:
    """Start the servers, install CRDs and permissions, and start the services."""
    (folder / "logs").mkdir()
    async with AsyncExitStack() as stack:
        plan = stack.enter_context(claimed_plan())
        files = write_files(folder, plan)
        plane = ControlPlane(programs(), files, plan, node_grace_seconds=40)
        identities, monitor = new_identities(), free_port()
        nats_folder = folder / "nats"
        nats_folder.mkdir()
        server = NatsServer(nats_folder, _nats_configuration(folder, identities, monitor))
        stack.push_async_callback(server.stop)
        await server.start()
        for daemon in (plane.etcd, plane.apiserver):
            stack.push_async_callback(daemon.stop)
            await daemon.start()
        kube = await stack.enter_async_context(connected_kube(plane.url, files.authority, files.admin))
        await _install(kube)
        bench = Bench(kube, folder, server, f"http://127.0.0.1:{monitor}", plane.port, (nodes, models))
        bench.pids = {"etcd": lambda: plane.etcd.pid or 0, "kube-apiserver": lambda: plane.apiserver.pid or 0}
        bench.pids["nats-server"] = lambda: server.pid
        stack.push_async_callback(bench.stop)
        for service in ("controller", "gateway", "status", "fetchers"):
            await bench.start(service)
        yield bench


def _nats_configuration(folder: Path, identities: Identities, monitor: int) -> dict[str, Any]:
    """That of the local cluster, with one more user for all fetchers together."""
    settings: dict[str, Any] = copy.deepcopy(configuration(0, folder, identities))
    del settings["listen"], settings["jetstream"]
    settings["http"] = f"127.0.0.1:{monitor}"
    # A fetcher has a connection of its own, and needs three subscriptions.
    settings["accounts"][NODES]["limits"]["max_subscriptions"] = 1000
    settings["accounts"][NODES]["users"].append({"user": "fleet", "password": identities.issuer})
    settings["authorization"]["auth_callout"]["auth_users"].append("fleet")
    for name, secret in (
        *((f"{user}-password", password) for user, password in identities.passwords.items()),
        ("fleet-password", identities.issuer),
        ("issuer-seed", identities.issuer_seed),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(secret)
    return settings


async def _install(kube: KubeClient) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await apply(kube, f"/api/v1/namespaces/{NAMESPACE}", namespace)
    wide = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}
    wide["CustomResourceDefinition"] = "customresourcedefinitions"
    local = {"Role": "roles", "RoleBinding": "rolebindings", "ServiceAccount": "serviceaccounts"}
    for item in (*render("crds"), *render("controller"), *render("status")):
        version, metadata = item["apiVersion"], item["metadata"]
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        if item["kind"] in wide:
            await apply(kube, f"{root}/{wide[item['kind']]}/{metadata['name']}", item)
        elif item["kind"] in local and metadata.get("namespace", NAMESPACE) == NAMESPACE:
            await apply(kube, f"{root}/namespaces/{NAMESPACE}/{local[item['kind']]}/{metadata['name']}", item)

    async def is_served() -> bool:
        try:
            await kube.get(COLLECTION)
        except ServiceError:
            return False
        return True

    await until(30, is_served)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken; 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK
    return 0.0


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields.get("VmRSS", "0").split()[0]) * 1024
    return 0


async def bench(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="ome-bench-") as folder:
        async with running_bench(Path(folder), arguments.nodes, arguments.models) as running:
            reporting = asyncio.ensure_future(report_nodes(running.kube, node_names(arguments.nodes)))
            try:
                await measure(running, arguments.idle_seconds, arguments.patience_seconds)
            finally:
                reporting.cancel()
                summarize(running)
                check_memory(running)
                if arguments.keep_logs:
                    running.keep_logs(arguments.keep_logs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--patience-seconds", type=float, default=900, help="deadline of the large phases")
    parser.add_argument("--keep-logs", type=Path, help="folder for the logs of the services")
    asyncio.run(bench(parser.parse_args()))


if __name__ == "__main__":
    main()
