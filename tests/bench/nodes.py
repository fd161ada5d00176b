"""`make bench-nodes NODES=20 MODELS=20`: many models for many nodes at once, with real fetchers on this machine.

A whole cluster by the charts, with a fetcher process per node. All models are applied at once and deleted at once:
first models of a folder that each node holds already, then models of the local hub. Prints how long it took until every
status lists every node, until every label says so, until every object is gone, and until every byte is; and what each
kind of process took of the processors meanwhile.

All nodes share one disk here, and every model is synced to it before it is Ready: `--directory /dev/shm` shows what is
left when each node has a fast one.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from libs.chassis.kube import METADATA_ONLY, KubeClient
from tests.bench.cluster import COLLECTION, Watched, admin, is_ready
from tests.bench.fleet import LABEL, cpu_seconds, spread, until
from tests.support.child_processes import child_processes
from tests.support.fleet import LLAMA_CONFIG, Fleet, model, started_fleet
from tests.support.hub import generated_model

Object = dict[str, Any]

GOAL_SECONDS = 5.0
_SERVERS = ("etcd", "apiserver", "nats", "hub")
_DEADLINE_SECONDS = 120.0
_LOOK_SECONDS = 0.1


@dataclass
class Round:
    """Seconds by what had come about then, and processor seconds by process, for applying and for deleting."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)


class NodesBench:
    """A cluster, and what is looked at while models come and go."""

    def __init__(self, fleet: Fleet, kube: KubeClient, watched: Watched) -> None:
        self._fleet, self._kube, self._watched = fleet, kube, watched
        self._nodes = len(fleet.cluster.nodes)

    async def cycle(self, manifests: Sequence[Object]) -> Round:
        """Apply all models, wait for them, delete them, and wait until nothing is left."""
        names, taken = [manifest["metadata"]["name"] for manifest in manifests], Round()
        with self._processors(taken, "apply"):
            started = time.perf_counter()
            await spread(self._kube.request("POST", COLLECTION, manifest) for manifest in manifests)
            await self._watched.until(lambda items: all(is_ready(items.get(name), self._nodes) for name in names))
            taken.seconds["all Ready"] = time.perf_counter() - started
            await until(_DEADLINE_SECONDS, lambda: self._has_labels(len(names)), _LOOK_SECONDS)
            taken.seconds["all labels"] = time.perf_counter() - started
        # What is still to be written of the models' arrival is no part of their end.
        await asyncio.sleep(3)
        with self._processors(taken, "delete"):
            started = time.perf_counter()
            await spread(self._kube.request("DELETE", f"{COLLECTION}/{name}") for name in names)
            await self._watched.until(lambda items: not items)
            taken.seconds["all gone"] = time.perf_counter() - started
            await until(_DEADLINE_SECONDS, lambda: self._has_labels(0), _LOOK_SECONDS)
            taken.seconds["labels gone"] = time.perf_counter() - started
            await until(_DEADLINE_SECONDS, self._has_no_files, _LOOK_SECONDS)
            taken.seconds["files gone"] = time.perf_counter() - started
        await asyncio.sleep(3)
        return taken

    async def _has_labels(self, each: int) -> bool:
        """Whether every node has so many labels that say Ready."""
        async for page in self._kube.pages("/api/v1/nodes", accept=METADATA_ONLY.format("PartialObjectMetadataList")):
            for node in page["items"]:
                labels = node["metadata"].get("labels") or {}
                if sum(key.startswith(LABEL) and word == "Ready" for key, word in labels.items()) != each:
                    return False
        return True

    async def _has_no_files(self) -> bool:
        return not any(self._fleet.leftovers(node) for node in self._fleet.cluster.nodes)

    @contextmanager
    def _processors(self, taken: Round, phase: str) -> Iterator[None]:
        before = self._cpu()
        yield
        taken.cpu[phase] = {kind: seconds - before.get(kind, 0.0) for kind, seconds in self._cpu().items()}

    def _cpu(self) -> dict[str, float]:
        """Processor seconds by kind of process; what a process has started counts with it."""
        cluster, seconds = self._fleet.cluster, defaultdict[str, float](float)
        for server in _SERVERS:
            seconds[server] += _with_children(cluster.pid(server))
        for pod in cluster.pods():
            kind = pod.name.removeprefix("ome-").partition("-")[0]
            for container in pod.containers:
                seconds[kind] += _with_children(container.pid)
        return seconds


def _with_children(pid: int | None) -> float:
    return cpu_seconds(pid) + sum(cpu_seconds(child) for child in child_processes(pid)) if pid else 0.0


def prepare(fleet: Fleet, models: int, size_bytes: int) -> dict[str, list[Object]]:
    """Put the folder on every node and the models into the hub; the manifests by where they come from."""
    for node in fleet.cluster.nodes:
        place = fleet.cluster.node_root(node) / "models" / "bench"
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(LLAMA_CONFIG))
        (place / "pytorch_model.bin").write_bytes(b"weights")
    for number in range(models):
        fleet.hub.add_model(f"bench/model-{number}", generated=generated_model(size_bytes, seed=number))
    return {
        "local://": [model(f"bench-{number:02}", "local:///models/bench") for number in range(models)],
        "hf://": [model(f"bench-{number:02}", f"hf://bench/model-{number}") for number in range(models)],
    }


async def measure(fleet: Fleet, arguments: argparse.Namespace) -> None:
    manifests = prepare(fleet, arguments.models, arguments.mebibytes << 20)
    async with admin(fleet) as kube, asyncio.TaskGroup() as group:
        watched = Watched(kube)
        watching = group.create_task(watched.run())
        bench = NodesBench(fleet, kube, watched)
        for source, each in manifests.items():
            rounds = [await bench.cycle(each) for _ in range(arguments.rounds)]
            show(f"{arguments.nodes} nodes, {arguments.models} models, {source}", rounds)
        watching.cancel()


def show(title: str, rounds: Sequence[Round]) -> None:
    """Print medians, and each round beside them."""
    table = Table("until", "median s", "each round", "goal", "OME", title=title)
    goals = {"all Ready": "16.5", "all gone": "20.7"}
    for what in rounds[0].seconds:
        seconds = [each.seconds[what] for each in rounds]
        median = statistics.median(seconds)
        goal = ("met" if median < GOAL_SECONDS else "MISSED") + f" < {GOAL_SECONDS:g} s" if what in goals else ""
        table.add_row(what, f"{median:.2f}", " ".join(f"{each:.2f}" for each in seconds), goal, goals.get(what, ""))
    console = Console(width=140)
    console.print(table)
    for phase in rounds[0].cpu:
        means = {kind: statistics.mean(each.cpu[phase][kind] for each in rounds) for kind in rounds[0].cpu[phase]}
        shares = ", ".join(f"{kind} {means[kind]:.1f}" for kind in sorted(means, key=means.__getitem__, reverse=True))
        console.print(f"  CPU-s to {phase} (mean of a round): {shares}; sum {sum(means.values()):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--mebibytes", type=int, default=1, help="size of a model of the hub")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the nodes' disks are; without it a temporary folder")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ome-bench-", dir=arguments.directory) as state,
        started_fleet(arguments.nodes, state_dir=Path(state)) as fleet,
    ):
        asyncio.run(measure(fleet, arguments))


if __name__ == "__main__":
    main()
