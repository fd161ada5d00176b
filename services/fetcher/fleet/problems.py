"""Turns errors into Problems, the form in which other services see them. Must not decide when anything is retried."""

import re
from typing import cast

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, ServiceError, Unavailable
from ome.fetch.v1.fetch_pb2 import (
    PROBLEM_CLASS_CONFLICT,
    PROBLEM_CLASS_CORRUPT,
    PROBLEM_CLASS_INVALID,
    PROBLEM_CLASS_MISSING,
    PROBLEM_CLASS_UNAVAILABLE,
    Problem,
    ProblemClass,
)
from ome.model.v1.model_pb2 import REASON_INTERNAL, Reason

_CLASSES: dict[type[Exception], ProblemClass] = {
    InvalidValue: PROBLEM_CLASS_INVALID,
    Invalid: PROBLEM_CLASS_INVALID,
    Missing: PROBLEM_CLASS_MISSING,
    Conflict: PROBLEM_CLASS_CONFLICT,
    Unavailable: PROBLEM_CLASS_UNAVAILABLE,
    Corrupt: PROBLEM_CLASS_CORRUPT,
}


def problem_of(error: Exception) -> Problem:
    """The problem that an error is; one of no known kind is a defect of ours, REASON_INTERNAL."""
    problem_class = next((value for kind, value in _CLASSES.items() if isinstance(error, kind)), None)
    if isinstance(error, (InvalidValue, ServiceError)) and problem_class is not None:
        return Problem(reason=reason_of(error.reason), message=error.message, problem_class=problem_class)
    message = f"the fetcher failed with {type(error).__name__}; its log says where"
    return Problem(reason=REASON_INTERNAL, message=message, problem_class=PROBLEM_CLASS_UNAVAILABLE)


def error_of(problem: Problem) -> ServiceError:
    """The error that another service's problem is for us."""
    kind = next(
        (kind for kind, value in _CLASSES.items() if value == problem.problem_class and issubclass(kind, ServiceError)),
        Unavailable,
    )
    return kind(word_of(problem.reason), problem.message)


def is_defect(error: Exception) -> bool:
    """Whether an error is none that we foresee, so that its traceback belongs in the log."""
    return problem_of(error).reason == REASON_INTERNAL


def word_of(reason: Reason) -> str:
    """The CamelCase word of a Reason: the inverse of reason_of."""
    return "".join(part.capitalize() for part in Reason.Name(reason).removeprefix("REASON_").split("_"))


def reason_of(word: str) -> Reason:
    """The Reason that a CamelCase word such as "InvalidPath" names; REASON_INTERNAL for a word outside the list."""
    name = "REASON_" + re.sub(r"(?<!^)(?=[A-Z])", "_", word).upper()
    try:
        return cast("Reason", Reason.Value(name))
    except ValueError:
        return REASON_INTERNAL
