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

class Goal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GOAL_UNSPECIFIED: _ClassVar[Goal]
    GOAL_HOLD: _ClassVar[Goal]
    GOAL_ABSENT: _ClassVar[Goal]
    GOAL_KEEP: _ClassVar[Goal]

class Residency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESIDENCY_UNSPECIFIED: _ClassVar[Residency]
    RESIDENCY_EVICTABLE: _ClassVar[Residency]
    RESIDENCY_EVICTED: _ClassVar[Residency]

class ProblemClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROBLEM_CLASS_UNSPECIFIED: _ClassVar[ProblemClass]
    PROBLEM_CLASS_INVALID: _ClassVar[ProblemClass]
    PROBLEM_CLASS_MISSING: _ClassVar[ProblemClass]
    PROBLEM_CLASS_UNAVAILABLE: _ClassVar[ProblemClass]
    PROBLEM_CLASS_CORRUPT: _ClassVar[ProblemClass]
    PROBLEM_CLASS_CONFLICT: _ClassVar[ProblemClass]

class ChecksumAlgorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKSUM_ALGORITHM_UNSPECIFIED: _ClassVar[ChecksumAlgorithm]
    CHECKSUM_ALGORITHM_SHA256: _ClassVar[ChecksumAlgorithm]
    CHECKSUM_ALGORITHM_GIT_SHA1: _ClassVar[ChecksumAlgorithm]
    CHECKSUM_ALGORITHM_MD5: _ClassVar[ChecksumAlgorithm]
    CHECKSUM_ALGORITHM_SHA384: _ClassVar[ChecksumAlgorithm]
    CHECKSUM_ALGORITHM_CRC32C: _ClassVar[ChecksumAlgorithm]

class RolloutStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STAGE_UNSPECIFIED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_CANARY: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_PAUSED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_SPREADING: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_HALTED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_DIVERGED: _ClassVar[RolloutStage]
GOAL_UNSPECIFIED: Goal
GOAL_HOLD: Goal
GOAL_ABSENT: Goal
GOAL_KEEP: Goal
RESIDENCY_UNSPECIFIED: Residency
RESIDENCY_EVICTABLE: Residency
RESIDENCY_EVICTED: Residency
PROBLEM_CLASS_UNSPECIFIED: ProblemClass
PROBLEM_CLASS_INVALID: ProblemClass
PROBLEM_CLASS_MISSING: ProblemClass
PROBLEM_CLASS_UNAVAILABLE: ProblemClass
PROBLEM_CLASS_CORRUPT: ProblemClass
PROBLEM_CLASS_CONFLICT: ProblemClass
CHECKSUM_ALGORITHM_UNSPECIFIED: ChecksumAlgorithm
CHECKSUM_ALGORITHM_SHA256: ChecksumAlgorithm
CHECKSUM_ALGORITHM_GIT_SHA1: ChecksumAlgorithm
CHECKSUM_ALGORITHM_MD5: ChecksumAlgorithm
CHECKSUM_ALGORITHM_SHA384: ChecksumAlgorithm
CHECKSUM_ALGORITHM_CRC32C: ChecksumAlgorithm
ROLLOUT_STAGE_UNSPECIFIED: RolloutStage
ROLLOUT_STAGE_CANARY: RolloutStage
ROLLOUT_STAGE_PAUSED: RolloutStage
ROLLOUT_STAGE_SPREADING: RolloutStage
ROLLOUT_STAGE_HALTED: RolloutStage
ROLLOUT_STAGE_DIVERGED: RolloutStage

class Source(_message.Message):
    __slots__ = ("uri", "parameters", "has_secret")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    URI_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HAS_SECRET_FIELD_NUMBER: _ClassVar[int]
    uri: str
    parameters: _containers.ScalarMap[str, str]
    has_secret: bool
    def __init__(self, uri: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., has_secret: _Optional[bool] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("model", "goal", "generation", "source", "artifact", "path", "schema_path", "skip_parsing", "priority", "content_digest", "secret_version", "unclaimed", "reserve", "trust_scopes", "confined", "unselected_since", "in_use_grace_seconds", "residency", "demand", "verify", "kept_revisions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_PATH_FIELD_NUMBER: _ClassVar[int]
    SKIP_PARSING_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SECRET_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNCLAIMED_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    TRUST_SCOPES_FIELD_NUMBER: _ClassVar[int]
    CONFINED_FIELD_NUMBER: _ClassVar[int]
    UNSELECTED_SINCE_FIELD_NUMBER: _ClassVar[int]
    IN_USE_GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    KEPT_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    goal: Goal
    generation: int
    source: Source
    artifact: _model_pb2.Artifact
    path: str
    schema_path: str
    skip_parsing: bool
    priority: int
    content_digest: str
    secret_version: str
    unclaimed: bool
    reserve: bool
    trust_scopes: _containers.RepeatedScalarFieldContainer[str]
    confined: bool
    unselected_since: _timestamp_pb2.Timestamp
    in_use_grace_seconds: int
    residency: Residency
    demand: str
    verify: str
    kept_revisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., goal: _Optional[_Union[Goal, str]] = ..., generation: _Optional[int] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., path: _Optional[str] = ..., schema_path: _Optional[str] = ..., skip_parsing: _Optional[bool] = ..., priority: _Optional[int] = ..., content_digest: _Optional[str] = ..., secret_version: _Optional[str] = ..., unclaimed: _Optional[bool] = ..., reserve: _Optional[bool] = ..., trust_scopes: _Optional[_Iterable[str]] = ..., confined: _Optional[bool] = ..., unselected_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., in_use_grace_seconds: _Optional[int] = ..., residency: _Optional[_Union[Residency, str]] = ..., demand: _Optional[str] = ..., verify: _Optional[str] = ..., kept_revisions: _Optional[_Iterable[str]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("reason", "message", "problem_class", "retry_at")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_CLASS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    reason: _model_pb2.Reason
    message: str
    problem_class: ProblemClass
    retry_at: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[_Union[_model_pb2.Reason, str]] = ..., message: _Optional[str] = ..., problem_class: _Optional[_Union[ProblemClass, str]] = ..., retry_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class NodeModelState(_message.Message):
    __slots__ = ("model", "phase", "assignment_revision", "generation", "problem", "artifact", "path", "facts", "parse_problem", "phase_since", "bytes_done", "content_digest", "facts_key", "held", "update", "verification", "kept_revisions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_REVISION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    PARSE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    PHASE_SINCE_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FACTS_KEY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    KEPT_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    phase: _model_pb2.NodePhase
    assignment_revision: int
    generation: int
    problem: Problem
    artifact: _model_pb2.Artifact
    path: str
    facts: _parser_pb2.ModelFacts
    parse_problem: Problem
    phase_since: _timestamp_pb2.Timestamp
    bytes_done: int
    content_digest: str
    facts_key: str
    held: _containers.RepeatedCompositeFieldContainer[HeldCopy]
    update: _model_pb2.NodePhase
    verification: Verification
    kept_revisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., phase: _Optional[_Union[_model_pb2.NodePhase, str]] = ..., assignment_revision: _Optional[int] = ..., generation: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., path: _Optional[str] = ..., facts: _Optional[_Union[_parser_pb2.ModelFacts, _Mapping]] = ..., parse_problem: _Optional[_Union[Problem, _Mapping]] = ..., phase_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bytes_done: _Optional[int] = ..., content_digest: _Optional[str] = ..., facts_key: _Optional[str] = ..., held: _Optional[_Iterable[_Union[HeldCopy, _Mapping]]] = ..., update: _Optional[_Union[_model_pb2.NodePhase, str]] = ..., verification: _Optional[_Union[Verification, _Mapping]] = ..., kept_revisions: _Optional[_Iterable[str]] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ("request", "finished_at", "digest", "bytes", "damaged", "files", "problem")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    request: str
    finished_at: _timestamp_pb2.Timestamp
    digest: str
    bytes: int
    damaged: int
    files: _containers.RepeatedScalarFieldContainer[str]
    problem: str
    def __init__(self, request: _Optional[str] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., digest: _Optional[str] = ..., bytes: _Optional[int] = ..., damaged: _Optional[int] = ..., files: _Optional[_Iterable[str]] = ..., problem: _Optional[str] = ...) -> None: ...

class HeldCopy(_message.Message):
    __slots__ = ("artifact", "path", "released_at", "until", "use")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    RELEASED_AT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    artifact: _model_pb2.Artifact
    path: str
    released_at: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    use: Use
    def __init__(self, artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., path: _Optional[str] = ..., released_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., use: _Optional[_Union[Use, _Mapping]] = ...) -> None: ...

class Use(_message.Message):
    __slots__ = ("pods", "users")
    PODS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    pods: int
    users: _containers.RepeatedCompositeFieldContainer[PodUse]
    def __init__(self, pods: _Optional[int] = ..., users: _Optional[_Iterable[_Union[PodUse, _Mapping]]] = ...) -> None: ...

class PodUse(_message.Message):
    __slots__ = ("namespace", "name", "since")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UseQuestion(_message.Message):
    __slots__ = ("model_uid", "root", "paths", "before")
    MODEL_UID_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    model_uid: str
    root: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    before: _timestamp_pb2.Timestamp
    def __init__(self, model_uid: _Optional[str] = ..., root: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UseRequest(_message.Message):
    __slots__ = ("questions",)
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    questions: _containers.RepeatedCompositeFieldContainer[UseQuestion]
    def __init__(self, questions: _Optional[_Iterable[_Union[UseQuestion, _Mapping]]] = ...) -> None: ...

class UseReply(_message.Message):
    __slots__ = ("uses", "problem")
    USES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    uses: _containers.RepeatedCompositeFieldContainer[Use]
    problem: Problem
    def __init__(self, uses: _Optional[_Iterable[_Union[Use, _Mapping]]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class RootCapacity(_message.Message):
    __slots__ = ("root", "total_bytes", "free_bytes", "problem", "reserved_bytes", "high_watermark_percent", "low_watermark_percent")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_PERCENT_FIELD_NUMBER: _ClassVar[int]
    LOW_WATERMARK_PERCENT_FIELD_NUMBER: _ClassVar[int]
    root: str
    total_bytes: int
    free_bytes: int
    problem: str
    reserved_bytes: int
    high_watermark_percent: int
    low_watermark_percent: int
    def __init__(self, root: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., problem: _Optional[str] = ..., reserved_bytes: _Optional[int] = ..., high_watermark_percent: _Optional[int] = ..., low_watermark_percent: _Optional[int] = ...) -> None: ...

class NodeHeartbeat(_message.Message):
    __slots__ = ("node", "version", "started_at", "roots", "pool", "peer_address", "limits", "rates")
    NODE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    node: str
    version: str
    started_at: _timestamp_pb2.Timestamp
    roots: _containers.RepeatedCompositeFieldContainer[RootCapacity]
    pool: str
    peer_address: str
    limits: NodeLimits
    rates: _containers.RepeatedCompositeFieldContainer[DownloadRate]
    def __init__(self, node: _Optional[str] = ..., version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., roots: _Optional[_Iterable[_Union[RootCapacity, _Mapping]]] = ..., pool: _Optional[str] = ..., peer_address: _Optional[str] = ..., limits: _Optional[_Union[NodeLimits, _Mapping]] = ..., rates: _Optional[_Iterable[_Union[DownloadRate, _Mapping]]] = ...) -> None: ...

class NodeLimits(_message.Message):
    __slots__ = ("bytes_per_second", "connections_per_host")
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_PER_HOST_FIELD_NUMBER: _ClassVar[int]
    bytes_per_second: int
    connections_per_host: int
    def __init__(self, bytes_per_second: _Optional[int] = ..., connections_per_host: _Optional[int] = ...) -> None: ...

class DownloadRate(_message.Message):
    __slots__ = ("scheme", "bytes_per_second", "age_seconds")
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    scheme: str
    bytes_per_second: int
    age_seconds: int
    def __init__(self, scheme: _Optional[str] = ..., bytes_per_second: _Optional[int] = ..., age_seconds: _Optional[int] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("source_revision", "files", "place")
    SOURCE_REVISION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    source_revision: str
    files: _containers.RepeatedCompositeFieldContainer[ManifestFile]
    place: str
    def __init__(self, source_revision: _Optional[str] = ..., files: _Optional[_Iterable[_Union[ManifestFile, _Mapping]]] = ..., place: _Optional[str] = ...) -> None: ...

class ManifestFile(_message.Message):
    __slots__ = ("path", "size_bytes", "checksum", "version")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    checksum: Checksum
    version: str
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., checksum: _Optional[_Union[Checksum, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class Checksum(_message.Message):
    __slots__ = ("algorithm", "value")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    algorithm: ChecksumAlgorithm
    value: str
    def __init__(self, algorithm: _Optional[_Union[ChecksumAlgorithm, str]] = ..., value: _Optional[str] = ...) -> None: ...

class ResolveTask(_message.Message):
    __slots__ = ("source_key", "source", "model", "attempt")
    SOURCE_KEY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    source_key: str
    source: Source
    model: _model_pb2.ModelRef
    attempt: int
    def __init__(self, source_key: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class Resolution(_message.Message):
    __slots__ = ("artifact", "problem", "attempt", "resolved_at", "secret_version", "warnings", "completeness")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_AT_FIELD_NUMBER: _ClassVar[int]
    SECRET_VERSION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    artifact: _model_pb2.Artifact
    problem: Problem
    attempt: int
    resolved_at: _timestamp_pb2.Timestamp
    secret_version: str
    warnings: _containers.RepeatedCompositeFieldContainer[_model_pb2.Remark]
    completeness: _model_pb2.Completeness
    def __init__(self, artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., attempt: _Optional[int] = ..., resolved_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., secret_version: _Optional[str] = ..., warnings: _Optional[_Iterable[_Union[_model_pb2.Remark, _Mapping]]] = ..., completeness: _Optional[_Union[_model_pb2.Completeness, _Mapping]] = ...) -> None: ...

class SharedFacts(_message.Message):
    __slots__ = ("facts", "problem", "claimed_by", "claimed_at")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_BY_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_AT_FIELD_NUMBER: _ClassVar[int]
    facts: _parser_pb2.ModelFacts
    problem: Problem
    claimed_by: str
    claimed_at: _timestamp_pb2.Timestamp
    def __init__(self, facts: _Optional[_Union[_parser_pb2.ModelFacts, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., claimed_by: _Optional[str] = ..., claimed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ModelPlan(_message.Message):
    __slots__ = ("model", "generation", "spec_digest", "desired_nodes", "artifact", "problem", "deleting", "disabled", "content_digest", "volume", "warnings", "completeness", "use", "history", "pinned", "rollout", "awaited_bytes", "follow_failure")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DESIRED_NODES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    DELETING_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    AWAITED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FAILURE_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    generation: int
    spec_digest: str
    desired_nodes: _containers.RepeatedScalarFieldContainer[str]
    artifact: _model_pb2.Artifact
    problem: Problem
    deleting: bool
    disabled: bool
    content_digest: str
    volume: Volume
    warnings: _containers.RepeatedCompositeFieldContainer[_model_pb2.Remark]
    completeness: _model_pb2.Completeness
    use: ModelUse
    history: _containers.RepeatedCompositeFieldContainer[Revision]
    pinned: Revision
    rollout: Rollout
    awaited_bytes: int
    follow_failure: FollowFailure
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., generation: _Optional[int] = ..., spec_digest: _Optional[str] = ..., desired_nodes: _Optional[_Iterable[str]] = ..., artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., deleting: _Optional[bool] = ..., disabled: _Optional[bool] = ..., content_digest: _Optional[str] = ..., volume: _Optional[_Union[Volume, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[_model_pb2.Remark, _Mapping]]] = ..., completeness: _Optional[_Union[_model_pb2.Completeness, _Mapping]] = ..., use: _Optional[_Union[ModelUse, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ..., pinned: _Optional[_Union[Revision, _Mapping]] = ..., rollout: _Optional[_Union[Rollout, _Mapping]] = ..., awaited_bytes: _Optional[int] = ..., follow_failure: _Optional[_Union[FollowFailure, _Mapping]] = ...) -> None: ...

class FollowFailure(_message.Message):
    __slots__ = ("problem", "since", "first_attempt", "attempts")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    problem: Problem
    since: _timestamp_pb2.Timestamp
    first_attempt: int
    attempts: int
    def __init__(self, problem: _Optional[_Union[Problem, _Mapping]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., first_attempt: _Optional[int] = ..., attempts: _Optional[int] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("nodes", "pods", "users")
    NODES_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    nodes: int
    pods: int
    users: _containers.RepeatedCompositeFieldContainer[NodeUse]
    def __init__(self, nodes: _Optional[int] = ..., pods: _Optional[int] = ..., users: _Optional[_Iterable[_Union[NodeUse, _Mapping]]] = ...) -> None: ...

class NodeUse(_message.Message):
    __slots__ = ("node", "pod")
    NODE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    node: str
    pod: PodUse
    def __init__(self, node: _Optional[str] = ..., pod: _Optional[_Union[PodUse, _Mapping]] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("artifact", "since", "source_key")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_KEY_FIELD_NUMBER: _ClassVar[int]
    artifact: _model_pb2.Artifact
    since: _timestamp_pb2.Timestamp
    source_key: str
    def __init__(self, artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source_key: _Optional[str] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("stage", "message", "digest", "staying_nodes", "tried_at")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STAYING_NODES_FIELD_NUMBER: _ClassVar[int]
    TRIED_AT_FIELD_NUMBER: _ClassVar[int]
    stage: RolloutStage
    message: str
    digest: str
    staying_nodes: _containers.RepeatedScalarFieldContainer[str]
    tried_at: _timestamp_pb2.Timestamp
    def __init__(self, stage: _Optional[_Union[RolloutStage, str]] = ..., message: _Optional[str] = ..., digest: _Optional[str] = ..., staying_nodes: _Optional[_Iterable[str]] = ..., tried_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("namespace", "claim", "path", "inspection")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    claim: str
    path: str
    inspection: VolumeInspection
    def __init__(self, namespace: _Optional[str] = ..., claim: _Optional[str] = ..., path: _Optional[str] = ..., inspection: _Optional[_Union[VolumeInspection, _Mapping]] = ...) -> None: ...

class VolumeInspection(_message.Message):
    __slots__ = ("subject", "number", "failures", "inspected_at", "found_at", "problem", "artifact", "facts", "parse_problem")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    INSPECTED_AT_FIELD_NUMBER: _ClassVar[int]
    FOUND_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    PARSE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    subject: str
    number: int
    failures: int
    inspected_at: _timestamp_pb2.Timestamp
    found_at: _timestamp_pb2.Timestamp
    problem: Problem
    artifact: _model_pb2.Artifact
    facts: _parser_pb2.ModelFacts
    parse_problem: Problem
    def __init__(self, subject: _Optional[str] = ..., number: _Optional[int] = ..., failures: _Optional[int] = ..., inspected_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., found_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., artifact: _Optional[_Union[_model_pb2.Artifact, _Mapping]] = ..., facts: _Optional[_Union[_parser_pb2.ModelFacts, _Mapping]] = ..., parse_problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class DesiredChange(_message.Message):
    __slots__ = ("model_uid", "revision", "assignment", "gone", "epoch")
    MODEL_UID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    model_uid: str
    revision: int
    assignment: Assignment
    gone: bool
    epoch: str
    def __init__(self, model_uid: _Optional[str] = ..., revision: _Optional[int] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., gone: _Optional[bool] = ..., epoch: _Optional[str] = ...) -> None: ...

class DesiredRequest(_message.Message):
    __slots__ = ("after_uid", "epoch", "revision", "known")
    AFTER_UID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    after_uid: str
    epoch: str
    revision: int
    known: bytes
    def __init__(self, after_uid: _Optional[str] = ..., epoch: _Optional[str] = ..., revision: _Optional[int] = ..., known: _Optional[bytes] = ...) -> None: ...

class DesiredSnapshot(_message.Message):
    __slots__ = ("assignments", "more", "epoch", "restored", "problem", "sequence", "unchanged", "tells_use")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    TELLS_USE_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[DesiredChange]
    more: bool
    epoch: str
    restored: bool
    problem: Problem
    sequence: int
    unchanged: bool
    tells_use: bool
    def __init__(self, assignments: _Optional[_Iterable[_Union[DesiredChange, _Mapping]]] = ..., more: _Optional[bool] = ..., epoch: _Optional[str] = ..., restored: _Optional[bool] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., sequence: _Optional[int] = ..., unchanged: _Optional[bool] = ..., tells_use: _Optional[bool] = ...) -> None: ...

class StateReply(_message.Message):
    __slots__ = ("state", "problem", "states", "sequence", "more", "gone_model_uids")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    GONE_MODEL_UIDS_FIELD_NUMBER: _ClassVar[int]
    state: NodeModelState
    problem: Problem
    states: _containers.RepeatedCompositeFieldContainer[NodeModelState]
    sequence: int
    more: bool
    gone_model_uids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[_Union[NodeModelState, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., states: _Optional[_Iterable[_Union[NodeModelState, _Mapping]]] = ..., sequence: _Optional[int] = ..., more: _Optional[bool] = ..., gone_model_uids: _Optional[_Iterable[str]] = ...) -> None: ...

class StateRequest(_message.Message):
    __slots__ = ("model_uid", "everything", "after_sequence")
    MODEL_UID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    model_uid: str
    everything: bool
    after_sequence: int
    def __init__(self, model_uid: _Optional[str] = ..., everything: _Optional[bool] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class ManifestRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class ManifestPart(_message.Message):
    __slots__ = ("data", "total_bytes", "problem")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total_bytes: int
    problem: Problem
    def __init__(self, data: _Optional[bytes] = ..., total_bytes: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class FactsRequest(_message.Message):
    __slots__ = ("digest", "schema_path", "version", "facts", "revision")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_PATH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    digest: str
    schema_path: str
    version: str
    facts: SharedFacts
    revision: int
    def __init__(self, digest: _Optional[str] = ..., schema_path: _Optional[str] = ..., version: _Optional[str] = ..., facts: _Optional[_Union[SharedFacts, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class FactsReply(_message.Message):
    __slots__ = ("facts", "revision", "problem")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    facts: SharedFacts
    revision: int
    problem: Problem
    def __init__(self, facts: _Optional[_Union[SharedFacts, _Mapping]] = ..., revision: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "files_done", "files_total", "bytes_per_second", "eta_seconds", "files")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILES_DONE_FIELD_NUMBER: _ClassVar[int]
    FILES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: int
    eta_seconds: int
    files: _containers.RepeatedCompositeFieldContainer[FileProgress]
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., files_done: _Optional[int] = ..., files_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., eta_seconds: _Optional[int] = ..., files: _Optional[_Iterable[_Union[FileProgress, _Mapping]]] = ...) -> None: ...

class FileProgress(_message.Message):
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

class CredentialsRequest(_message.Message):
    __slots__ = ("model_uid", "source_digest")
    MODEL_UID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model_uid: str
    source_digest: str
    def __init__(self, model_uid: _Optional[str] = ..., source_digest: _Optional[str] = ...) -> None: ...

class CredentialsReply(_message.Message):
    __slots__ = ("values", "problem", "secret_version")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SECRET_VERSION_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, bytes]
    problem: Problem
    secret_version: str
    def __init__(self, values: _Optional[_Mapping[str, bytes]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ..., secret_version: _Optional[str] = ...) -> None: ...

class ListingQuery(_message.Message):
    __slots__ = ("model_uid", "source_key")
    MODEL_UID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_KEY_FIELD_NUMBER: _ClassVar[int]
    model_uid: str
    source_key: str
    def __init__(self, model_uid: _Optional[str] = ..., source_key: _Optional[str] = ...) -> None: ...

class ListingReply(_message.Message):
    __slots__ = ("withdrawn",)
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    withdrawn: bool
    def __init__(self, withdrawn: _Optional[bool] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class FollowReply(_message.Message):
    __slots__ = ("pending", "problem")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    pending: int
    problem: Problem
    def __init__(self, pending: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class ForecastRequest(_message.Message):
    __slots__ = ("manifest", "tells_nodes")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    TELLS_NODES_FIELD_NUMBER: _ClassVar[int]
    manifest: str
    tells_nodes: bool
    def __init__(self, manifest: _Optional[str] = ..., tells_nodes: _Optional[bool] = ...) -> None: ...

class ForecastReply(_message.Message):
    __slots__ = ("forecast", "problem")
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    forecast: _model_pb2.Forecast
    problem: Problem
    def __init__(self, forecast: _Optional[_Union[_model_pb2.Forecast, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class FilesRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class FilesReply(_message.Message):
    __slots__ = ("files", "total", "problem")
    FILES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[ManifestFile]
    total: int
    problem: Problem
    def __init__(self, files: _Optional[_Iterable[_Union[ManifestFile, _Mapping]]] = ..., total: _Optional[int] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class TrialTask(_message.Message):
    __slots__ = ("source", "namespace", "credentials", "schema_path")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_PATH_FIELD_NUMBER: _ClassVar[int]
    source: Source
    namespace: str
    credentials: CredentialsReply
    schema_path: str
    def __init__(self, source: _Optional[_Union[Source, _Mapping]] = ..., namespace: _Optional[str] = ..., credentials: _Optional[_Union[CredentialsReply, _Mapping]] = ..., schema_path: _Optional[str] = ...) -> None: ...

class TrialReply(_message.Message):
    __slots__ = ("resolution", "files", "disk_bytes", "facts")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    resolution: Resolution
    files: _containers.RepeatedCompositeFieldContainer[_model_pb2.ForecastFile]
    disk_bytes: int
    facts: _model_pb2.ForecastFacts
    def __init__(self, resolution: _Optional[_Union[Resolution, _Mapping]] = ..., files: _Optional[_Iterable[_Union[_model_pb2.ForecastFile, _Mapping]]] = ..., disk_bytes: _Optional[int] = ..., facts: _Optional[_Union[_model_pb2.ForecastFacts, _Mapping]] = ...) -> None: ...

class Declarations(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[_parser_pb2.FileChunk]
    def __init__(self, files: _Optional[_Iterable[_Union[_parser_pb2.FileChunk, _Mapping]]] = ...) -> None: ...

class SourceChanged(_message.Message):
    __slots__ = ("repository", "revisions")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    repository: str
    revisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, repository: _Optional[str] = ..., revisions: _Optional[_Iterable[str]] = ...) -> None: ...

class SourceChangedReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: int
    def __init__(self, models: _Optional[int] = ...) -> None: ...
