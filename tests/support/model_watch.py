"""Keeps every state in which a model was seen, however briefly: state and nodes, as in Ready:["node-1"]."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Protocol


class Watched(Protocol):
    """A cluster with a kubectl of its own."""

    @property
    def kubectl_program(self) -> Path: ...

    @property
    def kubeconfig(self) -> Path: ...


class ModelWatch:
    """Follows a ClusterBaseModel with kubectl. `seen` lacks the moments between two watches, if one was cut off."""

    def __init__(self, cluster: Watched, name: str) -> None:
        self._command = [str(cluster.kubectl_program), "get", "clusterbasemodel", name, "--watch"]
        self._command += ["-o", "jsonpath={.status.state}:{.status.nodesReady}{'\\n'}"]
        self._environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        self.seen: list[str] = []
        self._turn = threading.Lock()
        self._ended = False

    def __enter__(self) -> "ModelWatch":
        self._process = self._start()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._ended = True
            self._process.terminate()
        self._reader.join()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _read(self) -> None:
        while True:
            assert self._process.stdout is not None
            with self._process.stdout as lines:
                self.seen += [line.strip() for line in lines]
            self._process.wait()
            with self._turn:
                if self._ended:
                    return
                # The API server ends a watch when the definition of its kind changes.
                self._process = self._start()
