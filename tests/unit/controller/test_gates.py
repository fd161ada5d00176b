"""Pods that wait for a model: which one, until when, and what is changed in them."""

from typing import Any

import pytest

from libs.chassis.health import Health
from libs.chassis.kube import Object
from services.controller.gate_watch import GateWatch
from services.controller.gates import (
    GATE,
    WAITING_LABEL,
    Place,
    is_waiting,
    kept_of_pod,
    lifting,
    may_start,
    place_of_model,
)
from services.controller.use import MODEL_ANNOTATION


def pod(named: str = "llama", *gates: str, name: str = "p", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team-a", "uid": name, "resourceVersion": "1"}
    return kept_of_pod(
        {
            "metadata": {**metadata, "labels": labels, "annotations": {MODEL_ANNOTATION: named, "secret": "x"}},
            "spec": {"schedulingGates": [{"name": gate} for gate in gates], "containers": ["large"]},
        }
    )


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("llama", ("", "llama")),
        ("team-a/llama", ("team-a", "llama")),
        ("team-b/llama", None),
        ("/llama", None),
        ("team-a/", None),
        ("", None),
    ],
)
def test_a_pod_waits_for_models_of_the_cluster_and_of_its_own_namespace(named: str, place: Place | None) -> None:
    assert place_of_model(pod(named)) == place


def test_little_is_kept_of_a_pod() -> None:
    kept = pod("llama", GATE)
    assert kept["spec"] == {"schedulingGates": [{"name": GATE}]}
    assert kept["metadata"]["annotations"] == {MODEL_ANNOTATION: "llama"}
    assert kept_of_pod({"metadata": {"name": "p"}})["metadata"] == {"name": "p", "annotations": {}}


def test_nobody_makes_much_be_kept_of_a_pod() -> None:
    many = {f"label-{number}": "x" for number in range(1000)}
    kept = pod("m" * 200_000, GATE, **{WAITING_LABEL: "true"}, **many)
    assert kept["metadata"]["labels"] == {WAITING_LABEL: "true"}
    assert place_of_model(kept) is None
    assert len(str(kept)) < 1000


def test_a_pod_may_start_as_soon_as_one_node_holds_its_model() -> None:
    assert not may_start(None)
    assert not may_start({"status": {"nodesReady": [], "state": "Ready"}})
    assert may_start({"status": {"nodesReady": ["a"], "state": "Ready"}})


def test_the_gates_of_others_and_other_labels_stay() -> None:
    operations = lifting(pod("llama", "quota", GATE, **{WAITING_LABEL: "true", "app": "x"}))
    assert operations[0] == {"op": "test", "path": "/metadata/uid", "value": "p"}
    assert operations[2] == {"op": "replace", "path": "/spec/schedulingGates", "value": [{"name": "quota"}]}
    assert operations[3] == {"op": "remove", "path": "/metadata/labels/models.ome.io~1awaits-model"}
    assert len(lifting(pod("llama", GATE))) == 3
    assert not is_waiting(pod("llama", "quota"))


class Watched:
    """A watch that hears of Pods, and the models for which it says that demand has changed."""

    def __init__(self) -> None:
        self.demand: list[Place] = []
        self.watch = GateWatch(Health(), lambda place: None, self.demand.append)

    def pod(self, before: Object | None, after: Object | None) -> list[Place]:
        self.demand.clear()
        self.watch.pod_changed(before, after)
        return list(self.demand)


def test_demand_begins_with_the_first_waiting_pod_and_ends_with_the_last() -> None:
    watched, place = Watched(), ("", "llama")
    first, second = pod("llama", GATE, name="a"), pod("llama", GATE, name="b")
    assert watched.pod(None, first) == [place]
    assert watched.pod(None, second) == []
    assert watched.watch.is_awaited(place)
    assert watched.pod(first, pod("llama", name="a")) == []
    assert watched.pod(second, None) == [place]
    assert not watched.watch.is_awaited(place)


def test_a_pod_that_comes_to_name_another_model_waits_for_that() -> None:
    watched = Watched()
    before = pod("llama", GATE)
    watched.pod(None, before)
    assert watched.pod(before, pod("team-a/qwen", GATE)) == [("", "llama"), ("team-a", "qwen")]


def test_a_pod_without_a_model_or_without_the_gate_waits_for_nothing() -> None:
    watched = Watched()
    assert watched.pod(None, pod("", GATE)) == []
    assert watched.pod(None, pod("llama", "quota")) == []
