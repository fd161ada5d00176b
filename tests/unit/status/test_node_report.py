"""Labels and ConfigMap of a node."""

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.labels import (
    AVAILABLE_STORAGE_LABEL,
    RESERVED_STORAGE_LABEL,
    STORAGE_VALUE,
    coarse_storage,
)
from libs.artifact.specification import SKIP_PARSING_ANNOTATION
from ome.fetch.v1.fetch_pb2 import NodeHeartbeat, RootCapacity
from ome.model.v1.model_pb2 import NODE_PHASE_DELETED, REASON_INSUFFICIENT_DISK
from services.status.node_report import (
    Shown,
    data_may_wait,
    is_urgent,
    label_changes,
    may_wait,
    node_report,
    storage_changes,
    storage_labels,
)
from tests.unit.status.samples import DIGEST, FACTS, UID, a_model, a_state, failed, ready, updating

UID_LABEL = f"models.ome/{UID}"
NAME_LABEL = "models.ome.io/clusterbasemodel.minilm"
OTHERS = {"kubernetes.io/hostname": "a", "models.ome.io/storage-tier": "nvme"}


def models() -> dict[str, dict[str, Any]]:
    """One model."""
    return {UID: a_model()}


def test_a_ready_model_has_both_labels_and_an_entry() -> None:
    report = node_report(models(), {UID: ready(facts=FACTS)})

    assert report.labels == {UID_LABEL: "Ready", NAME_LABEL: "Ready"}
    assert json.loads(report.data["clusterbasemodel.minilm"]) == {
        "uid": UID,
        "state": "Ready",
        "digest": DIGEST,
        "path": "/models/minilm",
        "facts": {
            "modelType": "bert",
            "modelArchitecture": "BertModel",
            "modelParameterSize": "22M",
            "maxTokens": 512,
        },
    }


def test_what_is_remembered_of_another_node_makes_no_difference() -> None:
    shown, state = Shown(), ready(facts=FACTS)
    known = [models() for _ in range(4)]
    known[2][UID]["metadata"]["annotations"] = {SKIP_PARSING_ANNOTATION: "true"}
    known[3][UID]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for each in (state, failed(REASON_INSUFFICIENT_DISK), state, ready()):
        for objects in (*known, known[0]):
            assert node_report(objects, {UID: each}, shown) == node_report(objects, {UID: each})


def test_a_failed_model_says_why_in_its_entry() -> None:
    report = node_report(models(), {UID: failed(REASON_INSUFFICIENT_DISK)})

    assert report.labels[UID_LABEL] == "Failed"
    assert json.loads(report.data["clusterbasemodel.minilm"])["reason"] == "InsufficientDisk"


def test_a_model_that_is_deleted_or_being_deleted_or_unknown_is_not_shown() -> None:
    deleting = a_model()
    deleting["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"

    for known, state in ((models(), a_state(NODE_PHASE_DELETED)), ({UID: deleting}, ready()), ({}, ready())):
        report = node_report(known, {UID: state})
        assert (report.labels, report.data) == ({}, {})


def test_changes_set_what_is_missing_and_remove_only_what_is_ours() -> None:
    stale = "models.ome/11111111-2222-3333-4444-555555555555"
    present = {**OTHERS, stale: "Ready", "models.ome.io/team.basemodel.gone": "Ready", NAME_LABEL: "Updating"}

    changes = label_changes(present, {UID_LABEL: "Ready", NAME_LABEL: "Ready"})

    assert changes == {
        stale: None,
        "models.ome.io/team.basemodel.gone": None,
        UID_LABEL: "Ready",
        NAME_LABEL: "Ready",
    }


def test_a_label_that_somebody_removed_or_changed_comes_back() -> None:
    assert label_changes({UID_LABEL: "Failed"}, {UID_LABEL: "Ready"}) == {UID_LABEL: "Ready"}
    assert label_changes({}, {UID_LABEL: "Ready"}) == {UID_LABEL: "Ready"}


def test_there_is_nothing_to_change_when_labels_are_as_wanted() -> None:
    assert label_changes({**OTHERS, UID_LABEL: "Ready"}, {UID_LABEL: "Ready"}) == {}


def test_only_the_news_that_fetching_began_may_wait() -> None:
    assert may_wait({}, {UID_LABEL: "Updating"})
    assert not may_wait({UID_LABEL: "Ready"}, {UID_LABEL: "Updating"})
    assert not may_wait({UID_LABEL: "Ready"}, {UID_LABEL: None})
    assert not may_wait({}, {UID_LABEL: "Updating", NAME_LABEL: "Ready"})


def test_only_the_entry_of_a_beginning_may_wait_longer() -> None:
    began = node_report(models(), {UID: updating()}).data
    done = node_report(models(), {UID: ready()}).data

    assert data_may_wait({}, began)
    assert not data_may_wait({}, done)
    assert not data_may_wait(done, began)
    assert not data_may_wait(began, {})


def test_a_label_that_leaves_ready_or_goes_does_not_wait_for_others() -> None:
    present = {"ready": "Ready", "updating": "Updating"}
    assert is_urgent(present, {"ready": "Updating"})
    assert is_urgent(present, {"ready": None, "new": "Ready"})
    assert not is_urgent(present, {"updating": "Ready", "new": "Ready"})


GIB = 1 << 30


def heartbeat(*roots: tuple[int, int], problem: str = "") -> NodeHeartbeat:
    """Of a node with roots of one tebibyte that have so many gibibytes free, of which so many are promised."""
    capacities = [
        RootCapacity(
            root=f"/models-{number}",
            total_bytes=1024 * GIB,
            free_bytes=free * GIB,
            reserved_bytes=promised * GIB,
            problem=problem,
        )
        for number, (free, promised) in enumerate(roots)
    ]
    return NodeHeartbeat(roots=capacities)


def test_a_node_tells_the_room_of_the_root_that_has_the_most() -> None:
    assert storage_labels(heartbeat((100, 0), (700, 90), (620, 0))) == {
        AVAILABLE_STORAGE_LABEL: "608Gi",
        RESERVED_STORAGE_LABEL: "0Gi",
    }
    assert storage_labels(heartbeat((700, 90))) == {AVAILABLE_STORAGE_LABEL: "608Gi", RESERVED_STORAGE_LABEL: "90Gi"}


def test_a_node_whose_roots_cannot_be_used_tells_of_no_room() -> None:
    assert storage_labels(NodeHeartbeat()) == {}
    assert storage_labels(heartbeat((0, 0), problem="/models cannot be used")) == {}


@given(st.integers(0, 1 << 55))
def test_room_is_told_in_few_steps_and_never_more_than_there_is(free: int) -> None:
    told = int(coarse_storage(free).removesuffix("Gi")) * GIB
    assert free - max(free / 32, GIB) <= told <= free
    assert re.fullmatch(STORAGE_VALUE, coarse_storage(free))


def test_the_room_between_a_half_and_a_whole_tebibyte_has_at_most_33_values() -> None:
    assert len({coarse_storage(gib * GIB) for gib in range(512, 1025)}) <= 33


def test_labels_of_room_are_set_removed_and_left_alone_by_themselves() -> None:
    present = {**OTHERS, UID_LABEL: "Ready", AVAILABLE_STORAGE_LABEL: "8Gi", RESERVED_STORAGE_LABEL: "0Gi"}
    assert label_changes(present, {UID_LABEL: "Ready"}) == {}
    assert storage_changes(present, {AVAILABLE_STORAGE_LABEL: "9Gi", RESERVED_STORAGE_LABEL: "0Gi"}) == {
        AVAILABLE_STORAGE_LABEL: "9Gi"
    }
    assert storage_changes(present, {}) == {AVAILABLE_STORAGE_LABEL: None, RESERVED_STORAGE_LABEL: None}
