"""Pods that read a model while its revision changes, while it is deleted, and while its node loses its label."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.fleet import LLAMA_CONFIG, Fleet, Object, condition, model
from tests.support.hub import Fault, generated_model
from tests.support.shard_reader import read

pytestmark = pytest.mark.cluster

CONFIG = {"config.json": json.dumps(LLAMA_CONFIG).encode()}
SHARDS, SHARD_BYTES = 6, 1 << 20
PATH = "/models/film"
NODES = ("node-1", "node-2", "node-3")
_USE = "models.ome.io/clusterbasemodel.film"


def reader(name: str, node: str) -> Object:
    """A Pod that follows the guide: the path of the model, a Directory, read-only."""
    container = {
        "name": "reader",
        "image": "ome/fetcher:test",
        "command": ["python", "-m", "tests.support.shard_reader"],
        "args": ["/model"],
        "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "model", "hostPath": {"path": PATH, "type": "Directory"}}],
        },
    }


class Reader:
    """What a Pod has read, from inside."""

    def __init__(self, fleet: Fleet, name: str, node: str) -> None:
        self.name, self.node = name, node
        self._fleet = fleet
        fleet.cluster.kubectl("apply", "-f", "-", input=json.dumps(reader(name, node)))

    def lines(self) -> list[list[str]]:
        """Number of the round and what was read, line by line."""
        output = self._fleet.cluster.kubectl("logs", "-n", "default", self.name, check=False)
        lines = [line.split(" ", 1) for line in output.splitlines() if line[:1].isdigit()]
        return [line for line in lines if len(line) == 2]

    def read(self) -> set[str]:
        """Everything that it has read so far, without repetitions."""
        return {line[1] for line in self.lines()}

    def rounds(self) -> int:
        """How many rounds it has made."""
        return len(self.lines())

    def await_rounds(self, more: int = 1) -> None:
        """Wait until it has read everything so many times more."""
        wanted = self.rounds() + more
        self._fleet.until(f"{self.name} has read {more} times more", lambda: self.rounds() >= wanted)

    def end(self) -> None:
        """Delete the Pod, and wait until it is gone."""
        self._fleet.cluster.kubectl("delete", "pod", "-n", "default", self.name, "--ignore-not-found", "--wait")


@pytest.fixture
def readers(fleet: Fleet) -> Iterator[list[Reader]]:
    started: list[Reader] = []
    yield started
    for each in started:
        each.end()


@pytest.fixture
def film(fleet: Fleet) -> Iterator[Object]:
    fleet.hub.add_model("org/film", CONFIG, generated=generated_model(SHARDS * SHARD_BYTES, shards=SHARDS, seed=1))
    fleet.hub.tag("org/film", "v1")
    manifest = model("film", "hf://org/film@v1", path=PATH)
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", set(NODES))
    yield manifest
    if fleet.get(manifest):
        fleet.delete(manifest)
    fleet.await_gone(manifest)
    fleet.hub.clear_faults()


def served(fleet: Fleet, node: str) -> str:
    """What a reader that starts now would read."""
    return read(fleet.cluster.node_root(node) / PATH.lstrip("/"))


def label(fleet: Fleet, node: str) -> str:
    found = json.loads(fleet.cluster.kubectl("get", "node", node, "-o", "json"))["metadata"]["labels"]
    return str(found.get(_USE, "-"))


def revise(fleet: Fleet, manifest: Object, revision: str, seed: int) -> Object:
    """Publish another revision at the source and ask for it."""
    generated = generated_model(SHARDS * SHARD_BYTES, shards=SHARDS, seed=seed)
    fleet.hub.push("org/film", generated=generated)
    fleet.hub.tag("org/film", revision)
    storage = manifest["spec"]["storage"] | {"storageUri": f"hf://org/film@{revision}"}
    revised = manifest | {"spec": {"storage": storage}}
    fleet.apply(revised)
    return revised


class Film:
    """The state as it goes by: a picture whenever something has changed, to be printed."""

    def __init__(self, fleet: Fleet, manifest: Object, readers: list[Reader]) -> None:
        self._fleet, self._manifest, self._readers = fleet, manifest, readers
        self._began = time.monotonic()
        self.pictures: list[dict[str, Any]] = []

    def look(self) -> dict[str, Any]:
        """Take a picture."""
        status = (self._fleet.get(self._manifest) or {}).get("status", {})
        update, held = status.get("update"), status.get("inUse", {}).get("held", [])
        picture = {
            "state": status.get("lifecycle", "-"),
            "ready": status.get("nodes", {}).get("summary", "-"),
            "reason": status.get("reason", "-"),
            "serves": status.get("artifact", {}).get("digest", "-")[7:13],
            "comes": f"{update.get('digest', '?')[7:13]} {update['nodesDone']}/{update['nodes']}" if update else "-",
            "labels": ",".join(label(self._fleet, node) for node in NODES),
            "held": ",".join(f"{each['node']}:{each.get('pods', 0)}" for each in held) or "-",
            "readers": "  ".join(f"{each.name}={sorted(line[-6:] for line in each.read())}" for each in self._readers),
        }
        if not self.pictures or {**self.pictures[-1], "at": 0} != {**picture, "at": 0}:
            self.pictures.append(picture | {"at": time.monotonic() - self._began})
        return picture

    def until(self, what: str, holds: Any) -> None:
        """Take pictures until one shows it."""
        self._fleet.until(what, lambda: holds(self.look()))

    def show(self) -> None:
        """Print it."""
        columns = ("state", "ready", "reason", "serves", "comes", "labels", "held", "readers")
        widths = {each: max(len(each), *(len(picture[each]) for picture in self.pictures)) for each in columns}
        print("\n    at  " + "  ".join(each.upper().ljust(widths[each]) for each in columns))
        for picture in self.pictures:
            row = "  ".join(picture[each].ljust(widths[each]) for each in columns)
            print(f"{picture['at']:5.1f}s  {row}".rstrip())


def test_pods_read_their_whole_revision_while_the_next_one_comes_and_new_pods_read_that(
    fleet: Fleet, film: Object, readers: list[Reader]
) -> None:
    first = served(fleet, "node-1")
    readers += [Reader(fleet, f"old-{node[-1]}", node) for node in NODES]
    for each in readers:
        each.await_rounds()
    shown = Film(fleet, film, readers)
    shown.look()
    stall = fleet.hub.inject(Fault("stall", path="*/model-00002-*", after_bytes=1000))
    revised = revise(fleet, film, "v2", seed=2)
    shown.until("what comes is told", lambda picture: picture["comes"] not in ("-", "? 0/3"))
    stall.release()
    shown.until("the new revision is everywhere", lambda picture: picture["comes"] == "-" and picture["held"] != "-")
    second = served(fleet, "node-1")
    assert first != second
    readers.append(Reader(fleet, "new-1", "node-1"))
    readers[-1].await_rounds()
    for each in readers:
        each.await_rounds(3)
    shown.until("every node keeps the old one", lambda picture: picture["held"] == "node-1:1,node-2:1,node-3:1")
    for each in readers[:3]:
        assert each.read() == {first}
    assert readers[3].read() == {second}
    described = fleet.describe(revised)
    assert "default/old-1" in described

    for each in readers[:3]:
        each.end()
    del readers[:3]
    shown.until("nobody holds the old one", lambda picture: picture["held"] == "-")
    for node in NODES:
        artifacts = fleet.cluster.node_root(node) / "models/.ome/artifacts"
        assert len(list(artifacts.iterdir())) == 1
    readers[0].await_rounds()
    assert readers[0].read() == {second}
    shown.show()
    assert {(picture["state"], picture["ready"]) for picture in shown.pictures} == {("Ready", "3/3")}
    assert {picture["labels"] for picture in shown.pictures} == {"Ready,Ready,Ready"}
    assert len({picture["serves"] for picture in shown.pictures}) == 2


def test_a_deletion_waits_for_the_pod_and_names_it_where_people_look(
    fleet: Fleet, film: Object, readers: list[Reader]
) -> None:
    before = served(fleet, "node-2")
    readers.append(Reader(fleet, "holder", "node-2"))
    readers[0].await_rounds()
    fleet.delete(film)

    def waits() -> bool:
        item = fleet.get(film) or {}
        return "Pod default/holder uses it" in condition(item, "Complete").get("message", "")

    fleet.until("the deletion says what it waits for", waits)
    table = fleet.cluster.kubectl("get", "clusterbasemodel", "film", "-o", "wide")
    assert "Deleting" in table
    assert "InUse" in table
    assert "Deletion waits on node-2: Pod default/holder uses it" in fleet.describe(film)
    assert not (fleet.cluster.node_root("node-2") / PATH.lstrip("/")).exists()
    assert label(fleet, "node-2") == "-"
    readers[0].await_rounds(2)
    assert readers[0].read() == {before}
    readers.pop().end()
    fleet.await_gone(film)
    assert fleet.leftovers("node-2") == []


def test_a_person_ends_a_deletion_that_waits_by_an_annotation(
    fleet: Fleet, film: Object, readers: list[Reader]
) -> None:
    readers.append(Reader(fleet, "stubborn", "node-3"))
    readers[0].await_rounds()
    fleet.delete(film)
    fleet.until("the deletion waits", lambda: (fleet.get(film) or {}).get("status", {}).get("reason") == "InUse")
    fleet.cluster.kubectl("annotate", "clusterbasemodel", "film", "models.ome.io/in-use-grace-seconds=0")
    fleet.await_gone(film)
    fleet.until(
        "the Pod finds nothing any more",
        lambda: any("broken" in line or "0 shards" in line for line in readers[0].read()),
    )


def test_a_node_that_loses_its_label_keeps_the_model_while_a_pod_uses_it(
    fleet: Fleet, film: Object, readers: list[Reader]
) -> None:
    kubectl = fleet.cluster.kubectl
    for node in NODES:
        kubectl("label", "node", node, "film=yes", "--overwrite")
    storage = film["spec"]["storage"] | {"nodeSelector": {"film": "yes"}}
    fleet.apply(film | {"spec": {"storage": storage}})
    fleet.await_state(film, "Ready", set(NODES))
    before = served(fleet, "node-1")
    readers.append(Reader(fleet, "server", "node-1"))
    readers[0].await_rounds()
    for node in ("node-1", "node-2"):
        kubectl("label", "node", node, "film-")
    fleet.await_state(film, "Ready", {"node-3"})
    fleet.until("the node without a Pod lets go", partial(_is_gone, fleet, "node-2"))
    readers[0].await_rounds(3)
    assert readers[0].read() == {before}
    assert not _is_gone(fleet, "node-1")
    assert label(fleet, "node-1") == "Updating"
    fleet.hub.forget_requests()
    kubectl("label", "node", "node-1", "film=yes")
    fleet.await_state(film, "Ready", {"node-1", "node-3"})
    assert fleet.hub.sent_bytes() == 0
    kubectl("label", "node", "node-1", "film-")
    readers.pop().end()
    fleet.until("the node lets go when the Pod has", partial(_is_gone, fleet, "node-1"))


def _is_gone(fleet: Fleet, node: str) -> bool:
    return not (fleet.cluster.node_root(node) / PATH.lstrip("/")).exists()
