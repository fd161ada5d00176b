"""What people may have done with a model, and what is said to them when they may not."""

from typing import Any

import pytest

from libs.model import actions

REVISION = "models.ome.io/revision"
RESIDENCY = "ome.io/artifact-residency"


def model(*ready: str, annotations: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "m", "resourceVersion": "7", "annotations": annotations or {}},
        "spec": {"storage": {"storageUri": "hf://org/m", "residency": "Evictable"}},
        "status": {"artifact": {"digest": "sha256:1"}, "nodesReady": list(ready), **status},
    }


def in_use(pods: int, *users: tuple[str, str]) -> dict[str, Any]:
    return {"pods": pods, "users": [{"node": node, "pod": pod} for node, pod in users]}


def test_verifying_names_the_request_and_forgets_the_node_of_an_earlier_one() -> None:
    found = {"models.ome.io/verify-requested-at": "noon", "models.ome.io/verify-node": None}
    assert actions.verify_patch("noon", "") == {"metadata": {"annotations": found}}
    assert actions.verify_patch("noon", "n1")["metadata"]["annotations"]["models.ome.io/verify-node"] == "n1"


@pytest.mark.parametrize(
    ("node", "has", "why"),
    [
        ("", model("n1"), ""),
        ("n1", model("n1"), ""),
        ("n2", model("n1"), "node n2 holds no copy of it that is ready"),
        ("", model(), "no node holds a copy of it that is ready"),
        ("", model("n1", artifact={}), "there are no checksums to compare with"),
        ("", {"metadata": {}}, "there are no checksums to compare with"),
    ],
)
def test_only_a_copy_that_is_there_is_verified(node: str, has: dict[str, Any], why: str) -> None:
    said = actions.why_not_verified(has, node)
    assert said.endswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("node", "has", "why"),
    [
        ("", model("n1"), ""),
        ("n1", model("n1", inUse=in_use(1, ("n2", "serving/a"))), ""),
        ("n1", model("n2"), "node n1 holds no copy of it that is ready"),
        ("n1", model("n1", inUse=in_use(1, ("n1", "serving/a"))), "Pods use it: serving/a on n1; it may go"),
        ("", model("n1", inUse=in_use(1, ("n1", "serving/a"))), "Pods use it: serving/a on n1; it may go"),
        ("n1", model("n1", inUse=in_use(9, ("n2", "serving/a"))), "9 Pods use it, and not all of them are told"),
    ],
)
def test_a_model_is_evicted_only_where_no_pod_uses_it(node: str, has: dict[str, Any], why: str) -> None:
    said = actions.why_not_evicted(has, node)
    assert said.startswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize("residency", [None, "Always"])
def test_a_model_that_is_to_stay_is_not_evicted(residency: str | None) -> None:
    has = model("n1")
    has["spec"]["storage"]["residency"] = residency
    assert "storage.residency is Always" in actions.why_not_evicted(has, "n1")


def test_evicting_and_pulling_from_nodes_keep_what_is_asked_of_other_nodes() -> None:
    evicted = actions.evict_patch(model(annotations={"models.ome.io/evicted-nodes": "n2"}), "n1")
    assert evicted["metadata"]["annotations"] == {"models.ome.io/evicted-nodes": "n1,n2"}
    assert evicted["metadata"]["resourceVersion"] == "7"
    asked = {"models.ome.io/evicted-nodes": "n1,n2", "models.ome.io/pulled-nodes": "n3=dawn"}
    pulled = actions.pull_patch(model(annotations=asked), "noon", "n1")
    assert pulled["metadata"]["annotations"] == {
        "models.ome.io/evicted-nodes": "n2",
        "models.ome.io/pulled-nodes": "n1=noon,n3=dawn",
    }


def test_pulling_to_all_nodes_takes_back_what_was_asked_of_single_ones() -> None:
    assert actions.evict_patch(model(), "")["metadata"] == {"annotations": {RESIDENCY: "Evicted"}}
    assert actions.pull_patch(model(), "noon", "")["metadata"]["annotations"] == {
        RESIDENCY: None,
        "ome.io/artifact-rehydration-id": "noon",
        "models.ome.io/evicted-nodes": None,
        "models.ome.io/pulled-nodes": None,
    }


@pytest.mark.parametrize(
    ("node", "has", "why"),
    [
        ("", model(nodesEvicted=["n1"]), ""),
        ("n1", model(nodesEvicted=["n1"]), ""),
        ("", model("n1", annotations={RESIDENCY: "Evicted"}), ""),
        ("", model("n1"), "no node has given it up"),
        ("n1", model("n1"), "node n1 holds it already"),
        ("n2", model("n1"), "node n2 has not given it up"),
        ("n1", model(nodesEvicted=["n1"], annotations={RESIDENCY: "Evicted"}), "it is evicted from all nodes"),
    ],
)
def test_only_what_was_given_up_is_pulled(node: str, has: dict[str, Any], why: str) -> None:
    said = actions.why_not_pulled(has, node)
    assert said.startswith(why)
    assert bool(said) == bool(why)


def test_there_is_a_way_back_to_revisions_that_are_remembered_and_from_there_to_the_source() -> None:
    has = model(history=[{"digest": "sha256:1"}, {"digest": "sha256:2"}])
    assert actions.why_not_returned(has, "sha256:2") == ""
    assert actions.why_not_returned(has, "sha256:3").startswith("nodes were not to hold")
    assert actions.why_not_returned(has, "") == "it has what its source has"
    assert actions.return_patch("sha256:2")["metadata"]["annotations"] == {REVISION: "sha256:2"}
    back = model(annotations=actions.return_patch("sha256:2")["metadata"]["annotations"])
    assert actions.why_not_returned(back, "") == ""
    assert actions.return_patch("")["metadata"]["annotations"] == {REVISION: None}
