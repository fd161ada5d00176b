"""Keeps what files, nodes and strangers say about a model to lines of a bounded length and lists of a bounded number.

Whoever takes a message in calls it: one model must not cost others their place in what is stored and shown. Pure.
"""

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from libs.artifact.wording import MESSAGE_CHARACTERS, one_line

WORD_CHARACTERS = 253
# Parts of a pipeline, kinds of numbers, capabilities, remarks: real models have a dozen.
_MOST_ITEMS = 64
_SENTENCES = ("message", "warnings")


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


def _bounded(field: FieldDescriptor, text: str) -> str:
    return one_line(text, MESSAGE_CHARACTERS if field.name in _SENTENCES else WORD_CHARACTERS)
