import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from ome.model.v1 import model_pb2 as _model_pb2
from ome.parser.v1 import parser_pb2 as _parser_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_CREATING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]

class ConditionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONDITION_STATUS_UNSPECIFIED: _ClassVar[ConditionStatus]
    CONDITION_STATUS_TRUE: _ClassVar[ConditionStatus]
    CONDITION_STATUS_FALSE: _ClassVar[ConditionStatus]

class ModelOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_ORDER_UNSPECIFIED: _ClassVar[ModelOrder]
    MODEL_ORDER_STATE: _ClassVar[ModelOrder]
    MODEL_ORDER_BYTES: _ClassVar[ModelOrder]
    MODEL_ORDER_CHANGED: _ClassVar[ModelOrder]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_CREATING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState
CONDITION_STATUS_UNSPECIFIED: ConditionStatus
CONDITION_STATUS_TRUE: ConditionStatus
CONDITION_STATUS_FALSE: ConditionStatus
MODEL_ORDER_UNSPECIFIED: ModelOrder
MODEL_ORDER_STATE: ModelOrder
MODEL_ORDER_BYTES: ModelOrder
MODEL_ORDER_CHANGED: ModelOrder

class Condition(_message.Message):
    __slots__ = ("type", "status", "reason", "message", "last_transition_time")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_TRANSITION_TIME_FIELD_NUMBER: _ClassVar[int]
    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: _timestamp_pb2.Timestamp
    def __init__(self, type: _Optional[str] = ..., status: _Optional[_Union[ConditionStatus, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., last_transition_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "phase", "reason", "message", "path", "bytes_done", "bytes_total", "bytes_per_second", "eta_seconds")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    node: str
    phase: _model_pb2.NodePhase
    reason: _model_pb2.Reason
    message: str
    path: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: int
    eta_seconds: int
    def __init__(self, node: _Optional[str] = ..., phase: _Optional[_Union[_model_pb2.NodePhase, str]] = ..., reason: _Optional[_Union[_model_pb2.Reason, str]] = ..., message: _Optional[str] = ..., path: _Optional[str] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., eta_seconds: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("ref", "state", "artifact", "conditions", "nodes", "facts", "observed_generation", "storage_uri")
    REF_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STORAGE_URI_FIELD_NUMBER: _ClassVar[int]
    ref: _model_pb2.ModelRef
    state: ModelState
    artifact: _model_pb2.Artifact
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    facts: _parser_pb2.ModelFacts
    observed_generation: int
    storage_uri: str
    def __init__(self, ref: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., state: _Optional[_Union[ModelState, str]] = ..., artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., facts: _Optional[_Union[_parser_pb2.ModelFacts, _Mapping]] = ..., observed_generation: _Optional[int] = ..., storage_uri: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: _model_pb2.ModelKind
    namespace: str
    name: str
    def __init__(self, kind: _Optional[_Union[_model_pb2.ModelKind, str]] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("kind", "namespace", "state", "page_size", "page_token", "text", "reason", "node", "order")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    kind: _model_pb2.ModelKind
    namespace: str
    state: ModelState
    page_size: int
    page_token: str
    text: str
    reason: str
    node: str
    order: ModelOrder
    def __init__(self, kind: _Optional[_Union[_model_pb2.ModelKind, str]] = ..., namespace: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., text: _Optional[str] = ..., reason: _Optional[str] = ..., node: _Optional[str] = ..., order: _Optional[_Union[ModelOrder, str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchModelsRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "resume_token")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    kind: _model_pb2.ModelKind
    namespace: str
    name: str
    resume_token: str
    def __init__(self, kind: _Optional[_Union[_model_pb2.ModelKind, str]] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class WatchModelsResponse(_message.Message):
    __slots__ = ("updated", "deleted", "synced", "resume_token")
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    updated: Model
    deleted: _model_pb2.ModelRef
    synced: Synced
    resume_token: str
    def __init__(self, updated: _Optional[_Union[Model, _Mapping]] = ..., deleted: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., synced: _Optional[_Union[Synced, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ("models", "resumed")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    models: int
    resumed: bool
    def __init__(self, models: _Optional[int] = ..., resumed: _Optional[bool] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class RootCapacity(_message.Message):
    __slots__ = ("root", "total_bytes", "free_bytes", "problem")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    root: str
    total_bytes: int
    free_bytes: int
    problem: str
    def __init__(self, root: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "reachable", "fetcher_version", "roots", "models_ready", "models_updating", "models_failed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    FETCHER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_READY_FIELD_NUMBER: _ClassVar[int]
    MODELS_UPDATING_FIELD_NUMBER: _ClassVar[int]
    MODELS_FAILED_FIELD_NUMBER: _ClassVar[int]
    name: str
    reachable: bool
    fetcher_version: str
    roots: _containers.RepeatedCompositeFieldContainer[RootCapacity]
    models_ready: int
    models_updating: int
    models_failed: int
    def __init__(self, name: _Optional[str] = ..., reachable: _Optional[bool] = ..., fetcher_version: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[RootCapacity, _Mapping]]] = ..., models_ready: _Optional[int] = ..., models_updating: _Optional[int] = ..., models_failed: _Optional[int] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetNodeResponse(_message.Message):
    __slots__ = ("node", "models")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    node: Node
    models: _containers.RepeatedCompositeFieldContainer[NodeModel]
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., models: _Optional[_Iterable[_Union[NodeModel, _Mapping]]] = ...) -> None: ...

class NodeModel(_message.Message):
    __slots__ = ("model", "status")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    status: NodeStatus
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., status: _Optional[_Union[NodeStatus, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "node")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    kind: _model_pb2.ModelKind
    namespace: str
    name: str
    node: str
    def __init__(self, kind: _Optional[_Union[_model_pb2.ModelKind, str]] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("verdict", "wanted", "rules", "details", "last", "next", "who", "todo")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    TODO_FIELD_NUMBER: _ClassVar[int]
    verdict: str
    wanted: bool
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    details: _containers.RepeatedScalarFieldContainer[str]
    last: str
    next: str
    who: str
    todo: str
    def __init__(self, verdict: _Optional[str] = ..., wanted: _Optional[bool] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., details: _Optional[_Iterable[str]] = ..., last: _Optional[str] = ..., next: _Optional[str] = ..., who: _Optional[str] = ..., todo: _Optional[str] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("term", "requirement", "satisfied", "found")
    TERM_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    SATISFIED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    requirement: str
    satisfied: bool
    found: str
    def __init__(self, term: _Optional[int] = ..., requirement: _Optional[str] = ..., satisfied: _Optional[bool] = ..., found: _Optional[str] = ...) -> None: ...

class WatchProgressRequest(_message.Message):
    __slots__ = ("kind", "namespace", "name", "node")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    kind: _model_pb2.ModelKind
    namespace: str
    name: str
    node: str
    def __init__(self, kind: _Optional[_Union[_model_pb2.ModelKind, str]] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class WatchProgressResponse(_message.Message):
    __slots__ = ("transfers",)
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    transfers: _containers.RepeatedCompositeFieldContainer[Transfer]
    def __init__(self, transfers: _Optional[_Iterable[_Union[Transfer, _Mapping]]] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("model", "node", "bytes_done", "bytes_total", "files_done", "files_total", "bytes_per_second", "eta_seconds", "ended", "files")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILES_DONE_FIELD_NUMBER: _ClassVar[int]
    FILES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    node: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: int
    eta_seconds: int
    ended: bool
    files: _containers.RepeatedCompositeFieldContainer[TransferFile]
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., node: _Optional[str] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., files_done: _Optional[int] = ..., files_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., eta_seconds: _Optional[int] = ..., ended: _Optional[bool] = ..., files: _Optional[_Iterable[_Union[TransferFile, _Mapping]]] = ...) -> None: ...

class TransferFile(_message.Message):
    __slots__ = ("path", "bytes_done", "bytes_total", "bytes_per_second", "eta_seconds")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    path: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: int
    eta_seconds: int
    def __init__(self, path: _Optional[str] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., eta_seconds: _Optional[int] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("manifest",)
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    manifest: str
    def __init__(self, manifest: _Optional[str] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("forecast",)
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    forecast: _model_pb2.Forecast
    def __init__(self, forecast: _Optional[_Union[_model_pb2.Forecast, _Mapping]] = ...) -> None: ...
