"""OME on a cluster of real nodes: installed with helm as the guide says, and asked as a user asks it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.fleet import LLAMA_CONFIG, sha256
from tests.support.hub import GeneratedFile, HubClient
from tools.images.build import ROOT
from tools.node.archives import NATS_IMAGE, REGISTRY
from tools.node.cluster import NodeCluster
from tools.node.configuration import CLUSTER_RANGES, SOURCES

Object = dict[str, Any]

NAMESPACE = "ome"
CONFIG = json.dumps(LLAMA_CONFIG)
_SMALL_BYTES = 200_000
CHART = ROOT / "deploy" / "helm" / "ome"
_WORKLOADS = (
    "statefulset/ome-nats",
    "deployment/ome-parser",
    "deployment/ome-controller",
    "deployment/ome-status",
    "deployment/ome-resolver",
    "daemonset/ome-fetcher",
)


def add_small_model(hub: HubClient, repository: str, seed: int = 0) -> None:
    """A repository that becomes Ready within a second or two; another seed gives other weights."""
    weights = GeneratedFile("model.safetensors", _SMALL_BYTES, seed)
    hub.add_model(repository, {"config.json": CONFIG}, generated=[weights])


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative name."""
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


class Installation:
    """The release `ome` in the namespace of the same name, from a chart whose images have names of a registry."""

    def __init__(self, cluster: NodeCluster, hub_url: str, chart: Path = CHART, registry: str = REGISTRY) -> None:
        self.cluster = cluster
        self._hub_url = hub_url
        self._chart = chart
        self._registry = registry

    def values(self) -> Object:
        """What this cluster needs beside the defaults: images on the node, a source of models, one node's disk."""
        policy = {"apiServerPorts": [self.cluster.api_port]}
        return {
            "global": {"imageRegistry": self._registry},
            "ome-nats": {
                "image": {"repository": NATS_IMAGE[0], "tag": NATS_IMAGE[1]},
                "jetstream": {"size": "4Gi"},
            },
            "ome-controller": {
                "hfEndpoint": self._hub_url,
                "networkPolicy": policy,
                "retryInitialSeconds": 0.5,
                "retryMaxSeconds": 2,
            },
            "ome-status": {"networkPolicy": policy},
            "ome-fetcher": {
                "hfEndpoint": self._hub_url,
                "egress": {"allow": [SOURCES], "clusterRanges": list(CLUSTER_RANGES)},
                "retryInitialSeconds": 0.5,
                "retryMaxSeconds": 2,
            },
        }

    def install(self, *more: str) -> str:
        """The commands of the guide; what helm says."""
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        label = "pod-security.kubernetes.io/enforce=privileged"
        self.cluster.kubectl("label", "namespace", NAMESPACE, label)
        said = self._helm("install", *more)
        self.roll_out()
        return said

    def upgrade(self, *more: str) -> str:
        """Upgrade with further arguments, and wait until everything is rolled out; what helm says."""
        said = self._helm("upgrade", *more)
        self.roll_out()
        return said

    def roll_out(self) -> None:
        """Wait until every workload is as its chart wants it."""
        for workload in _WORKLOADS:
            self.cluster.kubectl("rollout", "status", "-n", NAMESPACE, workload, "--timeout=180s")

    def _helm(self, command: str, *more: str) -> str:
        arguments = (command, "ome", str(self._chart), "-n", NAMESPACE, "--values", "-", *more)
        return self.cluster.helm(*arguments, input=json.dumps(self.values()))

    def model(self, manifest: Object) -> Object:
        """The object of a manifest as it is now; empty when there is none."""
        metadata = manifest["metadata"]
        namespace = ("-n", metadata["namespace"]) if "namespace" in metadata else ()
        return self.cluster.get(f"{manifest['kind'].lower()}.ome.io", metadata["name"], *namespace)

    def await_ready(self, manifest: Object, seconds: float = 90.0) -> Object:
        """Wait until the current generation of a model is Ready everywhere."""

        def ready() -> Object | None:
            found = self.model(manifest)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
            return found if current and status.get("state") == "Ready" else None

        name = manifest["metadata"]["name"]
        found: Object = self.cluster.until(f"{name} is Ready: {self.model(manifest).get('status')}", ready, seconds)
        return found

    def pods(self, service: str) -> list[Object]:
        """The Pods of a service of ours."""
        items: list[Object] = self.cluster.get("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name=ome-{service}")[
            "items"
        ]
        return items

    def on_disk(self, node: str, path: str) -> Path:
        """A path of the node as the tests see it."""
        return self.cluster.nodes[node].root / path.lstrip("/")

    def target(self, path: str) -> Path:
        """Where the link at a path of node-1 leads to. It may be absolute, and is then read as the node reads it."""
        link = self.on_disk("node-1", path)
        to = os.readlink(link)
        return self.on_disk("node-1", to) if to.startswith("/") else link.parent / to

    def processes(self, service: str) -> Iterator[int]:
        """Every process in containers of a service's Pods, but for those that only hold a Pod's namespaces."""
        uids = [pod["metadata"]["uid"] for pod in self.pods(service)]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    groups = (entry / "cgroup").read_text()
                    command = (entry / "cmdline").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if command and not command.startswith("/pause") and any(f"pod{uid}" in groups for uid in uids):
                    yield int(entry.name)
