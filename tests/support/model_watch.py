"""Keeps every state in which a model was seen, however briefly: state and nodes, as in Ready:["node-1"]."""

import subprocess
import threading

from tools.node.cluster import NodeCluster


class ModelWatch:
    """Follows a ClusterBaseModel with kubectl. `seen` is complete when the context has ended."""

    def __init__(self, cluster: NodeCluster, name: str) -> None:
        self._command = [str(cluster.programs["kubectl"]), "get", "clusterbasemodel", name, "--watch"]
        self._command += ["-o", "jsonpath={.status.state}:{.status.nodesReady}{'\\n'}"]
        self._environment = cluster.environment
        self.seen: list[str] = []

    def __enter__(self) -> "ModelWatch":
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self.seen += [line.strip() for line in lines]
