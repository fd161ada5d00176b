"""`make soak MINUTES=30`: a fleet to which things happen at random, which must end as it is desired, and no larger.

The servers, services and simulated fetchers are those of `fleet.py`. Nodes change their zone, go and come back; models
change selector and revision, go and come anew; processes are killed with SIGKILL. From time to time everything rests:
then each model must be Ready on exactly the nodes that its selector names, as must the nodes' labels, and memory is
taken. Exits 1 when that does not come true in time, or when a process has grown.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from libs.chassis.errors import ServiceError
from libs.chassis.kube import MERGE_PATCH
from tests.bench.fleet import (
    COLLECTION,
    Bench,
    is_complete,
    node_object,
    report_nodes,
    running_bench,
    spread,
    until,
)
from tests.bench.simulated_fetchers import node_names
from tests.support.fleet import model

Object = dict[str, Any]

ZONE = "topology.kubernetes.io/zone"
_ZONES = 10
# Nothing happens for so long between two things on average; a round of them ends with a rest.
_PAUSE_SECONDS = 2.0
_ROUND_SECONDS = 120.0
_CALM_SECONDS = 240.0
# Python's allocator gives little back, and audit and logs grow no memory: what is beyond this is a leak.
_MOST_GROWTH = 1.15
_SMALL_BYTES = 10 << 20
_KILLED = ("controller", "gateway", "status", "nats-server", "fetchers")


class Soak:
    """What is desired, beside the bench that has to bring it about."""

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self._bench, self._chance = bench, chance
        self._zones = {name: f"z{number % _ZONES}" for number, name in enumerate(node_names(bench.nodes))}
        self._away: set[str] = set()
        # Zone that each model selects, empty for all, and its revision.
        self._models = {f"bench-{number:04}": ("", 1) for number in range(bench.models)}
        self.happened: dict[str, int] = {}
        # What was not as desired at the last look.
        self.amiss: list[str] = []

    async def begin(self) -> None:
        """Create all nodes and models."""
        kube = self._bench.kube
        await spread(kube.request("POST", "/api/v1/nodes", self._node(name)) for name in self._zones)
        await spread(kube.request("POST", COLLECTION, self._model(name)) for name in self._models)

    async def go_on(self, seconds: float) -> None:
        """Have things happen for so long."""
        events: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "node relabelled": (6, self._relabel),
            "selector edited": (4, self._select),
            "new revision": (4, self._revise),
            "model deleted and made anew": (2, self._recreate),
            "node deleted": (2, self._lose_node),
            "node back": (3, self._bring_back),
            "process killed": (1, self._kill),
        }
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then:
            (name,) = self._chance.choices(list(events), [weight for weight, _ in events.values()])
            await events[name][1]()
            self.happened[name] = self.happened.get(name, 0) + 1
            await asyncio.sleep(self._chance.expovariate(1 / _PAUSE_SECONDS))

    async def rest(self) -> dict[str, int]:
        """Wait until everything is as desired and quiet; returns the memory of each process. Raises TimeoutError."""
        for name in sorted(self._away):
            await self._return(name)
        await until(_CALM_SECONDS, self.is_as_desired, self._bench.pace_seconds)
        async with asyncio.timeout(_CALM_SECONDS):
            await self._bench.ready_and_quiet()
        return self._bench.resident()

    async def is_as_desired(self) -> bool:
        """Whether each model is Ready exactly where it is selected, by its status and by the nodes' labels."""
        self.amiss = await self._differences()
        return not self.amiss

    async def _differences(self) -> list[str]:
        """What is not as desired."""
        items = {item["metadata"]["name"]: item async for item in self._bench.items()}
        if items.keys() != self._models.keys():
            return [f"{name}: exists or is missing" for name in sorted(items.keys() ^ self._models.keys())]
        labels = await self._bench.labels()
        found = []
        for name, item in items.items():
            zone, revision = self._models[name]
            wanted = sum(1 for each in self._zones.values() if zone in ("", each))
            ready, labelled = item.get("status", {}).get("nodes", {}).get("ready"), labels[item["metadata"]["uid"]]
            current = is_complete(item) and item["spec"]["storage"]["storageUri"] == _uri(name, revision)
            if not current or (ready, labelled) != (wanted, wanted):
                found.append(f"{name}: wanted on {wanted}, ready {ready}, labelled {labelled}, complete {current}")
        # A label of a model that is gone would be one more.
        strangers = set(labels) - {item["metadata"]["uid"] for item in items.values()}
        return found + [f"labels of {uid}, which is gone" for uid in sorted(strangers)]

    async def _relabel(self) -> None:
        name = self._chance.choice(sorted(self._zones.keys() - self._away))
        self._zones[name] = f"z{self._chance.randrange(_ZONES)}"
        await self._patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {ZONE: self._zones[name]}}})

    async def _select(self) -> None:
        name = self._any_model()
        zone = self._chance.choice(["", *sorted(set(self._zones.values()))])
        self._models[name] = (zone, self._models[name][1])
        await self._patch(
            f"{COLLECTION}/{name}", {"spec": {"storage": {"nodeSelector": {ZONE: zone} if zone else None}}}
        )

    async def _revise(self) -> None:
        name = self._any_model()
        zone, revision = self._models[name]
        self._models[name] = (zone, revision + 1)
        await self._patch(f"{COLLECTION}/{name}", {"spec": {"storage": {"storageUri": _uri(name, revision + 1)}}})

    async def _recreate(self) -> None:
        name, kube = self._any_model(), self._bench.kube
        await kube.request("DELETE", f"{COLLECTION}/{name}")

        async def is_gone() -> bool:
            return name not in [item["metadata"]["name"] async for item in self._bench.items()]

        await until(_CALM_SECONDS, is_gone, self._bench.pace_seconds)
        await kube.request("POST", COLLECTION, self._model(name))

    async def _lose_node(self) -> None:
        name = self._chance.choice(sorted(self._zones.keys() - self._away))
        self._away.add(name)
        await self._bench.kube.request("DELETE", f"/api/v1/nodes/{name}")

    async def _bring_back(self) -> None:
        if self._away:
            await self._return(self._chance.choice(sorted(self._away)))

    async def _return(self, name: str) -> None:
        await self._bench.kube.request("POST", "/api/v1/nodes", self._node(name))
        self._away.discard(name)

    async def _kill(self) -> None:
        await self._bench.restart(self._chance.choice(_KILLED))

    async def _patch(self, path: str, body: Object) -> None:
        await self._bench.kube.request("PATCH", path, body, content_type=MERGE_PATCH)

    def _any_model(self) -> str:
        return self._chance.choice(sorted(self._models))

    def _node(self, name: str) -> Object:
        node = node_object(0, name)
        node["metadata"]["labels"][ZONE] = self._zones[name]
        return node

    def _model(self, name: str) -> Object:
        zone, revision = self._models[name]
        manifest = model(name, _uri(name, revision))
        if zone:
            manifest["spec"]["storage"]["nodeSelector"] = {ZONE: zone}
        return manifest


def _uri(name: str, revision: int) -> str:
    return f"hf://bench/{name}@r{revision}"


def grown(samples: Sequence[Mapping[str, int]]) -> list[str]:
    """The processes of ours that take more memory in the second half of the samples than in the first.

    On average: what collects its garbage now and then has more or less of it at any one moment.
    """
    ours = ("controller", "gateway", "status", "nats-server")
    half = len(samples) // 2
    if not half:
        return []
    return [
        name
        for name in ours
        if fmean(each[name] for each in samples[-half:])
        > fmean(each[name] for each in samples[:half]) * _MOST_GROWTH + _SMALL_BYTES
    ]


async def soak(arguments: argparse.Namespace) -> None:
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"soak of {arguments.minutes:g} minutes, --seed {seed}", flush=True)
    table = Table("after s", "as desired and quiet in s", *_KILLED)
    with tempfile.TemporaryDirectory(prefix="ome-soak-") as folder:
        async with running_bench(Path(folder), arguments.nodes, arguments.models) as bench:
            reporting = asyncio.ensure_future(report_nodes(bench.kube, node_names(arguments.nodes)))
            run, started = Soak(bench, random.Random(seed)), time.monotonic()
            samples: list[dict[str, int]] = []
            try:
                await run.begin()
                while True:
                    asked = time.monotonic()
                    samples.append(await run.rest())
                    sizes = [f"{samples[-1][name] / 1e6:.0f} MB" for name in _KILLED]
                    table.add_row(f"{asked - started:.0f}", f"{time.monotonic() - asked:.1f}", *sizes)
                    if time.monotonic() - started > 60 * arguments.minutes:
                        break
                    await run.go_on(_ROUND_SECONDS)
            except (TimeoutError, ServiceError) as error:
                for each in run.amiss:
                    print(each)
                sys.exit(f"not as desired after {time.monotonic() - started:.0f} s: {type(error).__name__} {error}")
            finally:
                reporting.cancel()
                Console(width=120).print(table)
                print(", ".join(f"{name} {count}" for name, count in sorted(run.happened.items())))
                if arguments.keep_logs:
                    bench.keep_logs(arguments.keep_logs)
    # At the first sample nothing has happened yet; at the second every kind of work has been done.
    if leaking := grown(samples[1:]):
        sys.exit(f"grown: {', '.join(leaking)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--seed", type=int, help="repeats what happened, though not when services had it done")
    parser.add_argument("--keep-logs", type=Path, help="folder for the logs of the services")
    asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    main()
