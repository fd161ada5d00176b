"""Views as messages of StatusService. Must not do I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifact.wording import one_line
from libs.model.kinds import model_ref
from ome.fetch.v1.fetch_pb2 import NodeHeartbeat, NodeModelState, Progress
from ome.model.v1.model_pb2 import NODE_PHASE_FAILED, NODE_PHASE_READY, NODE_PHASE_UPDATING, REASON_DOWNLOADING
from ome.status.v1.status_pb2 import (
    CONDITION_STATUS_FALSE,
    CONDITION_STATUS_TRUE,
    CONDITION_STATUS_UNSPECIFIED,
    MODEL_STATE_CREATING,
    MODEL_STATE_FAILED,
    MODEL_STATE_READY,
    Condition,
    Model,
    Node,
    NodeModel,
    NodeStatus,
    RootCapacity,
)
from services.status.folding import StatusView

_STATES = {"Creating": MODEL_STATE_CREATING, "Ready": MODEL_STATE_READY, "Failed": MODEL_STATE_FAILED}
_CONDITIONS = {"True": CONDITION_STATUS_TRUE, "False": CONDITION_STATUS_FALSE, "Unknown": CONDITION_STATUS_UNSPECIFIED}


# Half of what a client of gRPC takes in an answer unless it says otherwise.
_PAGE_BYTES = 2 << 20
# Of what the nodes of one model say: a fleet says mostly the same, and the object's status has the first failures.
_MESSAGES_CHARACTERS = 256 << 10
_SHORT_CHARACTERS = 100


def model_message(model: Mapping[str, Any], view: StatusView) -> Model:
    """A model as it stands; figures of running transfers are those that the nodes stored last."""
    return Model(
        ref=model_ref(model),
        state=_STATES[view.status["state"]],
        artifact=view.artifact,
        conditions=[_condition(condition) for condition in view.status["conditions"]],
        nodes=[
            NodeStatus(
                node=node.node,
                phase=node.phase,
                reason=node.reason,
                message=message,
                path=node.path,
                bytes_done=node.bytes_done,
                bytes_total=view.artifact.bytes if view.artifact else 0,
            )
            for node, message in zip(view.nodes, _shortened([node.message for node in view.nodes]), strict=True)
        ],
        facts=view.facts,
        observed_generation=view.status.get("observedGeneration", 0),
        storage_uri=((model.get("spec") or {}).get("storage") or {}).get("storageUri", ""),
    )


def page_of(models: Sequence[Model], most: int) -> list[Model]:
    """The first of some models, as many as an answer may hold by number and by bytes; one at least, if there is any."""
    page: list[Model] = []
    left = _PAGE_BYTES
    for model in models[:most]:
        left -= model.ByteSize()
        if page and left < 0:
            break
        page.append(model)
    return page


def with_progress(model: Model, progress_of: Callable[[str, str], Progress | None]) -> Model:
    """The model with the newest figures of its running transfers."""
    result = Model()
    result.CopyFrom(model)
    for node in result.nodes:
        progress = progress_of(node.node, model.ref.uid) if node.reason == REASON_DOWNLOADING else None
        if progress:
            node.bytes_done = progress.bytes_done
            node.bytes_total = progress.bytes_total
            node.bytes_per_second = progress.bytes_per_second
            node.eta_seconds = progress.eta_seconds
    return result


def node_message(
    node: str, reachable: bool, heartbeat: NodeHeartbeat | None, states: Mapping[str, NodeModelState]
) -> Node:
    """A node, its space, and how many models stand how on it."""
    phases = [state.phase for state in states.values()]
    heartbeat = heartbeat or NodeHeartbeat()
    return Node(
        name=node,
        reachable=reachable,
        fetcher_version=heartbeat.version,
        roots=[
            RootCapacity(root=root.root, total_bytes=root.total_bytes, free_bytes=root.free_bytes, problem=root.problem)
            for root in heartbeat.roots
        ],
        models_ready=phases.count(NODE_PHASE_READY),
        models_updating=phases.count(NODE_PHASE_UPDATING),
        models_failed=phases.count(NODE_PHASE_FAILED),
    )


def node_models(node: str, models: Iterable[Model]) -> list[NodeModel]:
    """How each of the models stands on a node, without those that have nothing to do with it."""
    return [
        NodeModel(model=model.ref, status=status) for model in models for status in model.nodes if status.node == node
    ]


def _shortened(messages: Sequence[str]) -> list[str]:
    """Messages of which the later ones are short, if all of them together are long."""
    left = _MESSAGES_CHARACTERS
    shortened = []
    for message in messages:
        shortened.append(message if left > 0 else one_line(message, _SHORT_CHARACTERS))
        left -= len(message)
    return shortened


def _condition(condition: Mapping[str, str]) -> Condition:
    since = Timestamp()
    since.FromJsonString(condition["lastTransitionTime"])
    return Condition(
        type=condition["type"],
        status=_CONDITIONS[condition["status"]],
        reason=condition["reason"],
        message=condition["message"],
        last_transition_time=since,
    )
