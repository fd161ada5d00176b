"""Services of an earlier commit beside the present ones: what nodes hold stays, and new models come, in each mix."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.earlier import images, install
from tests.support.fleet import LLAMA_CONFIG, Fleet, condition, model
from tests.support.hub import Fault, GeneratedFile, generated_model
from tests.support.model_watch import ModelWatch
from tools.localcluster.cluster import ALL_CHARTS, LocalCluster
from tools.node import earlier

pytestmark = pytest.mark.cluster

# Those that charts of both versions have.
RETRIES = {"retryInitialSeconds": 0.2, "retryMaxSeconds": 2}
MORE = {"controller": RETRIES, "fetcher": RETRIES}
DECIDING = ("crds", "parser", "status", "controller")
FETCHING = ("fetcher",)
SMALL = {"config.json": json.dumps(LLAMA_CONFIG).encode(), "README.md": b"# a model\n"}
READY = 'Ready:["node-1","node-2"]'
BOTH = {"node-1", "node-2"}
_BIG = 48 << 20


@dataclass(frozen=True)
class Mixture:
    """A cluster in which any chart can be that of the earlier commit or of the present one."""

    fleet: Fleet
    checkout: Path

    def install_earlier(self, *charts: str) -> None:
        """Upgrade or roll back charts to the earlier commit."""
        install(self.fleet.cluster, self.checkout, charts, MORE)

    def install_present(self, *charts: str) -> None:
        """Upgrade charts to what this commit has."""
        self.fleet.cluster.install(*charts, values=MORE)

    def serves_everything(self, round: str) -> None:
        """Bring a model to Ready, another revision of it, and take it away again."""
        fleet, name = self.fleet, f"round-{round}"
        fleet.hub.add_model(f"org/{name}", SMALL, generated=generated_model(1 << 18))
        wanted = model(name, f"hf://org/{name}@main", path=f"/models/{name}")
        fleet.apply(wanted)
        fleet.await_state(wanted, "Ready", BOTH)
        fleet.hub.push(f"org/{name}", {"README.md": b"# another revision\n"})
        fleet.hub.tag(f"org/{name}", "next")
        fleet.apply(model(name, f"hf://org/{name}@next", path=f"/models/{name}"))

        def read() -> bool:
            return all((self.root(node) / name / "README.md").read_bytes() != SMALL["README.md"] for node in BOTH)

        fleet.until(f"nodes show the next revision of {name}", read)
        fleet.await_state(wanted, "Ready", BOTH)
        fleet.delete(wanted)
        fleet.await_gone(wanted)

    def sent(self, repository: str) -> int:
        """Bytes of files of a repository that have been sent, without answers about it."""
        hub = self.fleet.hub
        return hub.sent_bytes(f"/{repository}/resolve/*") + hub.sent_bytes(f"/repos/{repository}/*")

    def root(self, node: str) -> Path:
        return self.fleet.cluster.node_root(node) / "models"


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixture]:
    """Two nodes on which everything is of the earlier commit."""
    if not earlier.is_in_history():
        pytest.skip(f"the history of this clone does not reach back to {earlier.COMMIT}")
    checkout = tmp_path_factory.mktemp("earlier")
    earlier.check_out(checkout)
    with LocalCluster(nodes=2, charts=(), images=images(checkout)) as cluster:
        mixture = Mixture(Fleet(cluster), checkout)
        mixture.install_earlier(*ALL_CHARTS)
        yield mixture


# Five rounds, and four upgrades of charts.
@pytest.mark.timeout(600)
def test_models_stay_ready_and_new_ones_come_through_an_upgrade_and_its_rollback(mixture: Mixture) -> None:
    fleet = mixture.fleet
    fleet.hub.add_model("org/kept", SMALL, generated=generated_model(1 << 20))
    kept = model("kept", "hf://org/kept", path="/models/kept")
    fleet.apply(kept)
    item = fleet.await_state(kept, "Ready", BOTH)
    files = {node: fleet.files(node, "/models/kept") for node in BOTH}
    fleet.hub.forget_requests()

    steps: dict[str, Callable[[], None]] = {
        "old": lambda: None,
        "old-fetchers": lambda: mixture.install_present(*DECIDING),
        "new": lambda: mixture.install_present(*FETCHING),
        # CRDs stay, as the guide says.
        "new-fetchers": lambda: mixture.install_earlier(*DECIDING[1:]),
        "old-again": lambda: mixture.install_earlier(*FETCHING),
    }
    with ModelWatch(fleet.cluster, "kept") as watch:
        for name, step in steps.items():
            step()
            mixture.serves_everything(name)

    assert set(watch.seen) == {READY}
    assert {node: fleet.files(node, "/models/kept") for node in BOTH} == files
    assert mixture.sent("org/kept") == 0
    after: dict[str, Any] = fleet.await_state(kept, "Ready", BOTH)
    assert condition(after, "Available")["lastTransitionTime"] == condition(item, "Available")["lastTransitionTime"]
    assert after["status"]["artifact"] == item["status"]["artifact"]
    assert after["status"]["metadata"] == item["status"]["metadata"]


def test_a_download_that_an_older_fetcher_has_begun_is_continued(mixture: Mixture) -> None:
    fleet = mixture.fleet
    mixture.install_earlier(*FETCHING)
    mixture.install_present(*DECIDING)
    fleet.hub.add_model("org/begun", SMALL, generated=[GeneratedFile("model.safetensors", _BIG, 7)])
    slow = fleet.hub.inject(Fault("throttle", path="*/model.safetensors", bytes_per_second=2 << 20))
    begun = model("begun", "hf://org/begun", path="/models/begun", nodeSelector={"kubernetes.io/hostname": "node-1"})
    fleet.apply(begun)
    fleet.until("a third is sent", lambda: mixture.sent("org/begun") > _BIG // 3)

    mixture.install_present(*FETCHING)
    slow.remove()

    fleet.await_state(begun, "Ready", {"node-1"})
    # What was on disk was not sent again, but for what was in flight.
    assert mixture.sent("org/begun") < _BIG * 1.5
