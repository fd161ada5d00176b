"""Reasons between their word, as errors and conditions have it, and their number, as our messages have it. Pure."""

from typing import cast

from libs.artifact.reasons import Reason
from ome.model.v1 import model_pb2

_NUMBERS = {reason: cast("model_pb2.Reason", model_pb2.Reason.Value(f"REASON_{reason.name}")) for reason in Reason}
_REASONS = {number: reason for reason, number in _NUMBERS.items()}


def number_of(reason: Reason) -> model_pb2.Reason:
    """The number of a reason in our messages."""
    return _NUMBERS[reason]


def reason_of(number: model_pb2.Reason) -> Reason | None:
    """The reason that a message carries: None where it carries none, INTERNAL for one newer than this process."""
    if number == model_pb2.REASON_UNSPECIFIED:
        return None
    return _REASONS.get(number, Reason.INTERNAL)


def word_of(number: model_pb2.Reason) -> str:
    """The word of the reason that a message carries, such as "InsufficientDisk"; empty where it carries none."""
    return reason_of(number) or ""
