"""What docs/guides/operations.md says of removing OME. Must run last: nothing works afterwards."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installation import NAMESPACE, Installation
from tools.localcluster.status_client import READER
from tools.node.archives import REGISTRY
from tools.node.cluster import NodeCluster

# Everything is rolled out more than once, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]

_MODELS = "basemodels,clusterbasemodels,finetunedweights"


def everything(cluster: NodeCluster, namespaced: bool) -> Iterator[str]:
    """kind/name of every object of the namespace, or of every cluster-scoped object."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", f"--namespaced={str(namespaced).lower()}", "-o", "name")
    # Events tell of what was, and the API server itself makes an APIService for the group of definitions.
    without = ("events", "apiservices")
    listed = ",".join(sorted(kind for kind in kinds.split() if not kind.startswith(without)))
    found = cluster.kubectl("get", listed, "-n", NAMESPACE, "-o", "name", "--ignore-not-found")
    yield from (line for line in found.split() if "ome" in line.rpartition("/")[2].replace(".", "-").split("-"))


def test_removal_leaves_what_the_guide_says_and_a_node_can_be_cleaned(ome: Installation) -> None:
    cluster = ome.cluster
    cluster.kubectl("delete", _MODELS, "--all", "-A", "--timeout=120s")
    cluster.helm("uninstall", "ome", "-n", NAMESPACE, "--wait")
    # What another test has made for itself, to call StatusService.
    for kind in ("clusterrole", "clusterrolebinding", "serviceaccount"):
        cluster.kubectl("delete", kind, READER, "-n", NAMESPACE, "--ignore-not-found")

    assert sorted(everything(cluster, namespaced=False)) == [
        "customresourcedefinition.apiextensions.k8s.io/basemodels.ome.io",
        "customresourcedefinition.apiextensions.k8s.io/clusterbasemodels.ome.io",
        "customresourcedefinition.apiextensions.k8s.io/finetunedweights.ome.io",
        "customresourcedefinition.apiextensions.k8s.io/inferenceservices.ome.io",
        "namespace/ome",
    ]
    # Pods end in order, which takes a moment longer than their owners.
    cluster.kubectl("wait", "--for=delete", "pod", "--all", "-n", NAMESPACE, "--timeout=120s")
    left = set(everything(cluster, namespaced=True))
    assert {line for line in left if not line.startswith(("lease.", "secret/"))} == {
        "persistentvolumeclaim/data-ome-nats-0"
    }
    models = ome.on_disk("node-1", "/models")
    assert sorted(entry.name for entry in models.iterdir() if entry.is_symlink()) == []
    clean = clean_pod("node-1")
    cluster.apply(clean)
    cluster.until("node-1 is clean", lambda: phase(cluster) in ("Succeeded", "Failed"))
    assert phase(cluster) == "Succeeded", cluster.kubectl("logs", "-n", NAMESPACE, "ome-clean")
    assert not (models / ".ome").exists()


def phase(cluster: NodeCluster) -> str:
    return str(cluster.get("pod", "ome-clean", "-n", NAMESPACE)["status"].get("phase"))


def clean_pod(node: str) -> Object:
    """The Pod of docs/guides/operations.md that takes everything of OME off a node."""
    container = {
        "name": "clean",
        "image": f"{REGISTRY}/ome/fetcher:0.1.0",
        "args": ["clean"],
        "env": [{"name": "OME_HOST_ROOT", "value": "/host"}, {"name": "OME_MODEL_ROOTS", "value": "/models"}],
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "models", "mountPath": "/host/models"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ome-clean", "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "models", "hostPath": {"path": "/models", "type": "Directory"}}],
        },
    }
