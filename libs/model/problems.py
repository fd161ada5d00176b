"""Turns errors into Problems, the form in which other services see them, and back. Pure.

Must not decide when anything is tried again.
"""

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.chassis.errors import Conflict, Corrupt, Invalid, Missing, ServiceError, Unavailable
from libs.model.reasons import number_of, reason_of
from ome.fetch.v1 import fetch_pb2

_CLASSES: dict[type[Exception], fetch_pb2.ProblemClass] = {
    InvalidValue: fetch_pb2.PROBLEM_CLASS_INVALID,
    Invalid: fetch_pb2.PROBLEM_CLASS_INVALID,
    Missing: fetch_pb2.PROBLEM_CLASS_MISSING,
    Conflict: fetch_pb2.PROBLEM_CLASS_CONFLICT,
    Unavailable: fetch_pb2.PROBLEM_CLASS_UNAVAILABLE,
    Corrupt: fetch_pb2.PROBLEM_CLASS_CORRUPT,
}


def new_problem(
    reason: Reason, message: str, problem_class: fetch_pb2.ProblemClass = fetch_pb2.PROBLEM_CLASS_UNSPECIFIED
) -> fetch_pb2.Problem:
    """A problem, which need not be an error of anybody's, such as something that is waited for.

    The message may quote anybody: what is stored and shown of it is one line of a bounded length.
    """
    return fetch_pb2.Problem(reason=number_of(reason), message=one_line(message), problem_class=problem_class)


def problem_of(error: Exception, service: str) -> fetch_pb2.Problem:
    """The problem that an error is; one that nobody foresees is a defect of the service, with reason Internal."""
    problem_class = next((value for kind, value in _CLASSES.items() if isinstance(error, kind)), None)
    if isinstance(error, (InvalidValue, ServiceError)) and problem_class is not None:
        return new_problem(error.reason, error.message, problem_class)
    message = f"the {service} failed with {type(error).__name__}; its log says where"
    return new_problem(Reason.INTERNAL, message, fetch_pb2.PROBLEM_CLASS_UNAVAILABLE)


def error_of(problem: fetch_pb2.Problem) -> ServiceError:
    """The error that another service's problem is for us."""
    kind = next(
        (kind for kind, value in _CLASSES.items() if value == problem.problem_class and issubclass(kind, ServiceError)),
        Unavailable,
    )
    return kind(reason_of(problem.reason) or Reason.INTERNAL, one_line(problem.message))


def is_defect(error: Exception) -> bool:
    """Whether the error is unexpected, that is a defect of ours, so that its traceback belongs in the log."""
    return not isinstance(error, (InvalidValue, ServiceError)) or error.reason is Reason.INTERNAL
