"""`make bench`: an idle cluster of this machine, measured from outside: time to Ready, time to gone, API requests.

Prints medians beside what OME (commit 17b77ed, a model-agent per node) took on a machine of the same kind. Absolute
figures drift with the machine; the API requests do not.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from libs.chassis.kube import KubeClient
from libs.chassis.reflector import Reflector
from tests.support.fleet import Fleet, model, started_fleet
from tests.support.hub import generated_model
from tools.localcluster.certificates import KeyPair
from tools.localcluster.kube import connected_kube, reflect

Object = dict[str, Any]

COLLECTION = "/apis/ome.io/v1beta1/clusterbasemodels"
# As large as the real small model of the sample, which the figures of OME were taken with.
HUB_MODEL_BYTES = 91 << 20
OURS = "system:serviceaccount:ome:"
_DEADLINE_SECONDS = 60


class Watched:
    """The models as a watch tells of them, and when."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._models: Reflector = reflect(COLLECTION)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        await self._models.run(self._kube, lambda before, after: self._changed.set())

    async def until(self, holds: Callable[[dict[str, Object]], bool]) -> None:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while not holds({name: item for (_, name), item in self._models.objects.items()}):
                self._changed.clear()
                await self._changed.wait()


def is_ready(item: Object | None, nodes: int) -> bool:
    """Whether the status lists so many nodes as Ready."""
    return len(((item or {}).get("status") or {}).get("nodesReady") or ()) == nodes


async def time_cycle(kube: KubeClient, watched: Watched, manifest: Object, nodes: int) -> tuple[float, float]:
    """Create a model and delete it; seconds until the status lists all nodes, and until the object is gone."""
    name = manifest["metadata"]["name"]
    started = time.perf_counter()
    await kube.request("POST", COLLECTION, manifest)
    await watched.until(lambda items: is_ready(items.get(name), nodes))
    ready = time.perf_counter() - started
    # Labels and ConfigMaps follow the status; a deletion right on top of them would measure something else.
    await asyncio.sleep(1)
    started = time.perf_counter()
    await kube.request("DELETE", f"{COLLECTION}/{name}")
    await watched.until(lambda items: name not in items)
    return ready, time.perf_counter() - started


@asynccontextmanager
async def admin(fleet: Fleet) -> AsyncIterator[KubeClient]:
    """A connection as the cluster's administrator, by its kubeconfig."""
    config = yaml.safe_load(Path(fleet.cluster.kubeconfig).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    pair = KeyPair(certificate=Path(user["client-certificate"]), key=Path(user["client-key"]))
    async with connected_kube(cluster["server"], Path(cluster["certificate-authority"]), pair) as kube:
        yield kube


def requests_since(log: Path, offset: int) -> Counter[str]:
    """Requests of our services in the audit log, by service, verb and resource; watches left out."""
    counts: Counter[str] = Counter()
    with log.open() as lines:
        lines.seek(offset)
        for line in lines:
            event = json.loads(line)
            user, reference = event["user"]["username"], event.get("objectRef", {})
            if event["stage"] != "ResponseComplete" or not user.startswith(OURS) or event["verb"] == "watch":
                continue
            resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
            counts[f"{user.removeprefix(OURS)} {event['verb']} {resource}"] += 1
    return counts


async def measure(fleet: Fleet, rounds: int, models: int, idle_seconds: float) -> None:
    nodes = fleet.cluster.nodes
    for node in nodes:
        place = fleet.cluster.node_root(node) / "models" / "bench"
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        (place / "pytorch_model.bin").write_bytes(b"weights")
    fleet.hub.add_model("bench/model", generated=generated_model(HUB_MODEL_BYTES))
    table = Table("measure", "ours", "OME", "goal", title=f"{len(nodes)} nodes, medians of {rounds}")
    log = fleet.cluster.audit_log
    async with admin(fleet) as kube:
        watched = Watched(kube)
        watching = asyncio.ensure_future(watched.run())
        here = model("bench", "local:///models/bench")
        there = model("bench-hub", "hf://bench/model", nodeSelector={"kubernetes.io/hostname": nodes[0]})
        await time_cycle(kube, watched, here, len(nodes))
        local = [await time_cycle(kube, watched, here, len(nodes)) for _ in range(rounds)]
        hub = [await time_cycle(kube, watched, there, 1) for _ in range(rounds)]
        row = ("local://, apply → status lists all nodes", [ready for ready, _ in local], "0.44 s", "≤ 0.25 s")
        _add(table, *row)
        _add(table, "hf://, 91 MB, 1 node, apply → Ready", [ready for ready, _ in hub], "1.05 s unverified", "≤ 0.6 s")
        _add(table, "local://, delete → gone", [gone for _, gone in local], "2.4 s", "≤ 0.5 s")
        _add(table, "hf://, delete → gone", [gone for _, gone in hub], "2.4 s", "≤ 0.5 s")

        for label, at_once in (("one by one", False), (f"{models} at once", True)):
            offset = log.stat().st_size
            for number in range(models):
                manifest = model(f"bench-{number}", "local:///models/bench")
                await kube.request("POST", COLLECTION, manifest)
                if not at_once:
                    await watched.until(lambda items, name=f"bench-{number}": is_ready(items.get(name), len(nodes)))  # type: ignore[misc]
            await watched.until(
                lambda items: all(is_ready(items.get(f"bench-{number}"), len(nodes)) for number in range(models))
            )
            await asyncio.sleep(3)
            counts = requests_since(log, offset)
            each = sum(counts.values()) / models / len(nodes)
            table.add_row(f"API requests per model and node, {label}", f"{each:.2f}", "16–21", "≤ 3")
            for number in range(models):
                await kube.request("DELETE", f"{COLLECTION}/bench-{number}")
            await watched.until(lambda items: not items)
            await asyncio.sleep(3)
            details = counts
        offset = log.stat().st_size
        await asyncio.sleep(idle_seconds)
        counts = requests_since(log, offset)
        renewals = sum(count for name, count in counts.items() if name.endswith(" leases"))
        others = sum(counts.values()) - renewals
        table.add_row(
            "idle API requests per node and minute", f"{others / len(nodes) * 60 / idle_seconds:.2f}", "0.35–0.47", ""
        )
        table.add_row("Lease renewals per minute, whole cluster", f"{renewals * 60 / idle_seconds:.0f}", "", "")
        watching.cancel()
    for service in ("controller", "status", "parser", "fetcher"):
        sizes = [_resident_bytes(pod.pid) / 1e6 for pod in fleet.cluster.pods(service) if pod.pid]
        reference = {"controller": "97 MB (manager)", "fetcher": "95–126 MB (agent)"}.get(service, "")
        table.add_row(f"RSS of {service}", f"{max(sizes):.0f} MB", reference, "< 80 MB" if service == "fetcher" else "")
    console = Console()
    console.print(table)
    console.print("requests of the last burst:", dict(details))


def _add(table: Table, name: str, samples: list[float], theirs: str, goal: str) -> None:
    worst = sorted(samples)[max(0, round(len(samples) * 0.9) - 1)]
    table.add_row(name, f"{statistics.median(samples):.2f} s (p90 {worst:.2f})", theirs, goal)


def _resident_bytes(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", type=int, default=10, help="models whose API requests are counted")
    parser.add_argument("--idle-seconds", type=float, default=30)
    arguments = parser.parse_args()
    with started_fleet(arguments.nodes) as fleet:
        asyncio.run(measure(fleet, arguments.rounds, arguments.models, arguments.idle_seconds))


if __name__ == "__main__":
    main()
