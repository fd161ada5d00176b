"""What of an object decides where its bytes come from, in the words of today and of earlier versions of OME."""

import pytest

from libs.artifact.specification import planning_digest, priority_of, skips_parsing

OURS, OLDER = "ome.io/skip-config-parsing", "ome.oracle.com/skip-config-parsing"


@pytest.mark.parametrize(
    ("annotations", "skipped"),
    [
        ({}, False),
        ({OURS: "true"}, True),
        ({OURS: "false"}, False),
        ({OLDER: "true"}, True),
        ({OLDER: "TRUE"}, True),
        ({OLDER: "yes"}, False),
        ({OURS: "false", OLDER: "true"}, False),
        ({OURS: "true", OLDER: "false"}, True),
    ],
)
def test_parsing_is_skipped_by_either_annotation_and_ours_counts_before_the_older(
    annotations: dict[str, str], skipped: bool
) -> None:
    assert skips_parsing(annotations) is skipped


@pytest.mark.parametrize(
    ("storage", "annotations", "priority"),
    [
        ({}, {}, 0),
        ({"downloadPriority": "Standard"}, {}, 0),
        ({"downloadPriority": "High"}, {}, 100),
        ({"downloadPriority": "Background"}, {}, -100),
        ({"downloadPriority": "High"}, {"models.ome.io/priority": "7"}, 7),
        ({"downloadPriority": "High"}, {"models.ome.io/priority": "0"}, 0),
        ({"downloadPriority": "Urgent"}, {}, 0),
        ({}, {"models.ome.io/priority": "soon"}, 0),
        ({}, {"models.ome.io/priority": "99999999999"}, 2**31 - 1),
        ({}, {"models.ome.io/priority": "-99999999999"}, -(2**31)),
    ],
)
def test_the_priority_is_the_annotations_or_else_the_words(
    storage: dict[str, str], annotations: dict[str, str], priority: int
) -> None:
    assert priority_of(storage, annotations) == priority


def test_whatever_changes_the_plan_changes_the_digest() -> None:
    spec = {"storage": {"storageUri": "hf://a/b"}}
    said = [
        planning_digest(spec, {}),
        planning_digest({"storage": {**spec["storage"], "downloadPriority": "High"}}, {}),
        planning_digest(spec, {OURS: "true"}),
        planning_digest(spec, {OLDER: "true"}),
        planning_digest(spec, {"models.ome.io/priority": "1"}),
    ]
    assert len(set(said)) == len(said)
