"""The local stand-in for huggingface.co, as a process of its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.localcluster.addresses import free_port
from tools.localcluster.controlplane import listens
from tools.localcluster.daemon import Daemon
from tools.localcluster.kubelet.images import REPOSITORY


def hub_sentence(environ: Mapping[str, str]) -> str:
    """Which hub the fetchers of a cluster use, for people: a variable of yesterday may name one that is gone."""
    if endpoint := environ.get("HF_ENDPOINT"):
        return f"Models come from {endpoint}, as HF_ENDPOINT says; unset it to use a hub on this machine."
    return "Models come from a hub on this machine."


class Hub:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}
        # It keeps what it generates in the user's cache, for the hubs of all clusters.
        environ |= {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
        self.daemon = Daemon("hub", self._command, self._listens, folder=folder, environ=environ)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        self.port = free_port()
        ports = ["--port", str(self.port), "--cdn-port", str(free_port())]
        return [sys.executable, "-m", "tests.support.hub", *ports, "--state-dir", str(self._folder / "hub")]

    async def _listens(self) -> bool:
        return await listens(self.port)
