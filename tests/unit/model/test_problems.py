"""Errors as other services see them."""

from collections.abc import Callable

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, ServiceError, Unavailable
from libs.model.problems import error_of, is_defect, problem_of
from libs.model.reasons import number_of, reason_of, word_of
from ome.fetch.v1 import fetch_pb2
from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_CONFLICT,
    PROBLEM_CLASS_CORRUPT,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    PROBLEM_CLASS_UNAVAILABLE,
)
from ome.model.v1 import model_pb2
from ome.model.v1.model_pb2 import REASON_GATED, REASON_INTERNAL

CLASSES = {
    Invalid: PROBLEM_CLASS_INVALID,
    Missing: PROBLEM_CLASS_MISSING,
    Conflict: PROBLEM_CLASS_CONFLICT,
    Unavailable: PROBLEM_CLASS_UNAVAILABLE,
    Corrupt: PROBLEM_CLASS_CORRUPT,
}


def test_words_and_numbers_of_reasons_are_one_list() -> None:
    assert {number_of(reason) for reason in Reason} == set(model_pb2.Reason.values()) - {0}
    for reason in Reason:
        assert reason_of(number_of(reason)) is reason
        name = model_pb2.Reason.Name(number_of(reason)).removeprefix("REASON_")
        assert reason == "".join(part.capitalize() for part in name.split("_"))


def test_a_message_without_a_reason_and_one_of_a_newer_service_are_told_apart() -> None:
    assert (reason_of(model_pb2.REASON_UNSPECIFIED), word_of(model_pb2.REASON_UNSPECIFIED)) == (None, "")
    newer = fetch_pb2.Problem.FromString(b"\x08\xe7\x07")
    assert reason_of(newer.reason) is Reason.INTERNAL


@pytest.mark.parametrize("kind", [InvalidValue, Invalid, Missing, Conflict, Unavailable, Corrupt])
def test_a_word_that_is_none_of_the_list_is_refused_where_it_is_raised(kind: Callable[[str, str], Exception]) -> None:
    with pytest.raises(ValueError, match="'Overlaoded' is not a valid Reason"):
        kind("Overlaoded", "too much to do")


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_keeps_its_reason_and_class_on_the_way_to_another_service(kind: type[ServiceError]) -> None:
    problem = problem_of(kind(Reason.GATED, "ask for access"), "fetcher")

    assert (problem.reason, problem.problem_class, problem.message) == (REASON_GATED, CLASSES[kind], "ask for access")
    assert isinstance(error_of(problem), kind)


def test_a_value_that_cannot_be_used_is_final() -> None:
    assert problem_of(InvalidValue(Reason.INVALID_PATH, "no"), "fetcher").problem_class == PROBLEM_CLASS_INVALID


def test_anything_else_is_a_defect_that_tells_nothing_of_its_inside() -> None:
    problem = problem_of(KeyError("secret"), "fetcher")

    assert problem.reason == REASON_INTERNAL
    assert "secret" not in problem.message
    assert is_defect(KeyError())
    assert not is_defect(Missing(Reason.NOT_FOUND, "nothing there"))
