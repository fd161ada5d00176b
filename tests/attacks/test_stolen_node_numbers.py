"""A node that was taken over says of a model what no fetcher says: its status is written all the same, for others."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from libs.artifact.errors import InvalidValue
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.gateway.checks import (
    bounded_facts,
    bounded_heartbeat,
    bounded_questions,
    bounded_state,
)
from services.status.folding import fold
from services.status.messages import model_message
from services.status.node_report import node_report
from tests.unit.status.samples import ARTIFACT, NOW, a_model, a_plan

Path = tuple[FieldDescriptor, ...]
TIME = "google.protobuf.Timestamp"


# Progress is bounded where it is added up.
BOUNDED: dict[type[Message], Any] = {
    fetch_pb2.NodeModelState: bounded_state,
    fetch_pb2.SharedFacts: bounded_facts,
    fetch_pb2.UseRequest: bounded_questions,
    fetch_pb2.NodeHeartbeat: lambda heartbeat: bounded_heartbeat("node-1", heartbeat),
}


def leaves(message: Any, above: Path = ()) -> Iterator[Path]:
    """Every field that holds a value, also those of messages in the message."""
    for field in message.fields:
        if field.message_type and not field.message_type.GetOptions().map_entry:
            yield from leaves(field.message_type, (*above, field))
        else:
            yield (*above, field)


def lies(field: FieldDescriptor) -> tuple[Any, ...]:
    """What a field takes and no fetcher says."""
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return (float("nan"), float("inf"), float("-inf"))
    if field.type == FieldDescriptor.TYPE_STRING:
        return ("\x00\x1b[2J\u202e" * 20_000,)
    return (-7, 999, 2**31 - 1, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)


def said(base: Message, path: Path, lie: Any) -> Message | None:
    """The message with one lie in it; None where the field does not take it."""
    message = type(base)()
    message.CopyFrom(base)
    place: Any = message
    for field in path[:-1]:
        below = getattr(place, field.name)
        place = below.add() if field.is_repeated else below
    last = path[-1]
    try:
        if last.message_type:
            getattr(place, last.name)["x"] = lie
        elif last.is_repeated:
            getattr(place, last.name).append(lie)
        else:
            setattr(place, last.name, lie)
    except (ValueError, TypeError, OverflowError):
        return None
    return message


def everything_said(base: Message) -> Iterator[Message]:
    for path in leaves(base.DESCRIPTOR):
        for lie in lies(path[-1]):
            message = said(base, path, lie)
            if message is not None:
                yield message


def truths(node_phase: model_pb2.NodePhase = model_pb2.NODE_PHASE_READY) -> dict[type[Message], Message]:
    model = model_pb2.ModelRef(uid="u", name="m", namespace="team")
    return {
        fetch_pb2.NodeModelState: fetch_pb2.NodeModelState(
            model=model, phase=node_phase, artifact=ARTIFACT, path="/models/m"
        ),
        fetch_pb2.SharedFacts: fetch_pb2.SharedFacts(),
        fetch_pb2.UseRequest: fetch_pb2.UseRequest(),
        fetch_pb2.NodeHeartbeat: fetch_pb2.NodeHeartbeat(node="node-1"),
    }


def strange(message: Message) -> Iterator[str]:
    """Values of a message that nobody who reads it can be expected to look out for."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            values: Any = value.values()
        else:
            values = value if field.is_repeated else (value,)
        for each in values:
            if isinstance(each, Message):
                if each.DESCRIPTOR.full_name == TIME:
                    each.ToDatetime()  # type: ignore[attr-defined]
                yield from strange(each)
            elif isinstance(each, str):
                if len(each) > 4096 or not each.isprintable():
                    yield field.full_name
            elif field.enum_type:
                if each not in field.enum_type.values_by_number:
                    yield field.full_name
            elif not 0 <= each <= 2**53:
                yield field.full_name


@pytest.mark.parametrize("kind", BOUNDED, ids=lambda kind: kind.__name__)
def test_whatever_a_node_says_is_passed_on_as_a_fetcher_could_have_said_it(kind: type[Message]) -> None:
    tried = 0
    for message in everything_said(truths()[kind]):
        tried += 1
        try:
            bounded = BOUNDED[kind](message)
        except InvalidValue:
            continue
        assert list(strange(bounded)) == []
    assert tried


@pytest.mark.parametrize("phase", model_pb2.NodePhase.values())
def test_whatever_one_node_says_of_a_model_its_status_is_written(phase: model_pb2.NodePhase) -> None:
    model = a_model()
    honest: Any = truths()[fetch_pb2.NodeModelState]
    for message in everything_said(truths(phase)[fetch_pb2.NodeModelState]):
        try:
            bounded = bounded_state(cast(fetch_pb2.NodeModelState, message))
        except InvalidValue:
            continue
        states = {"honest": honest, "liar": bounded, "other": bounded}
        view = fold(model, a_plan(model, *states), states, dict.fromkeys(states, True), {}, {}, NOW)
        json.dumps(view.status, allow_nan=False)
        assert model_message(model, view).ByteSize()
        node_report({"u": model}, {"u": bounded})
