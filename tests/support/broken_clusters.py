"""`python -m tests.support.broken_clusters`: a local cluster with five models of which none comes where it should.

Whoever wants to practise starts it, and finds out what is wrong as docs/guides/broken-clusters.md tells. Each model is
broken in another way, and the ways are real: nothing pretends that something had failed.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console

from tests.support.fleet import LLAMA_CONFIG, Fleet, Object, model
from tests.support.hub.client import generated_model
from tools.localcluster.__main__ import Announcer
from tools.localcluster.cluster import LocalCluster
from tools.localcluster.statefolder import FolderInUse, StateFolder, default_folder

# What a node has if a fetcher shall run on it.
FETCHER_LABEL = "models.example.com/fetcher"
NODES = {
    "node-1": {"gpu": "A100", FETCHER_LABEL: "yes"},
    "node-2": {"gpu": "A100", FETCHER_LABEL: "yes"},
    "node-3": {"gpu": "L4", FETCHER_LABEL: "yes"},
}
# More than any disk of a machine that runs this has: a vendor says so, and nobody asks for a byte.
_HUGE_INDEX = {"files": [{"path": "model.safetensors", "size": 64 << 40, "sha256": "0" * 64}]}
_SHARD_BYTES = 1 << 20


class _Index(BaseHTTPRequestHandler):
    """Answers every request with the index of a model that no disk holds."""

    def do_GET(self) -> None:
        body = json.dumps(_HUGE_INDEX).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: who practises reads the terminal."""


@contextmanager
def broken_fleet(state_dir: Path | None = None, announce: Callable[[str], None] = lambda _: None) -> Iterator[Fleet]:
    """A cluster whose five models are broken, each of which says so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Index) as vendor:
        threading.Thread(target=vendor.serve_forever, daemon=True).start()
        driver = {
            "driver": "http",
            "index": f"http://127.0.0.1:{vendor.server_port}/{{path}}",
            "file": "https://acme.example/{file}",
        }
        values = {"fetcher": {"nodeSelector": {FETCHER_LABEL: "yes"}, "vendorDrivers": {"acme": driver}}}
        with LocalCluster(nodes=NODES, helm_values=values, state_dir=state_dir, announce=announce) as cluster:
            fleet = Fleet(cluster)
            for broken in FIVE:
                announce(f"breaking {broken.name}")
                broken.break_it(fleet)
            for broken in FIVE:
                announce(f"waiting until {broken.name} says so")
                fleet.until(f"{broken.name} tells {broken.reason}", partial(_tells, fleet, broken))
            yield fleet
        vendor.shutdown()


@dataclass(frozen=True)
class Broken:
    """One model that is broken, the reason that says so, and what breaks it."""

    name: str
    reason: str
    break_it: Callable[[Fleet], None]


def _wrong_token(fleet: Fleet) -> None:
    fleet.hub.add_model(
        "acme/private", {"config.json": _config()}, generated=generated_model(_SHARD_BYTES), private=True
    )
    fleet.hub.add_token("hf_the_right_one", ["acme/private"])
    secret = {"metadata": {"name": "acme-token", "namespace": "ome"}, "stringData": {"token": "hf_of_last_year"}}
    fleet.apply(
        {"apiVersion": "v1", "kind": "Secret", **secret},
        _on_a100("private", "hf://acme/private", storageKey="acme-token"),
    )


def _no_node(fleet: Fleet) -> None:
    fleet.hub.add_model("acme/chat", {"config.json": _config()}, generated=generated_model(_SHARD_BYTES))
    fleet.apply(model("chat", "hf://acme/chat", nodeSelector={"gpu": "H100"}))


def _too_large(fleet: Fleet) -> None:
    fleet.apply(_on_a100("huge", "vendor://acme/models/huge"))


def _incomplete(fleet: Fleet) -> None:
    fleet.hub.add_model(
        "acme/sharded", {"config.json": _config()}, generated=generated_model(4 * _SHARD_BYTES, shards=4)
    )
    fleet.hub.push("acme/sharded", delete=["model-00003-of-00004.safetensors"])
    fleet.apply(_on_a100("sharded", "hf://acme/sharded"))


def _fetcher_down(fleet: Fleet) -> None:
    fleet.hub.add_model("acme/small", {"config.json": _config()}, generated=generated_model(_SHARD_BYTES))
    fleet.cluster.kubectl("label", "node", "node-3", f"{FETCHER_LABEL}-")
    fleet.until("node-3 has no fetcher", lambda: not fleet.cluster.pods("fetcher", "node-3"))
    fleet.apply(model("small", "hf://acme/small"))


FIVE = (
    Broken("private", "Forbidden", _wrong_token),
    Broken("chat", "NoMatchingNode", _no_node),
    Broken("huge", "InsufficientDisk", _too_large),
    Broken("sharded", "Incomplete", _incomplete),
    Broken("small", "NodeUnreachable", _fetcher_down),
)


def _on_a100(name: str, uri: str, **storage: str) -> Object:
    return model(name, uri, nodeSelector={"gpu": "A100"}, **storage)


def _config() -> str:
    return json.dumps(LLAMA_CONFIG)


def _tells(fleet: Fleet, broken: Broken) -> bool:
    status = (fleet.get(model(broken.name, "")) or {}).get("status", {})
    return broken.reason in {each["reason"] for each in (*status.get("conditions", ()), *status.get("failures", ()))}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.broken_clusters", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=default_folder(os.environ), help="folder (%(default)s)")
    folder, console = StateFolder(parser.parse_args().state_dir), Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with folder.claimed(), broken_fleet(folder.path, Announcer(console)) as fleet:
            folder.write_env(fleet.cluster.env())
            names = ", ".join(broken.name for broken in FIVE)
            console.print(f"None of {names} is where it should be. Find out why.", highlight=False)
            console.print(
                f"To join in: [bold]set -a; . {folder.path}/env; PATH={folder.path}/bin:$PATH", soft_wrap=True
            )
            console.print(f"The page: [bold]{fleet.cluster.env()['STATUS_PAGE']}", highlight=False, soft_wrap=True)
            console.print("The cluster stays up until Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except FolderInUse as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
