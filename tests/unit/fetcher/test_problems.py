"""Errors as other services see them."""

import pytest

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, ServiceError, Unavailable
from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_CONFLICT,
    PROBLEM_CLASS_CORRUPT,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    PROBLEM_CLASS_UNAVAILABLE,
)
from ome.model.v1.model_pb2 import REASON_GATED, REASON_INTERNAL, Reason
from services.fetcher.fleet.problems import error_of, is_defect, problem_of, reason_of, word_of

CLASSES = {
    Invalid: PROBLEM_CLASS_INVALID,
    Missing: PROBLEM_CLASS_MISSING,
    Conflict: PROBLEM_CLASS_CONFLICT,
    Unavailable: PROBLEM_CLASS_UNAVAILABLE,
    Corrupt: PROBLEM_CLASS_CORRUPT,
}


@pytest.mark.parametrize("reason", [reason for reason in Reason.values() if reason])
def test_every_reason_is_found_by_its_word(reason: Reason) -> None:
    assert reason_of(word_of(reason)) == reason


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_keeps_its_reason_and_class_on_the_way_to_another_service(kind: type[ServiceError]) -> None:
    problem = problem_of(kind("Gated", "ask for access"))

    assert (problem.reason, problem.problem_class, problem.message) == (REASON_GATED, CLASSES[kind], "ask for access")
    assert isinstance(error_of(problem), kind)


def test_a_value_that_cannot_be_used_is_final() -> None:
    assert problem_of(InvalidValue("InvalidPath", "no")).problem_class == PROBLEM_CLASS_INVALID


def test_anything_else_is_a_defect_that_tells_nothing_of_its_inside() -> None:
    problem = problem_of(KeyError("secret"))

    assert problem.reason == REASON_INTERNAL
    assert "secret" not in problem.message
    assert is_defect(KeyError())
    assert not is_defect(Missing("NotFound", "nothing there"))
