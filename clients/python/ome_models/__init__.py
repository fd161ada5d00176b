"""Client of StatusService: where base models are in a cluster, what is on its way, and why something is not.

`Models` blocks, `AsyncModels` is for asyncio; both have the same methods. Answers are the messages of ome.status.v1.
"""

from ome.model.v1.model_pb2 import Forecast, ForecastNode, ModelKind, ModelRef, NodePhase, Reason, RoomVerdict
from ome.status.v1.status_pb2 import (
    Condition,
    ExplainResponse,
    GetNodeResponse,
    Model,
    ModelOrder,
    ModelState,
    Node,
    NodeStatus,
    Transfer,
    TransferFile,
)
from ome_models.awaiting import AsyncModels
from ome_models.blocking import Models
from ome_models.errors import Denied, Missing, ModelsError, Refused, Unauthenticated, Unavailable
from ome_models.following import Change
from ome_models.questions import KINDS

__all__ = [
    "KINDS",
    "AsyncModels",
    "Change",
    "Condition",
    "Denied",
    "ExplainResponse",
    "Forecast",
    "ForecastNode",
    "GetNodeResponse",
    "Missing",
    "Model",
    "ModelKind",
    "ModelOrder",
    "ModelRef",
    "ModelState",
    "Models",
    "ModelsError",
    "Node",
    "NodePhase",
    "NodeStatus",
    "Reason",
    "Refused",
    "RoomVerdict",
    "Transfer",
    "TransferFile",
    "Unauthenticated",
    "Unavailable",
]
