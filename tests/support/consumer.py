"""Pods that use models as docs/guides/using-models.md tells: without rights, in the image of the parser."""

import json
from typing import Any

from tools.node.archives import REGISTRY
from tools.node.cluster import NodeCluster

Object = dict[str, Any]

IMAGE = f"{REGISTRY}/ome/parser:0.1.0"
# Prints the SHA-256 of every file below /model. With an argument it does so again each time when it gets SIGUSR1.
_SCRIPT = """
import hashlib, json, os, pathlib, signal, sys
root = pathlib.Path("/model")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
while True:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    sums = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    print(json.dumps({"uid": os.getuid(), "sums": sums}), flush=True)
    if not sys.argv[1:]:
        break
    signal.sigwait([signal.SIGUSR1])
"""
_RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def consumer(name: str, path: str, *, stays: bool = False, **pod: Any) -> Object:
    """A Pod that reads a model at a path of its node, and may stay to read it again by `read_again`.

    `pod` are further fields of its spec.
    """
    volume = {"name": "model", "hostPath": {"path": path, "type": "Directory"}}
    return _pod(name, volume, stays, pod)


def claim_consumer(name: str, namespace: str, claim: str) -> Object:
    """A Pod that reads a model through a claim, in a namespace of its own."""
    volume = {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    pod = _pod(name, volume, False, {})
    pod["metadata"]["namespace"] = namespace
    return pod


def _pod(name: str, volume: Object, stays: bool, more: Object) -> Object:
    container = {
        "name": "consumer",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", _SCRIPT, *(["stay"] if stays else [])],
        "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": _RESTRICTED,
            "containers": [container],
            "volumes": [volume],
            **more,
        },
    }


def read_again(cluster: NodeCluster, pod: Object) -> None:
    """Have a consumer that stays read everything anew."""
    cluster.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", "import os; os.kill(1, 10)")


def said(cluster: NodeCluster, pod: Object, lines: int = 1) -> list[Object]:
    """What a consumer printed, once it has printed so many lines."""
    metadata = pod["metadata"]

    def printed() -> list[str]:
        text = cluster.kubectl("logs", "-n", metadata["namespace"], metadata["name"], check=False)
        found = [line for line in text.splitlines() if line.startswith("{")]
        return found if len(found) >= lines else []

    found: list[str] = cluster.until(f"{metadata['name']} has printed {lines} lines", printed)
    return [json.loads(line) for line in found]
