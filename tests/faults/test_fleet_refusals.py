"""What goes wrong outside, and what a user may not do: said with a reason, nothing touched, mended by itself."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, Object, content, model
from tests.support.hub import Fault, generated_model

pytestmark = pytest.mark.cluster

HERE = {"kubernetes.io/hostname": "node-1"}


@pytest.fixture
def repository(fleet: Fleet) -> Iterator[str]:
    """A repository that every test finds in order."""
    fleet.hub.clear_faults()
    fleet.hub.add_model("org/model", {"README.md": "# a model\n"}, generated=generated_model(1 << 20))
    yield "org/model"
    fleet.hub.clear_faults()


@pytest.fixture
def manifest(fleet: Fleet, repository: str) -> Iterator[Object]:
    """A model that is deleted afterwards, whatever became of it."""
    manifest = model("m", f"hf://{repository}", path="/models/m", nodeSelector=HERE)
    yield manifest
    fleet.delete(manifest)
    fleet.await_gone(manifest)
    fleet.until("nothing is left", lambda: not fleet.leftovers("node-1"))


def test_corrupted_origin_is_a_failure_with_a_reason_and_heals(fleet: Fleet, manifest: Object) -> None:
    fault = fleet.hub.inject(Fault("corrupt", path="*/model.safetensors", offset=4096))
    fleet.apply(manifest)
    fleet.await_failure(manifest, "ChecksumMismatch")
    assert fault.fired
    assert "ChecksumMismatch" in fleet.describe(manifest)
    assert not fleet.files("node-1", "/models/m")
    fault.remove()
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_missing_repository_is_a_failure_with_a_reason_and_heals(fleet: Fleet, manifest: Object) -> None:
    fleet.hub.delete_model("org/model")
    fleet.apply(manifest)
    fleet.await_failure(manifest, "NotFound")
    said = fleet.describe(manifest)
    assert "NotFound" in said
    assert "org/model" in said
    fleet.hub.add_model("org/model", generated=generated_model(1 << 20))
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_revision_that_vanishes_after_the_listing_is_listed_again(fleet: Fleet, manifest: Object) -> None:
    busy = fleet.hub.inject(Fault("status", path="*/model.safetensors", port="cdn", status=503))
    fleet.apply(manifest)
    busy.wait_fired()
    fleet.hub.delete_model("org/model")
    fleet.hub.expire_links()
    fleet.hub.add_model("org/model", {"README.md": "# written anew\n"}, generated=generated_model(1 << 20, seed=5))
    busy.remove()
    fleet.await_state(manifest, "Ready", {"node-1"})
    assert fleet.files("node-1", "/models/m")["README.md"] == content({"": b"# written anew\n"})[""]


def test_gated_repository_without_a_token_fails_and_heals_when_the_secret_comes(fleet: Fleet, manifest: Object) -> None:
    token = "hf_" + "s" * 34
    fleet.hub.set_access("org/model", gated="manual", private=True)
    manifest["spec"]["storage"]["storageKey"] = "hub-token"
    manifest["spec"]["storage"]["parameters"] = {"secretKey": "access"}
    fleet.apply(manifest)
    fleet.until(
        "the status names the missing Secret",
        lambda: "SecretNotFound" in json.dumps((fleet.get(manifest) or {}).get("status", {})),
    )
    fleet.hub.add_token(token, ["org/model"])
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub-token", "namespace": "ome"},
        "data": {"access": base64.b64encode(token.encode()).decode()},
    }
    fleet.apply(secret)
    try:
        fleet.await_state(manifest, "Ready", {"node-1"})
    finally:
        fleet.cluster.kubectl("delete", "secret", "-n", "ome", "hub-token")
    for service in ("controller", "fetcher", "parser", "status"):
        assert token not in fleet.cluster.logs(service)
    assert token not in json.dumps(fleet.get(manifest))


def test_gated_repository_without_any_secret_says_what_to_do(fleet: Fleet, manifest: Object) -> None:
    fleet.hub.set_access("org/model", gated="manual")
    fleet.apply(manifest)
    fleet.await_failure(manifest, "Gated")
    assert "storageKey" in fleet.describe(manifest)
    fleet.hub.set_access("org/model", gated=False)
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_hub_that_asks_to_slow_down_is_left_alone_for_so_long(fleet: Fleet, manifest: Object) -> None:
    fault = fleet.hub.inject(Fault("status", path="/api/models/*", status=429, retry_after="2", count=1))
    fleet.hub.forget_requests()
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})
    assert fault.fired == 1


def test_path_outside_of_the_model_roots_is_refused_and_nothing_is_touched(fleet: Fleet, manifest: Object) -> None:
    manifest["spec"]["storage"]["path"] = "/etc/ome-test"
    fleet.apply(manifest)
    fleet.await_failure(manifest, "InvalidPath")
    assert not (fleet.cluster.node_root("node-1") / "etc" / "ome-test").exists()
    manifest["spec"]["storage"]["path"] = "/models/m"
    fleet.apply(manifest)
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_path_with_a_parent_in_it_is_refused_at_apply(fleet: Fleet) -> None:
    outside = model("outside", "hf://org/model", path="/models/../etc")
    said = fleet.cluster.kubectl("apply", "-f", "-", input=json.dumps(outside), check=False)
    assert fleet.get(outside) is None
    assert "created" not in said


def test_directory_of_somebody_else_at_the_path_is_not_touched(fleet: Fleet, manifest: Object) -> None:
    foreign = fleet.cluster.node_root("node-1") / "models" / "m"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_bytes(b"data")
    fleet.apply(manifest)
    fleet.await_failure(manifest, "PathOccupied")
    assert fleet.files("node-1", "/models/m") == content({"precious": b"data"})
    (foreign / "precious").unlink()
    foreign.rmdir()
    fleet.await_state(manifest, "Ready", {"node-1"})


def test_path_that_is_a_model_root_itself_is_refused_and_the_root_survives_the_deletion(
    fleet: Fleet, manifest: Object
) -> None:
    keep = fleet.cluster.node_root("node-1") / "models" / "keep"
    keep.mkdir(parents=True, exist_ok=True)
    (keep / "precious").write_bytes(b"data")
    manifest["spec"]["storage"]["path"] = "/models"
    fleet.apply(manifest)
    fleet.await_failure(manifest, "InvalidPath")
    fleet.delete(manifest)
    fleet.await_gone(manifest)
    assert fleet.files("node-1", "/models/keep") == content({"precious": b"data"})
    manifest["spec"]["storage"]["path"] = "/models/m"
    fleet.apply(manifest)


def test_unsafe_name_in_a_listing_is_refused(fleet: Fleet, manifest: Object) -> None:
    fleet.hub.add_model("org/model", {"Config.json": "{}", "config.JSON": "{}"}, generated=generated_model(1 << 20))
    fleet.apply(manifest)
    fleet.await_failure(manifest, "InvalidListing")
