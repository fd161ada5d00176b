"""What an operator does to a running cluster by hand: paths moved about, files taken away, and all of it at once."""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, Object, model
from tests.support.hub import GeneratedFile, generated_model

pytestmark = pytest.mark.cluster

HERE = {"kubernetes.io/hostname": "node-1"}
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def in_order(fleet: Fleet) -> Iterator[None]:
    """Two repositories of different bytes; afterwards every model goes, and no service has met a defect of its own."""
    fleet.hub.clear_faults()
    fleet.hub.add_model("org/a", {"README.md": "a"}, generated=generated_model(1 << 20))
    fleet.hub.add_model("org/b", {"README.md": "b"}, generated=[GeneratedFile(WEIGHTS, 2 << 20, seed=7)])
    yield
    fleet.cluster.kubectl("delete", "clusterbasemodels.ome.io", "--all", "--timeout=30s")
    fleet.until("nothing is left", lambda: not fleet.leftovers("node-1"))
    for service in ("controller", "fetcher", "parser", "status"):
        assert "Traceback" not in fleet.cluster.logs(service)


def a(path: str) -> Object:
    """The model a at a path of node-1."""
    return model("a", "hf://org/a", path=path, nodeSelector=HERE)


def b(path: str) -> Object:
    """The model b at a path of node-1."""
    return model("b", "hf://org/b", path=path, nodeSelector=HERE)


def await_weights(fleet: Fleet, path: str, repository: str) -> None:
    """Wait until readers of a path see the weights of a repository."""
    wanted = fleet.published_weights(repository)[WEIGHTS]
    fleet.until(f"{path} holds {repository}", lambda: fleet.files("node-1", path).get(WEIGHTS) == wanted)


def test_models_that_swap_their_paths_do_not_wait_for_each_other_and_move_no_bytes(fleet: Fleet) -> None:
    fleet.apply(a("/models/one"), b("/models/other"))
    fleet.await_state(a("/models/one"), "Ready", {"node-1"})
    fleet.await_state(b("/models/other"), "Ready", {"node-1"})
    fleet.hub.forget_requests()
    fleet.apply(a("/models/other"), b("/models/one"))
    await_weights(fleet, "/models/other", "org/a")
    await_weights(fleet, "/models/one", "org/b")
    fleet.await_state(a("/models/other"), "Ready", {"node-1"})
    fleet.await_state(b("/models/one"), "Ready", {"node-1"})
    assert fleet.hub.sent_bytes("*.safetensors") == 0


@pytest.mark.parametrize(("first", "second"), [("/models/x", "/models/x/y"), ("/models/x/y", "/models/x")])
def test_a_path_within_another_models_is_refused_until_that_model_goes(fleet: Fleet, first: str, second: str) -> None:
    fleet.apply(a(first))
    fleet.await_state(a(first), "Ready", {"node-1"})
    fleet.apply(b(second))
    fleet.await_failure(b(second), "PathConflict")
    assert first in fleet.describe(b(second))
    await_weights(fleet, first, "org/a")
    fleet.delete(a(first))
    fleet.await_state(b(second), "Ready", {"node-1"})


def test_a_store_that_is_removed_by_hand_is_built_anew_by_the_fetcher_that_runs(fleet: Fleet) -> None:
    fleet.apply(a("/models/one"))
    fleet.await_state(a("/models/one"), "Ready", {"node-1"})
    shutil.rmtree(fleet.cluster.node_root("node-1") / "models" / ".ome")
    fleet.apply(b("/models/other"))
    fleet.await_state(b("/models/other"), "Ready", {"node-1"})
    fleet.delete(a("/models/one"))
    fleet.await_gone(a("/models/one"))


def test_a_name_that_is_deleted_and_applied_again_with_another_source_gets_that_one(fleet: Fleet) -> None:
    manifest = a("/models/one")
    for _ in range(3):
        # What is applied may be the object that is being deleted, which then goes.
        fleet.apply(manifest)
        fleet.delete(manifest, if_there=True)
    fleet.await_gone(manifest)
    manifest["spec"]["storage"]["storageUri"] = "hf://org/b"
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})
    await_weights(fleet, "/models/one", "org/b")
