"""Which models a list holds, in which order, and where the next page begins. Pure."""

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Sequence

from google.protobuf.message import DecodeError

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid
from ome.model.v1.model_pb2 import ModelRef
from ome.status.v1.status_pb2 import (
    MODEL_ORDER_BYTES,
    MODEL_ORDER_CHANGED,
    MODEL_ORDER_STATE,
    MODEL_ORDER_UNSPECIFIED,
    MODEL_STATE_CREATING,
    MODEL_STATE_FAILED,
    MODEL_STATE_UNSPECIFIED,
    ListModelsRequest,
    Model,
    ModelOrder,
    ModelState,
)

# What a token says before the reference of the last model of a page: the order, and what that model has in it.
_HEAD = struct.Struct(">Bq")
_STATE_RANKS: dict[ModelState, int] = {MODEL_STATE_FAILED: 0, MODEL_STATE_CREATING: 1}


def _changed(model: Model) -> int:
    return max((condition.last_transition_time.seconds for condition in model.conditions), default=0)


# What models are sorted by before kind, namespace and name.
_VALUES: dict[ModelOrder, Callable[[Model], int]] = {
    MODEL_ORDER_UNSPECIFIED: lambda model: 0,
    MODEL_ORDER_STATE: lambda model: _STATE_RANKS.get(model.state, 2),
    MODEL_ORDER_BYTES: lambda model: -model.artifact.bytes,
    MODEL_ORDER_CHANGED: lambda model: -_changed(model),
}


def sort_key(model: Model) -> tuple[int, str, str, str]:
    """Order of lists: kind, namespace, name; the uid tells a model from a successor that has its name."""
    return model.ref.kind, model.ref.namespace, model.ref.name, model.ref.uid


def is_listed(model: Model, request: ListModelsRequest) -> bool:
    """Whether a model is one of those that a request asks for, its kind and namespace aside."""
    text = request.text.lower()
    if request.state not in (MODEL_STATE_UNSPECIFIED, model.state):
        return False
    if request.reason and all(condition.reason != request.reason for condition in model.conditions):
        return False
    if request.node and all(node.node != request.node for node in model.nodes):
        return False
    return text in f"{model.ref.namespace}/{model.ref.name}".lower() or text in model.storage_uri.lower()


def sorted_after(models: Iterable[Model], order: ModelOrder, token: str) -> Sequence[Model]:
    """The models in an order, without those up to where the page ended that gave the token. Raises Invalid."""
    if order not in _VALUES:
        raise Invalid(Reason.INVALID_PARAMETER, f"order {order} is none that this service knows")
    value = _VALUES[order]
    found = sorted(models, key=lambda model: (value(model), sort_key(model)))
    if not token:
        return found
    last = _read(token, order)
    return [model for model in found if (value(model), sort_key(model)) > last]


def token_after(model: Model, order: ModelOrder) -> str:
    """The token of the page that begins after a model."""
    return base64.urlsafe_b64encode(_HEAD.pack(order, _VALUES[order](model)) + model.ref.SerializeToString()).decode()


def _read(token: str, order: ModelOrder) -> tuple[int, tuple[int, str, str, str]]:
    try:
        data = base64.urlsafe_b64decode(token.encode())
        (said, value), ref = _HEAD.unpack_from(data), ModelRef.FromString(data[_HEAD.size :])
    except (binascii.Error, struct.error, DecodeError, ValueError) as error:
        raise Invalid(Reason.INVALID_PARAMETER, "page_token is not from an earlier answer") from error
    if not ref.uid:
        raise Invalid(Reason.INVALID_PARAMETER, "page_token is not from an earlier answer")
    if said != order:
        raise Invalid(Reason.INVALID_PARAMETER, "page_token is of a list in another order")
    return value, sort_key(Model(ref=ref))
