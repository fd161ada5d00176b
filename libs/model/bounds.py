"""Keeps what files, nodes and strangers say about a model to lines of a bounded length and lists of a bounded number.

Whoever takes a message in calls it: one model must not cost others their place in what is stored and shown. Pure.
"""

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifact.wording import MESSAGE_CHARACTERS, one_line

WORD_CHARACTERS = 253
# Parts of a pipeline, kinds of numbers, capabilities, remarks: real models have a dozen.
_MOST_ITEMS = 64
_SENTENCES = ("message", "warnings")
# 8 PiB: what a thousand liars say of one thing can still be added up in 64 bits, and JSON holds it exactly.
_MOST = 1 << 53
# The end of the year 9999, as for every Timestamp: google/protobuf/timestamp.proto.
_LAST_SECOND = 253402300799


def bound_texts(message: Message) -> None:
    """Clean and shorten all texts of a message in place, and those of the messages in it. Idempotent."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            kept = {_bounded(field, key): number for key, number in sorted(value.items())[:_MOST_ITEMS]}
            value.clear()
            value.update(kept)
        elif field.is_repeated:
            del value[_MOST_ITEMS:]
            if field.message_type:
                for each in value:
                    bound_texts(each)
            elif field.type == FieldDescriptor.TYPE_STRING:
                value[:] = [_bounded(field, text) for text in value]
        elif field.message_type:
            bound_texts(value)
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, _bounded(field, value))


def bound_numbers(message: Message) -> None:
    """Make all numbers, words of enums and times of a message ones that can be meant, in place. Idempotent.

    Nothing that is counted or measured is negative. Who reads the message later may add up, compare and show without
    looking: what an enum does not have, or no calendar, would end it, and with it what is said of others.
    """
    for field, value in message.ListFields():
        kind = field.type
        if kind == FieldDescriptor.TYPE_STRING:
            continue
        if kind != FieldDescriptor.TYPE_MESSAGE:
            if field.is_repeated:
                value[:] = [_meant(field, each) for each in value]
            elif (meant := _meant(field, value)) is not value:
                setattr(message, field.name, meant)
        elif field.is_repeated and field.message_type and field.message_type.GetOptions().map_entry:
            numbers = field.message_type.fields_by_name["value"]
            for key, number in list(value.items()):
                value[key] = _meant(numbers, number)
        elif field.is_repeated:
            for each in value:
                bound_numbers(each)
        elif isinstance(value, Timestamp):
            value.seconds = max(0, min(value.seconds, _LAST_SECOND))
            value.nanos = max(0, min(value.nanos, 999_999_999))
        else:
            bound_numbers(value)


def _meant(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type:
        return value if value in field.enum_type.values_by_number else 0
    if isinstance(value, float):
        return value if math.isfinite(value) else 0.0
    if type(value) is not int or 0 <= value <= _MOST:
        # Booleans among them.
        return value
    return max(0, min(value, _MOST))


def _bounded(field: FieldDescriptor, text: str) -> str:
    return one_line(text, MESSAGE_CHARACTERS if field.name in _SENTENCES else WORD_CHARACTERS)
