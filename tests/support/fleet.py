"""A whole cluster as a user sees it: manifests go in, status and files come out, each awaited with a deadline."""

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ome.status.v1.status_pb2_grpc import StatusServiceStub
from tests.support.hub.client import HubClient
from tools.localcluster.charts import merged
from tools.localcluster.cluster import LocalCluster
from tools.localcluster.status_client import status_stub

Object = dict[str, Any]

# Retries as a test wants them: soon, and still growing.
QUICK_RETRIES = {
    "controller": {"retryInitialSeconds": 0.2, "retryMaxSeconds": 2, "nodeUnreachableSeconds": 5},
    # Nodes are heard of again well before they count as unreachable, also after NATS has lost what they said.
    "fetcher": {
        "retryInitialSeconds": 0.2,
        "retryMaxSeconds": 2,
        "unselectedGraceSeconds": 0.5,
        "heartbeatSeconds": 1,
    },
}
# So late that whatever is attempted again within a test's patience was attempted for another reason.
LATE_RETRIES = {
    "controller": {"retryInitialSeconds": 900, "retryMaxSeconds": 1800},
    "fetcher": {"retryInitialSeconds": 900, "retryMaxSeconds": 1800},
}
# A config.json that the parser understands.
LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
DEADLINE_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 0.1


def model(name: str, uri: str, kind: str = "ClusterBaseModel", namespace: str = "", **storage: Any) -> Object:
    """A manifest with nothing but storage."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "ome.io/v1beta1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"storage": {"storageUri": uri, **storage}},
    }


def condition(item: Object, type: str) -> Object:
    """A condition of an object's status; empty when there is none."""
    conditions = item.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type), {})


class Fleet:
    """What a test does with a cluster that runs all services."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.hub = HubClient(cluster.hub_url or "")

    def apply(self, *manifests: Object) -> None:
        """kubectl apply."""
        self.cluster.kubectl(
            "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        )

    def get(self, manifest: Object) -> Object | None:
        """The object of a manifest as it is now; None when there is none."""
        output = self.cluster.kubectl("get", *_address(manifest), "-o", "json", "--ignore-not-found")
        return json.loads(output) if output.strip() else None

    def describe(self, manifest: Object) -> str:
        """kubectl describe."""
        return self.cluster.kubectl("describe", *_address(manifest))

    def delete(self, manifest: Object, *, if_there: bool = False) -> None:
        """kubectl delete, without waiting; if_there permits that an earlier deletion has just ended."""
        self.cluster.kubectl(
            "delete", *_address(manifest), "--wait=false", f"--ignore-not-found={str(if_there).lower()}"
        )

    def until(self, what: str, holds: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
        """Wait until a condition holds and return what it returned; fails with the cluster's logs."""
        deadline = time.monotonic() + seconds
        while not (result := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.cluster.diagnostics()}")
            time.sleep(_LOOK_EVERY_SECONDS)
        return result

    def await_state(
        self, manifest: Object, state: str, nodes: set[str] | None = None, seconds: float = DEADLINE_SECONDS
    ) -> Object:
        """Wait until the object's generation is observed with a state and, where given, exactly these nodes Ready."""

        def reached() -> Object | None:
            item = self.get(manifest)
            status = (item or {}).get("status", {})
            current = status.get("observedGeneration") == (item or {}).get("metadata", {}).get("generation")
            placed = nodes is None or set(status.get("nodesReady", ())) == nodes
            return item if current and status.get("state") == state and placed else None

        name = manifest["metadata"]["name"]
        found: Object = self.until(f"{name} is {state} on {nodes or 'any node'}", reached, seconds)
        return found

    def await_failure(self, manifest: Object, reason: str, seconds: float = DEADLINE_SECONDS) -> Object:
        """Wait until the object says that it has failed for a reason, in its conditions or for one of its nodes."""

        def reached() -> Object | None:
            item = self.get(manifest)
            status = (item or {}).get("status", {})
            reasons = {one.get("reason") for one in (*status.get("failures", ()), *status.get("conditions", ()))}
            return item if status.get("state") == "Failed" and reason in reasons else None

        found: Object = self.until(f"{manifest['metadata']['name']} failed with {reason}", reached, seconds)
        return found

    def await_gone(self, manifest: Object, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the object no longer exists."""
        self.until(f"{manifest['metadata']['name']} is gone", lambda: self.get(manifest) is None, seconds)

    def files(self, node: str, path: str) -> dict[str, str]:
        """SHA-256 of every file that a reader of a path on a node sees, by relative name; empty without such a path."""
        root = self.cluster.node_root(node) / path.lstrip("/")
        if not root.is_dir():
            return {}
        return {str(file.relative_to(root)): sha256(file) for file in sorted(root.rglob("*")) if file.is_file()}

    def published_weights(self, repository: str) -> dict[str, str]:
        """SHA-256 of the large files of a repository, as the hub's API tells it."""
        with urllib.request.urlopen(f"{self.hub.endpoint}/api/models/{repository}/tree/main?recursive=true") as answer:
            return {entry["path"]: entry["lfs"]["oid"] for entry in json.load(answer) if "lfs" in entry}

    def leftovers(self, node: str) -> list[str]:
        """Files of artifacts and downloads that are anywhere on a node, and links to them."""
        root = self.cluster.node_root(node)
        found = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
        kept = (".lock",)
        return sorted(
            str(path.relative_to(root))
            for path in found
            if (".ome" in path.parts or path.is_symlink()) and path.suffix not in kept and path.name != "lock"
        )

    def metric(self, service: str, sample: str) -> float:
        """Sum of a sample, such as 'ome_fetcher_parses_total{result="Ok"}', over the Pods of a service."""
        total = 0.0
        for pod in self.cluster.pods(service):
            with urllib.request.urlopen(f"http://{pod.address}:8080/metrics") as answer:
                lines = answer.read().decode().splitlines()
            total += sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample + " "))
        return total

    @contextmanager
    def status_service(self, address: str = "") -> Iterator[StatusServiceStub]:
        """A gRPC client of the status service, or of its Pod at an address."""
        address = f"{address}:9090" if address else self.cluster.service_address("ome-status", 9090)
        with status_stub(address, self.cluster.status_authority, self.cluster.status_token) as stub:
            yield stub


def secret(name: str, namespace: str, **values: str) -> Object:
    """A manifest of a Secret, which may be sent to the stores of tests as well."""
    allowed = {"models.ome.io/allowed-hosts": "127.0.0.1"}
    metadata = {"name": name, "namespace": namespace, "annotations": allowed}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


@contextmanager
def started_fleet(
    nodes: Mapping[str, Mapping[str, str]] | int = 3,
    more_values: Mapping[str, Mapping[str, Any]] | None = None,
    **arguments: Any,
) -> Iterator[Fleet]:
    """A cluster with every service and the local hub, retrying as tests want it; more_values are of charts, by name."""
    values = merged(QUICK_RETRIES, more_values or {})
    with LocalCluster(nodes=nodes, helm_values=values, hub=True, **arguments) as cluster:
        yield Fleet(cluster)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of given contents, in the form of Fleet.files."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def _address(manifest: Object) -> list[str]:
    metadata = manifest["metadata"]
    namespace = ["-n", metadata["namespace"]] if "namespace" in metadata else []
    return [f"{manifest['kind'].lower()}.ome.io", metadata["name"], *namespace]
