"""The chart `ome` of an earlier version, upgraded to the present one and rolled back.

Begins with a cluster without OME, so it comes after test_uninstall; what is there otherwise is removed.
"""

from pathlib import Path

import pytest

from tests.support.fleet import condition, model
from tests.support.hub import Hub
from tests.support.installation import NAMESPACE, Installation, add_small_model, checksums
from tests.support.model_watch import ModelWatch
from tools.node import earlier
from tools.node.cluster import NodeCluster

READY = 'Ready:["node-1"]'
_MODELS = ("basemodels", "clusterbasemodels", "finetunedweights")


@pytest.fixture
def earlier_ome(cluster: NodeCluster, hub: Hub, tmp_path: Path) -> Installation:
    """OME as an earlier commit has it, with the images of that commit."""
    if not earlier.is_in_history():
        pytest.skip(f"the history of this clone does not reach back to {earlier.COMMIT}")
    cluster.kubectl("delete", ",".join(_MODELS), "--all", "-A", "--timeout=120s", check=False)
    cluster.helm("uninstall", "ome", "-n", NAMESPACE, "--wait", check=False)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    cluster.kubectl("delete", "crd", *(f"{kind}.ome.io" for kind in _MODELS), "--ignore-not-found", "--timeout=60s")
    for node in cluster.nodes.values():
        node.load(earlier.archives())
    cluster.add_disk("nats-of-earlier", "node-1", owner=65532)
    earlier.check_out(tmp_path)
    installation = Installation(cluster, hub.endpoint, tmp_path / "deploy" / "helm" / "ome", earlier.REGISTRY)
    installation.install()
    return installation


def brings_to_ready(ome: Installation, hub: Hub, name: str, seed: int) -> None:
    """Bring a new model to Ready on node-1."""
    add_small_model(hub, f"acme/{name}", seed=seed)
    wanted = model(name, f"hf://acme/{name}", path=f"/models/{name}", nodeSelector={"kubernetes.io/hostname": "node-1"})
    ome.cluster.apply(wanted)
    ome.await_ready(wanted)


def available_since(ome: Installation) -> str:
    """Since when the model `before` has been Ready somewhere."""
    return str(condition(ome.model(model("before", "")), "Available")["lastTransitionTime"])


def images_of(ome: Installation, service: str) -> set[str]:
    return {
        container["image"]
        for pod in ome.pods(service)
        if "deletionTimestamp" not in pod["metadata"]
        for container in pod["spec"]["containers"]
    }


# Three times everything is rolled out, one part after the other.
@pytest.mark.timeout(600)
def test_an_upgrade_from_an_earlier_version_and_its_rollback_keep_models_ready(
    earlier_ome: Installation, hub: Hub
) -> None:
    cluster = earlier_ome.cluster
    present = Installation(cluster, hub.endpoint)
    brings_to_ready(earlier_ome, hub, "before", 30)
    since = available_since(present)
    files, sent = checksums(present.target("/models/before")), hub.sent_bytes("/repos/acme/before/*")
    old = images_of(present, "fetcher")

    with ModelWatch(cluster, "before") as watch:
        present.upgrade()
        assert not old & images_of(present, "fetcher")
        assert "residency" in cluster.kubectl("get", "crd", "clusterbasemodels.ome.io", "-o", "yaml")
        brings_to_ready(present, hub, "upgraded", 31)
        cluster.helm("rollback", "ome", "1", "-n", NAMESPACE)
        present.roll_out()
        assert images_of(present, "fetcher") == old
        brings_to_ready(present, hub, "back", 32)

    assert set(watch.seen) == {READY}
    assert available_since(present) == since
    assert checksums(present.target("/models/before")) == files
    assert hub.sent_bytes("/repos/acme/before/*") == sent
    cluster.kubectl("delete", "clusterbasemodels", "--all", "--timeout=120s")
