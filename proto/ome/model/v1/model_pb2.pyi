from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_BASE_MODEL: _ClassVar[ModelKind]
    MODEL_KIND_CLUSTER_BASE_MODEL: _ClassVar[ModelKind]
    MODEL_KIND_FINE_TUNED_WEIGHT: _ClassVar[ModelKind]

class NodePhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_PHASE_UNSPECIFIED: _ClassVar[NodePhase]
    NODE_PHASE_READY: _ClassVar[NodePhase]
    NODE_PHASE_UPDATING: _ClassVar[NodePhase]
    NODE_PHASE_FAILED: _ClassVar[NodePhase]
    NODE_PHASE_DELETED: _ClassVar[NodePhase]
    NODE_PHASE_EVICTED: _ClassVar[NodePhase]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_INVALID_URI: _ClassVar[Reason]
    REASON_INVALID_PATH: _ClassVar[Reason]
    REASON_INVALID_PLACEMENT: _ClassVar[Reason]
    REASON_INVALID_LISTING: _ClassVar[Reason]
    REASON_INVALID_PARAMETER: _ClassVar[Reason]
    REASON_UNSUPPORTED_BACKEND: _ClassVar[Reason]
    REASON_NOT_FOUND: _ClassVar[Reason]
    REASON_FORBIDDEN: _ClassVar[Reason]
    REASON_GATED: _ClassVar[Reason]
    REASON_SECRET_NOT_FOUND: _ClassVar[Reason]
    REASON_UNAVAILABLE: _ClassVar[Reason]
    REASON_RATE_LIMITED: _ClassVar[Reason]
    REASON_CHECKSUM_MISMATCH: _ClassVar[Reason]
    REASON_SOURCE_CHANGED: _ClassVar[Reason]
    REASON_INSUFFICIENT_DISK: _ClassVar[Reason]
    REASON_DISK_ERROR: _ClassVar[Reason]
    REASON_PATH_OCCUPIED: _ClassVar[Reason]
    REASON_ARTIFACT_DAMAGED: _ClassVar[Reason]
    REASON_PARSE_FAILED: _ClassVar[Reason]
    REASON_NO_CONFIG: _ClassVar[Reason]
    REASON_NO_MATCHING_NODE: _ClassVar[Reason]
    REASON_NO_STORAGE: _ClassVar[Reason]
    REASON_DISABLED: _ClassVar[Reason]
    REASON_RESOLVING: _ClassVar[Reason]
    REASON_DOWNLOADING: _ClassVar[Reason]
    REASON_QUEUED: _ClassVar[Reason]
    REASON_NODE_UNREACHABLE: _ClassVar[Reason]
    REASON_DELETING: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
    REASON_VOLUME_NOT_READY: _ClassVar[Reason]
    REASON_PATH_CONFLICT: _ClassVar[Reason]
    REASON_OVERLOADED: _ClassVar[Reason]
    REASON_CONFLICT: _ClassVar[Reason]
    REASON_INVALID_REQUEST: _ClassVar[Reason]
    REASON_SECRET_REFUSED: _ClassVar[Reason]
    REASON_IDENTITY_REFUSED: _ClassVar[Reason]
    REASON_EGRESS_REFUSED: _ClassVar[Reason]
    REASON_INCOMPLETE: _ClassVar[Reason]
    REASON_IN_USE: _ClassVar[Reason]
    REASON_BASE_NOT_FOUND: _ClassVar[Reason]
    REASON_INCOMPATIBLE_BASE: _ClassVar[Reason]
    REASON_EVICTED: _ClassVar[Reason]
    REASON_BUDGET_EXCEEDED: _ClassVar[Reason]

class Finding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINDING_UNSPECIFIED: _ClassVar[Finding]
    FINDING_MISSING_SHARDS: _ClassVar[Finding]
    FINDING_MISSING_FILES: _ClassVar[Finding]
    FINDING_MISSING_PART: _ClassVar[Finding]
    FINDING_POINTER_FILE: _ClassVar[Finding]
    FINDING_ERROR_PAGE: _ClassVar[Finding]
    FINDING_EMPTY_FILE: _ClassVar[Finding]
    FINDING_TRUNCATED_FILE: _ClassVar[Finding]
    FINDING_NO_WEIGHTS: _ClassVar[Finding]
    FINDING_OTHER_FORMAT: _ClassVar[Finding]
    FINDING_EXTRA_SHARDS: _ClassVar[Finding]
    FINDING_NO_TOKENIZER: _ClassVar[Finding]
    FINDING_VARIANT_CHOSEN: _ClassVar[Finding]
    FINDING_SEVERAL_VARIANTS: _ClassVar[Finding]
    FINDING_FILES_LEFT_OUT: _ClassVar[Finding]
    FINDING_PICKLED_WEIGHTS: _ClassVar[Finding]
    FINDING_UNKNOWN_WEIGHTS: _ClassVar[Finding]
    FINDING_ODD_FILE: _ClassVar[Finding]

class Wholeness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHOLENESS_UNSPECIFIED: _ClassVar[Wholeness]
    WHOLENESS_WHOLE: _ClassVar[Wholeness]
    WHOLENESS_INCOMPLETE: _ClassVar[Wholeness]

class RoomVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROOM_VERDICT_UNSPECIFIED: _ClassVar[RoomVerdict]
    ROOM_VERDICT_HELD: _ClassVar[RoomVerdict]
    ROOM_VERDICT_FITS: _ClassVar[RoomVerdict]
    ROOM_VERDICT_EVICTS: _ClassVar[RoomVerdict]
    ROOM_VERDICT_LACKS: _ClassVar[RoomVerdict]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_BASE_MODEL: ModelKind
MODEL_KIND_CLUSTER_BASE_MODEL: ModelKind
MODEL_KIND_FINE_TUNED_WEIGHT: ModelKind
NODE_PHASE_UNSPECIFIED: NodePhase
NODE_PHASE_READY: NodePhase
NODE_PHASE_UPDATING: NodePhase
NODE_PHASE_FAILED: NodePhase
NODE_PHASE_DELETED: NodePhase
NODE_PHASE_EVICTED: NodePhase
REASON_UNSPECIFIED: Reason
REASON_INVALID_URI: Reason
REASON_INVALID_PATH: Reason
REASON_INVALID_PLACEMENT: Reason
REASON_INVALID_LISTING: Reason
REASON_INVALID_PARAMETER: Reason
REASON_UNSUPPORTED_BACKEND: Reason
REASON_NOT_FOUND: Reason
REASON_FORBIDDEN: Reason
REASON_GATED: Reason
REASON_SECRET_NOT_FOUND: Reason
REASON_UNAVAILABLE: Reason
REASON_RATE_LIMITED: Reason
REASON_CHECKSUM_MISMATCH: Reason
REASON_SOURCE_CHANGED: Reason
REASON_INSUFFICIENT_DISK: Reason
REASON_DISK_ERROR: Reason
REASON_PATH_OCCUPIED: Reason
REASON_ARTIFACT_DAMAGED: Reason
REASON_PARSE_FAILED: Reason
REASON_NO_CONFIG: Reason
REASON_NO_MATCHING_NODE: Reason
REASON_NO_STORAGE: Reason
REASON_DISABLED: Reason
REASON_RESOLVING: Reason
REASON_DOWNLOADING: Reason
REASON_QUEUED: Reason
REASON_NODE_UNREACHABLE: Reason
REASON_DELETING: Reason
REASON_INTERNAL: Reason
REASON_VOLUME_NOT_READY: Reason
REASON_PATH_CONFLICT: Reason
REASON_OVERLOADED: Reason
REASON_CONFLICT: Reason
REASON_INVALID_REQUEST: Reason
REASON_SECRET_REFUSED: Reason
REASON_IDENTITY_REFUSED: Reason
REASON_EGRESS_REFUSED: Reason
REASON_INCOMPLETE: Reason
REASON_IN_USE: Reason
REASON_BASE_NOT_FOUND: Reason
REASON_INCOMPATIBLE_BASE: Reason
REASON_EVICTED: Reason
REASON_BUDGET_EXCEEDED: Reason
FINDING_UNSPECIFIED: Finding
FINDING_MISSING_SHARDS: Finding
FINDING_MISSING_FILES: Finding
FINDING_MISSING_PART: Finding
FINDING_POINTER_FILE: Finding
FINDING_ERROR_PAGE: Finding
FINDING_EMPTY_FILE: Finding
FINDING_TRUNCATED_FILE: Finding
FINDING_NO_WEIGHTS: Finding
FINDING_OTHER_FORMAT: Finding
FINDING_EXTRA_SHARDS: Finding
FINDING_NO_TOKENIZER: Finding
FINDING_VARIANT_CHOSEN: Finding
FINDING_SEVERAL_VARIANTS: Finding
FINDING_FILES_LEFT_OUT: Finding
FINDING_PICKLED_WEIGHTS: Finding
FINDING_UNKNOWN_WEIGHTS: Finding
FINDING_ODD_FILE: Finding
WHOLENESS_UNSPECIFIED: Wholeness
WHOLENESS_WHOLE: Wholeness
WHOLENESS_INCOMPLETE: Wholeness
ROOM_VERDICT_UNSPECIFIED: RoomVerdict
ROOM_VERDICT_HELD: RoomVerdict
ROOM_VERDICT_FITS: RoomVerdict
ROOM_VERDICT_EVICTS: RoomVerdict
ROOM_VERDICT_LACKS: RoomVerdict

class ModelRef(_message.Message):
    __slots__ = ("kind", "namespace", "name", "uid")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    kind: ModelKind
    namespace: str
    name: str
    uid: str
    def __init__(self, kind: _Optional[_Union[ModelKind, str]] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class Remark(_message.Message):
    __slots__ = ("finding", "message", "files")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    finding: Finding
    message: str
    files: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, finding: _Optional[_Union[Finding, str]] = ..., message: _Optional[str] = ..., files: _Optional[_Iterable[str]] = ...) -> None: ...

class Completeness(_message.Message):
    __slots__ = ("wholeness", "defects")
    WHOLENESS_FIELD_NUMBER: _ClassVar[int]
    DEFECTS_FIELD_NUMBER: _ClassVar[int]
    wholeness: Wholeness
    defects: _containers.RepeatedCompositeFieldContainer[Remark]
    def __init__(self, wholeness: _Optional[_Union[Wholeness, str]] = ..., defects: _Optional[_Iterable[_Union[Remark, _Mapping]]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("digest", "source_revision", "bytes", "files")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REVISION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    source_revision: str
    bytes: int
    files: int
    def __init__(self, digest: _Optional[str] = ..., source_revision: _Optional[str] = ..., bytes: _Optional[int] = ..., files: _Optional[int] = ...) -> None: ...

class ForecastNode(_message.Message):
    __slots__ = ("node", "room", "root", "total_bytes", "free_bytes", "reserved_bytes", "over_watermark", "evictable", "evictable_bytes", "bytes_per_second", "seconds")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROOM_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OVER_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    EVICTABLE_FIELD_NUMBER: _ClassVar[int]
    EVICTABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    node: str
    room: RoomVerdict
    root: str
    total_bytes: int
    free_bytes: int
    reserved_bytes: int
    over_watermark: bool
    evictable: _containers.RepeatedCompositeFieldContainer[ModelRef]
    evictable_bytes: int
    bytes_per_second: int
    seconds: int
    def __init__(self, node: _Optional[str] = ..., room: _Optional[_Union[RoomVerdict, str]] = ..., root: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., reserved_bytes: _Optional[int] = ..., over_watermark: _Optional[bool] = ..., evictable: _Optional[_Iterable[_Union[ModelRef, _Mapping]]] = ..., evictable_bytes: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., seconds: _Optional[int] = ...) -> None: ...

class ForecastFile(_message.Message):
    __slots__ = ("path", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    bytes: int
    def __init__(self, path: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class ForecastFacts(_message.Message):
    __slots__ = ("architecture", "model_type", "parameters", "parameters_exact", "parameter_size", "context_length", "quantization", "dtype", "capabilities", "format", "weight_bytes", "problem")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_EXACT_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    architecture: str
    model_type: str
    parameters: int
    parameters_exact: bool
    parameter_size: str
    context_length: int
    quantization: str
    dtype: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    format: str
    weight_bytes: int
    problem: str
    def __init__(self, architecture: _Optional[str] = ..., model_type: _Optional[str] = ..., parameters: _Optional[int] = ..., parameters_exact: _Optional[bool] = ..., parameter_size: _Optional[str] = ..., context_length: _Optional[int] = ..., quantization: _Optional[str] = ..., dtype: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., format: _Optional[str] = ..., weight_bytes: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class Forecast(_message.Message):
    __slots__ = ("model", "exists", "reason", "message", "source", "credentials", "listed", "source_reason", "source_message", "artifact", "files", "remarks", "completeness", "disk_bytes", "node_count", "nodes", "misses", "lacking_nodes", "fetching_nodes", "egress_bytes", "facts")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    LISTED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    REMARKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    LACKING_NODES_FIELD_NUMBER: _ClassVar[int]
    FETCHING_NODES_FIELD_NUMBER: _ClassVar[int]
    EGRESS_BYTES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    exists: bool
    reason: Reason
    message: str
    source: str
    credentials: str
    listed: bool
    source_reason: Reason
    source_message: str
    artifact: Artifact
    files: _containers.RepeatedCompositeFieldContainer[ForecastFile]
    remarks: _containers.RepeatedCompositeFieldContainer[Remark]
    completeness: Completeness
    disk_bytes: int
    node_count: int
    nodes: _containers.RepeatedCompositeFieldContainer[ForecastNode]
    misses: _containers.RepeatedScalarFieldContainer[str]
    lacking_nodes: int
    fetching_nodes: int
    egress_bytes: int
    facts: ForecastFacts
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., exists: _Optional[bool] = ..., reason: _Optional[_Union[Reason, str]] = ..., message: _Optional[str] = ..., source: _Optional[str] = ..., credentials: _Optional[str] = ..., listed: _Optional[bool] = ..., source_reason: _Optional[_Union[Reason, str]] = ..., source_message: _Optional[str] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., files: _Optional[_Iterable[_Union[ForecastFile, _Mapping]]] = ..., remarks: _Optional[_Iterable[_Union[Remark, _Mapping]]] = ..., completeness: _Optional[_Union[Completeness, _Mapping]] = ..., disk_bytes: _Optional[int] = ..., node_count: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[ForecastNode, _Mapping]]] = ..., misses: _Optional[_Iterable[str]] = ..., lacking_nodes: _Optional[int] = ..., fetching_nodes: _Optional[int] = ..., egress_bytes: _Optional[int] = ..., facts: _Optional[_Union[ForecastFacts, _Mapping]] = ...) -> None: ...
