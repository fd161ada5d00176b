"""What nodes are told about a model that they are to let go of, and what is reported of the Pods that use it."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.artifact.specification import IN_USE_GRACE_ANNOTATION, in_use_grace_seconds
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller import planning
from services.controller.planning import NodeView, Observed, plan
from services.controller.specification import read_model
from tests.unit.controller.test_planning import NOW, RULES, apply, item, observe, resolved, settle

SELECTIVE: dict[str, object] = {"storageUri": "hf://org/model", "nodeSelector": {"gpu": "yes"}}
GPU, PLAIN = {"gpu": "yes"}, dict[str, str]()


def holding() -> Observed:
    """n1 and n2 hold the model."""
    nodes = [NodeView(name, GPU, True, None) for name in ("n1", "n2")]
    return settle(resolved(observe(item(SELECTIVE), *nodes)))


def relabelled(observed: Observed, **labels: dict[str, str]) -> Observed:
    return replace(observed, nodes={name: NodeView(name, each, True, None) for name, each in labels.items()})


def deleting(observed: Observed, annotations: dict[str, str] | None = None) -> Observed:
    metadata = {"deletionTimestamp": "2026-11-28T09:00:00Z", "annotations": annotations}
    return replace(observed, model=read_model(item(SELECTIVE, metadata=metadata)))


def told(observed: Observed, now: float = NOW) -> dict[str, fetch_pb2.Assignment]:
    return {
        each.node: each.assignment for each in plan(observed, RULES, now).actions if isinstance(each, planning.Assign)
    }


def test_a_node_that_is_no_longer_selected_is_told_since_when() -> None:
    assignment = told(relabelled(replace(holding(), clock_offset=100.0), n1=PLAIN, n2=GPU))["n1"]
    assert assignment.goal == fetch_pb2.GOAL_ABSENT
    assert assignment.unselected_since.ToSeconds() == NOW + 100


def test_the_time_since_when_does_not_change_while_it_passes() -> None:
    observed = relabelled(holding(), n1=PLAIN, n2=GPU)
    observed = apply(observed, plan(observed, RULES, NOW).actions)
    assert told(observed, NOW + 50) == {}


def test_a_model_that_is_deleted_is_spared_no_longer() -> None:
    observed = relabelled(holding(), n1=PLAIN, n2=GPU)
    observed = deleting(apply(observed, plan(observed, RULES, NOW).actions))
    assignments = told(observed, NOW + 50)
    assert not any(each.HasField("unselected_since") for each in assignments.values())
    assert set(assignments) == {"n1", "n2"}
    assert assignments["n1"].artifact.digest


def test_a_node_that_is_selected_again_is_told_to_hold_the_model() -> None:
    observed = relabelled(holding(), n1=PLAIN, n2=GPU)
    observed = apply(observed, plan(observed, RULES, NOW).actions)
    assert told(relabelled(observed, n1=GPU, n2=GPU))["n1"].goal == fetch_pb2.GOAL_HOLD


def test_a_deletion_is_hurried_by_a_word_on_the_model() -> None:
    observed = deleting(holding())
    observed = apply(observed, plan(observed, RULES, NOW).actions)
    assert told(observed) == {}
    hurried = told(deleting(observed, {IN_USE_GRACE_ANNOTATION: "0"}))
    assert {each.in_use_grace_seconds for each in hurried.values()} == {0}
    assert all(each.HasField("in_use_grace_seconds") for each in hurried.values())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 60 ", 60),
        ("", None),
        ("never", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("9" * 30, 2**31 - 1),
        # Python reads no number of more than 4,300 digits.
        ("9" * 5000, 2**31 - 1),
        ("0" * 5000, 0),
    ],
)
def test_only_a_number_shortens_the_time_for_which_pods_hold_files(text: str, seconds: int | None) -> None:
    assert in_use_grace_seconds({IN_USE_GRACE_ANNOTATION: text}) == seconds


def test_who_uses_a_model_is_reported_while_it_lives_and_while_it_goes() -> None:
    use = fetch_pb2.ModelUse(nodes=1, pods=2)
    observed = replace(holding(), use=use)
    (report,) = plan(observed, RULES, NOW).actions
    assert isinstance(report, planning.Report)
    assert report.plan.use == use
    observed = deleting(apply(observed, (report,)))
    observed = apply(observed, plan(observed, RULES, NOW).actions)
    assert plan(observed, RULES, NOW).actions == ()
    (report,) = plan(replace(observed, use=None), RULES, NOW).actions
    assert isinstance(report, planning.Report)
    assert report.plan.deleting
    assert not report.plan.HasField("use")


def test_the_artifact_that_readers_see_is_not_taken_for_what_the_object_asks_for() -> None:
    old, new = "sha256:" + "0" * 64, "sha256:" + "1" * 64
    status = {"observedGeneration": 1, "artifact": {"digest": old}, "update": {"digest": new}}
    assert read_model(item() | {"status": status}).recorded.digest == new
    unknown = status | {"update": {"reason": "Resolving"}}
    assert read_model(item() | {"status": unknown}).recorded.digest == ""


EVENTS = st.lists(
    st.sampled_from(
        ["n1 leaves", "n1 comes", "n2 leaves", "n2 comes", "delete", "hurry", "pod", "no pod", "crash", "lose"]
    ),
    max_size=10,
)


@settings(max_examples=150)
@given(EVENTS, st.data())
def test_whatever_comes_in_between_it_ends_as_the_object_and_the_labels_say(
    events: list[str], data: st.DataObject
) -> None:
    """Edits, node events, Pods, a controller that dies after some of its actions, and assignments that are lost."""
    observed, labels, gone = holding(), {"n1": GPU, "n2": GPU}, False
    for now, event in zip(itertools.count(NOW), events, strict=False):
        match event.split():
            case [node, "leaves"]:
                labels[node] = PLAIN
            case [node, "comes"]:
                labels[node] = GPU
            case ["delete"]:
                observed, gone = deleting(observed), True
            case ["hurry"] if gone and observed.model:
                observed = deleting(observed, {IN_USE_GRACE_ANNOTATION: "0"})
            case ["pod"]:
                observed = replace(observed, use=fetch_pb2.ModelUse(nodes=1, pods=1))
            case ["no", "pod"]:
                observed = replace(observed, use=None)
            case ["lose"]:
                # NATS has lost what a node was told; what it says is there.
                observed = replace(observed, held={name: each for name, each in observed.held.items() if name != "n1"})
        observed = relabelled(observed, **labels)
        actions = plan(observed, RULES, now).actions
        if event == "crash":
            actions = actions[: data.draw(st.integers(0, len(actions)))]
        observed = apply(observed, actions)
        if data.draw(st.booleans()):
            observed = _answered(observed)
    observed = settle(observed)
    wanted = set() if gone else {name for name, each in labels.items() if each is GPU}
    held = {name for name, each in observed.held.items() if each.assignment.goal == fetch_pb2.GOAL_HOLD}
    assert held == wanted
    assert not gone or observed.model is None


def _answered(observed: Observed) -> Observed:
    """What is known after one of the nodes has done what it was told."""
    states = dict(observed.states)
    for node, held in sorted(observed.held.items())[:1]:
        goal = held.assignment.goal
        phase = model_pb2.NODE_PHASE_DELETED if goal == fetch_pb2.GOAL_ABSENT else model_pb2.NODE_PHASE_READY
        states[node] = fetch_pb2.NodeModelState(phase=phase, assignment_revision=held.revision)
    return replace(observed, states=states)
