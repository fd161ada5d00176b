"""NATS loses everything while a source cannot be listed: what exists stays, is Ready, and is labelled so."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, Object, model, started_fleet
from tests.support.hub import Fault, generated_model

pytestmark = pytest.mark.cluster

NODES = {"node-1", "node-2", "node-3"}
# A restarted service is back within a few seconds on a busy machine, and labels may follow it.
LONGEST_GAP_SECONDS = 15.0
ANSWERS = {
    "no answer": Fault("delay", path="/api/models/*", seconds=600),
    "not found": Fault("status", path="/api/models/*", status=404),
    "unauthorized": Fault("status", path="/api/models/*", status=401),
    "too many requests": Fault("status", path="/api/models/*", status=429),
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three nodes, which throw away within a second what no object names."""
    with started_fleet(3, {"fetcher": {"orphanGraceSeconds": 1}}) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def held(fleet: Fleet) -> Object:
    """A model that all nodes hold."""
    fleet.hub.add_model("org/held", {"config.json": "{}"}, generated=generated_model(4 << 20, 2))
    manifest = model("held", "hf://org/held", path="/models/held")
    fleet.apply(manifest)
    return fleet.await_state(manifest, "Ready", NODES)


def all_ready(fleet: Fleet, manifest: Object) -> Object:
    """The model once its counts say what its list of nodes says."""
    whole = f"{len(NODES)}/{len(NODES)}"

    def counted() -> Object | None:
        item = fleet.get(manifest)
        return item if item and item["status"]["nodes"]["summary"] == whole else None

    found: Object = fleet.until("all nodes are counted as ready", counted)
    return found


def inodes(fleet: Fleet) -> dict[Path, int]:
    """Every file of an artifact on any node, and whether it is still the same one."""
    roots = [fleet.cluster.node_root(node) for node in sorted(NODES)]
    files = [path for root in roots for path in root.rglob(".ome/artifacts/*/*") if path.is_file()]
    return {path: path.stat().st_ino for path in files}


class LabelWatch:
    """How long at most a node went without the label that a scheduler goes by."""

    def __init__(self, fleet: Fleet, uid: str) -> None:
        self._fleet = fleet
        self._selector = f"models.ome/{uid}=Ready"
        self._seen = dict.fromkeys(NODES, time.monotonic())
        self.longest = 0.0
        self._stop = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stop.wait(0.2):
            output = self._fleet.cluster.kubectl("get", "nodes", "-l", self._selector, "-o", "name", check=False)
            now = time.monotonic()
            for line in output.split():
                self._seen[line.removeprefix("node/")] = now
            self.longest = max(self.longest, *(now - seen for seen in self._seen.values()))

    @classmethod
    @contextmanager
    def on(cls, fleet: Fleet, uid: str) -> "Iterator[LabelWatch]":
        """Look while the block runs."""
        watch = cls(fleet, uid)
        thread = threading.Thread(target=watch.run)
        thread.start()
        try:
            yield watch
        finally:
            watch._stop.set()
            thread.join()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_exists_stays_ready_although_nats_lost_everything_and_the_source_gives(
    fleet: Fleet, held: Object, answer: str
) -> None:
    before, files = all_ready(fleet, held), inodes(fleet)
    assert len(files) == 4 * len(NODES)
    fault = fleet.hub.inject(ANSWERS[answer])
    with LabelWatch.on(fleet, held["metadata"]["uid"]) as watch:
        fleet.cluster.kill("nats")
        shutil.rmtree(fleet.cluster.state_dir / "nats")
        # Its memory of what was listed goes as well.
        fleet.cluster.kill_pod_process("controller")
        fleet.cluster.restart("nats")
        fault.wait_fired(seconds=60)
        for service in ("fetcher", "controller", "status", "parser"):
            restart(fleet, service)
            fleet.await_state(held, "Ready", NODES)
        labelled = f"models.ome/{held['metadata']['uid']}=Ready"
        fleet.until(
            "all nodes are labelled",
            lambda: len(fleet.cluster.kubectl("get", "nodes", "-l", labelled, "-o", "name").split()) == len(NODES),
        )
    after = fleet.get(held)
    fleet.hub.clear_faults()

    assert after is not None
    assert inodes(fleet) == files
    assert after["status"]["artifact"] == before["status"]["artifact"]
    assert after["status"]["nodes"] == before["status"]["nodes"]
    assert watch.longest < LONGEST_GAP_SECONDS


def restart(fleet: Fleet, service: str) -> None:
    """Kill a service on all nodes and wait until it is back."""
    before = {pod.name: pod.restarts for pod in fleet.cluster.pods(service)}
    assert fleet.cluster.kill_pod_process(service) >= len(before)

    def back() -> bool:
        pods = fleet.cluster.pods(service)
        return len(pods) == len(before) and all(pod.ready and pod.restarts > before[pod.name] for pod in pods)

    fleet.until(f"{service} is back", back)


def test_a_pinned_model_keeps_its_revision_although_nats_lost_everything_and_the_branch_has_moved(
    fleet: Fleet,
) -> None:
    fleet.hub.clear_faults()
    fleet.hub.add_model("org/moving", {"config.json": "{}"}, generated=generated_model(1 << 20))
    pinned = model("moving", "hf://org/moving", path="/models/moving")
    fleet.apply(pinned)
    fleet.await_state(pinned, "Ready", NODES)
    before = all_ready(fleet, pinned)["status"]
    fleet.hub.add_model("org/moving", {"config.json": "{}"}, generated=generated_model(2 << 20))
    fleet.hub.forget_requests()
    fleet.cluster.kill("nats")
    shutil.rmtree(fleet.cluster.state_dir / "nats")
    fleet.cluster.kill_pod_process("controller")
    fleet.cluster.restart("nats")
    commit = before["artifact"]["sourceRevision"]
    fleet.until("its commit is listed", lambda: fleet.hub.requests(f"/api/models/org/moving/*{commit}*"))
    # A node that comes back empty fetches the same: the manifest is there again.
    shutil.rmtree(fleet.cluster.node_root("node-2") / "models" / ".ome" / "artifacts")
    restart(fleet, "fetcher")
    fleet.until("node-2 fetches again", lambda: fleet.hub.sent_bytes("*.safetensors"))
    fleet.await_state(pinned, "Ready", NODES)
    after = all_ready(fleet, pinned)["status"]
    assert after["artifact"]["digest"] == before["artifact"]["digest"]
    assert [each["digest"] for each in after["history"]] == [before["artifact"]["digest"]]
    assert "RolledOut" not in {each["type"] for each in after["conditions"]}
    fleet.delete(pinned)
    fleet.await_gone(pinned)


def test_what_was_lost_is_listed_once_the_source_answers_and_no_byte_is_fetched(fleet: Fleet, held: Object) -> None:
    fleet.hub.clear_faults()
    fleet.hub.forget_requests()
    fleet.cluster.kill("nats")
    shutil.rmtree(fleet.cluster.state_dir / "nats")
    fleet.cluster.kill_pod_process("controller")
    fleet.cluster.restart("nats")
    fleet.until("the source is listed", lambda: fleet.hub.requests("/api/models/*"))
    fleet.await_state(held, "Ready", NODES)
    assert fleet.hub.sent_bytes("*.safetensors") == 0
    fleet.delete(held)
    fleet.await_gone(held)
    fleet.until("nothing is left", lambda: not [file for node in NODES for file in fleet.leftovers(node)])
