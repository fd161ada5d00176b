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
    may_be_released,
    may_start,
    place_of_model,
    word_of_release,
    word_of_waiting,
)
from services.controller.pod_events import APART_SECONDS, BETWEEN_SECONDS, FIRST_SECONDS, Tellings
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


def selecting(named: str, key: str = "models.ome.io/clusterbasemodel.llama") -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "team-a", "uid": "p", "annotations": {MODEL_ANNOTATION: named}}
    return kept_of_pod({"metadata": metadata, "spec": {"nodeSelector": {key: "Ready"}, "schedulingGates": [GATE]}})


def model(state: str = "", ready: tuple[str, ...] = (), desired: int = 0, uri: str = "hf://org/llama") -> Object:
    status = {"state": state, "nodesReady": list(ready), "nodes": {"desired": desired}}
    return {"spec": {"storage": {"storageUri": uri}}, "status": status if state else {}}


CLAIM = model("Ready", uri="pvc://data/llama")
WORDS = {
    "no model that it may name": ("team-b/llama", None, "ModelNotNamed", "names no model that the Pod may wait for"),
    "none at all": ("", None, "ModelNotNamed", "names no model that the Pod may wait for"),
    "one that does not exist": (
        "llama",
        None,
        "ModelNotFound",
        "waits for ClusterBaseModel llama, which does not exist",
    ),
    "one that is fetched": ("llama", model("Creating", desired=3), "WaitingForModel", "not Ready on any of 3 nodes;"),
    "one that is new": ("team-a/llama", model(), "WaitingForModel", "BaseModel team-a/llama, which is not Ready and"),
    "one that has failed": ("team-a/llama", model("Failed"), "WaitingForModel", "which has failed; kubectl describe"),
    "one in a claim": ("llama", CLAIM, "ModelOnNoNode", "it waits for ever: make it anew"),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_pod_is_told_why_it_waits_for(case: str) -> None:
    named, awaited, reason, sentence = WORDS[case]
    word = word_of_waiting(selecting(named), awaited)
    assert (word.reason, sentence in word.note) == (reason, True), word
    assert (word.type == "Normal") == (reason == "WaitingForModel" and "failed" not in word.note)


def test_a_model_in_a_claim_releases_a_pod_that_waits_for_no_node_with_it() -> None:
    """A gate that somebody has written by hand may stand without a selector; the policy always adds one."""
    by_hand = pod("llama", GATE)
    assert may_be_released(by_hand, CLAIM)
    assert not may_be_released(selecting("llama"), CLAIM)
    assert not may_be_released(by_hand, model("Creating", uri="pvc://data/llama"))
    assert word_of_waiting(by_hand, model("Creating", uri="pvc://data/llama")).reason == "WaitingForModel"
    assert "in its claim" in word_of_release(by_hand, CLAIM).note
    assert not may_be_released(by_hand, model("Ready", uri="hf://org/llama"))
    assert selecting("llama", "models.ome.io/available-storage")["selects"]
    assert not selecting("llama", "gpu")["selects"]


def test_a_pod_is_told_that_it_may_be_scheduled() -> None:
    assert word_of_release(pod(), model("Ready", ("a",))).note == (
        "ClusterBaseModel llama is Ready on 1 node: the Pod may be scheduled"
    )


def test_a_pod_is_told_news_alone_and_not_more_often_than_once_a_minute() -> None:
    told, key = Tellings(), ("team-a", "p")
    missing, comes = word_of_waiting(pod(), None), word_of_waiting(pod(), model("Creating", desired=3))
    assert told.wait_seconds(key, missing, 100.0) == FIRST_SECONDS
    assert told.wait_seconds(key, missing, 100.0 + FIRST_SECONDS) == 0.0
    told.told(key, missing, 102.0)
    assert told.wait_seconds(key, missing, 500.0) is None
    assert told.wait_seconds(key, comes, 103.0) == BETWEEN_SECONDS - 1
    told.told(key, comes, 102.0 + BETWEEN_SECONDS)
    assert told.wait_seconds(key, word_of_waiting(pod(), model("Creating", desired=4)), 900.0) is None
    told.forget(key)
    assert told.wait_seconds(key, comes, 900.0) == FIRST_SECONDS


class Waiting:
    """Pods that wait for one model, each looked at when it is due, and what comes of it by and by."""

    def __init__(self, *namespaces: str, pods: int) -> None:
        self.tellings, self.word, self.now = Tellings(), word_of_waiting(pod(), None), 100.0
        self.due = {(namespace, str(number)): self.now for namespace in namespaces for number in range(pods)}
        self.looks = 0
        self.told: list[tuple[str, str]] = []

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.due and (at := min(self.due.values())) < end:
            self.now = max(self.now, at)
            for key in [key for key, due in self.due.items() if due <= self.now]:
                wait = self.tellings.wait_seconds(key, self.word, self.now)
                self.looks += 1
                if wait == 0.0:
                    self.tellings.told(key, self.word, self.now)
                    self.told.append(key)
                if wait:
                    self.due[key] = self.now + wait
                else:
                    del self.due[key]
        self.now = end


def test_a_thousand_pods_that_wait_for_one_model_are_told_one_after_the_other() -> None:
    told, word, now, events, looks = Tellings(), word_of_waiting(pod(), None), 100.0, 0, 0
    due = {("team-a", str(number)): now for number in range(1000)}
    while now < 110.0:
        for key in [key for key, at in due.items() if at <= now]:
            looks += 1
            wait = told.wait_seconds(key, word, now)
            if wait == 0.0:
                told.told(key, word, now)
                events += 1
            if wait:
                due[key] = now + wait
            else:
                del due[key]
        now += 0.05
    assert 0 < events <= 10.0 / APART_SECONDS
    # When it is seen, when it may be told, and when it is its turn: not each time that another one was told.
    assert looks <= 2 * 1000 + 2 * events


def test_pods_that_were_all_due_while_nobody_could_be_told_are_still_told_one_after_the_other() -> None:
    told, word, keys = Tellings(), word_of_waiting(pod(), None), [("team-a", str(number)) for number in range(10)]
    for key in keys:
        told.wait_seconds(key, word, 100.0)
        told.wait_seconds(key, word, 102.0)
    waits = []
    for key in keys:
        waits.append(told.wait_seconds(key, word, 200.0))
        if waits[-1] == 0.0:
            told.told(key, word, 200.0)
    assert waits == [pytest.approx(number * APART_SECONDS) for number in range(10)]


def test_a_pod_waits_for_no_others_that_no_longer_wait() -> None:
    told, word = Tellings(), word_of_waiting(pod(), None)
    for key in (many := [("team-a", str(number)) for number in range(1000)]):
        told.wait_seconds(key, word, 100.0)
        told.wait_seconds(key, word, 102.0)
    for key in many:
        told.forget(key)
    told.wait_seconds(("team-b", "p"), word, 100.0)
    assert told.wait_seconds(("team-b", "p"), word, 103.0) == 0.0
    waiting = Waiting("team-a", pods=1000)
    waiting.go_on(10.0)
    assert 0 < len(waiting.told) <= 10.0 / APART_SECONDS


def test_thousands_of_waiting_pods_are_not_looked_at_again_and_again_until_they_are_told() -> None:
    waiting = Waiting("team-a", pods=2000)
    waiting.go_on(2 * FIRST_SECONDS + 2000 * APART_SECONDS)
    assert len(set(waiting.told)) == 2000
    assert waiting.looks <= 4 * 2000


def test_the_pods_of_one_namespace_do_not_keep_those_of_others_from_being_told() -> None:
    waiting = Waiting("crowd", pods=2000)
    waiting.go_on(FIRST_SECONDS + 1.0)
    waiting.due |= {("team-a", "p"): waiting.now}
    waiting.go_on(FIRST_SECONDS + 1.0)
    assert ("team-a", "p") in waiting.told


def test_turns_that_were_not_needed_are_not_kept_for_a_crowd_that_is_told_at_once() -> None:
    waiting, comes = Waiting("team-a", pods=50), word_of_waiting(pod(), model("Creating", desired=3))
    waiting.go_on(FIRST_SECONDS + 1.0 + 50 * APART_SECONDS)
    told, now = waiting.tellings, waiting.now + 2 * BETWEEN_SECONDS
    for word in (comes, waiting.word):
        waits = [told.wait_seconds(key, word, now) for key in waiting.told]
    assert waits == [None] * 50
    later = [told.wait_seconds(key, comes, now + 100.0) for key in waiting.told]
    assert later.count(0.0) == 1


def test_what_a_pod_names_moves_no_cursor_of_whoever_reads_its_events() -> None:
    note = word_of_waiting(pod("lla\x1b[2J\nma\u202e"), None).note
    assert note == "waits for ClusterBaseModel lla [2J ma, which does not exist"


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
