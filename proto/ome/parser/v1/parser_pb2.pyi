from ome.model.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CountSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUNT_SOURCE_UNSPECIFIED: _ClassVar[CountSource]
    COUNT_SOURCE_HEADERS: _ClassVar[CountSource]
    COUNT_SOURCE_INDEX: _ClassVar[CountSource]
    COUNT_SOURCE_FORMULA: _ClassVar[CountSource]
    COUNT_SOURCE_ESTIMATE: _ClassVar[CountSource]

class Certainty(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CERTAINTY_UNSPECIFIED: _ClassVar[Certainty]
    CERTAINTY_EXACT: _ClassVar[Certainty]
    CERTAINTY_ESTIMATED: _ClassVar[Certainty]
COUNT_SOURCE_UNSPECIFIED: CountSource
COUNT_SOURCE_HEADERS: CountSource
COUNT_SOURCE_INDEX: CountSource
COUNT_SOURCE_FORMULA: CountSource
COUNT_SOURCE_ESTIMATE: CountSource
CERTAINTY_UNSPECIFIED: Certainty
CERTAINTY_EXACT: Certainty
CERTAINTY_ESTIMATED: Certainty

class ParseRequest(_message.Message):
    __slots__ = ("options", "file")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    options: ParseOptions
    file: FileChunk
    def __init__(self, options: _Optional[_Union[ParseOptions, _Mapping]] = ..., file: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class ParseOptions(_message.Message):
    __slots__ = ("schema_path",)
    SCHEMA_PATH_FIELD_NUMBER: _ClassVar[int]
    schema_path: str
    def __init__(self, schema_path: _Optional[str] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("path", "size_bytes", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    data: bytes
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ParseResponse(_message.Message):
    __slots__ = ("facts",)
    FACTS_FIELD_NUMBER: _ClassVar[int]
    facts: ModelFacts
    def __init__(self, facts: _Optional[_Union[ModelFacts, _Mapping]] = ...) -> None: ...

class ParameterCount(_message.Message):
    __slots__ = ("count", "source", "exact", "minimum", "maximum")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    count: int
    source: CountSource
    exact: bool
    minimum: int
    maximum: int
    def __init__(self, count: _Optional[int] = ..., source: _Optional[_Union[CountSource, str]] = ..., exact: _Optional[bool] = ..., minimum: _Optional[int] = ..., maximum: _Optional[int] = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("name", "architecture", "parameters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    parameters: ParameterCount
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., parameters: _Optional[_Union[ParameterCount, _Mapping]] = ...) -> None: ...

class Quantization(_message.Message):
    __slots__ = ("spec_value", "method", "bits", "format", "group_size")
    SPEC_VALUE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    spec_value: str
    method: str
    bits: int
    format: str
    group_size: int
    def __init__(self, spec_value: _Optional[str] = ..., method: _Optional[str] = ..., bits: _Optional[int] = ..., format: _Optional[str] = ..., group_size: _Optional[int] = ...) -> None: ...

class Adapter(_message.Message):
    __slots__ = ("type", "rank", "alpha", "target_modules", "base_model", "whole_modules", "task")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_MODULES_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    type: str
    rank: int
    alpha: float
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    base_model: str
    whole_modules: _containers.RepeatedScalarFieldContainer[str]
    task: str
    def __init__(self, type: _Optional[str] = ..., rank: _Optional[int] = ..., alpha: _Optional[float] = ..., target_modules: _Optional[_Iterable[str]] = ..., base_model: _Optional[str] = ..., whole_modules: _Optional[_Iterable[str]] = ..., task: _Optional[str] = ...) -> None: ...

class LinearModule(_message.Message):
    __slots__ = ("name", "inputs", "outputs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    inputs: int
    outputs: int
    def __init__(self, name: _Optional[str] = ..., inputs: _Optional[int] = ..., outputs: _Optional[int] = ...) -> None: ...

class ModelFacts(_message.Message):
    __slots__ = ("model_type", "architecture", "framework", "framework_version", "format", "format_version", "dtype", "quantization", "parameters", "active_parameters", "components", "parameter_size", "bytes_by_dtype", "weight_bytes", "kv_cache_bytes_per_token", "context_length", "usable_context_length", "vocabulary_size", "capabilities", "api_capabilities", "license", "warnings", "prediction_parameters", "weight_bytes_certainty", "kv_cache_certainty", "adapter", "completeness", "remarks", "modules")
    class BytesByDtypeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_SIZE_FIELD_NUMBER: _ClassVar[int]
    BYTES_BY_DTYPE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_BYTES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    USABLE_CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    API_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    REMARKS_FIELD_NUMBER: _ClassVar[int]
    MODULES_FIELD_NUMBER: _ClassVar[int]
    model_type: str
    architecture: str
    framework: str
    framework_version: str
    format: str
    format_version: str
    dtype: str
    quantization: Quantization
    parameters: ParameterCount
    active_parameters: ParameterCount
    components: _containers.RepeatedCompositeFieldContainer[Component]
    parameter_size: str
    bytes_by_dtype: _containers.ScalarMap[str, int]
    weight_bytes: int
    kv_cache_bytes_per_token: int
    context_length: int
    usable_context_length: int
    vocabulary_size: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    api_capabilities: _containers.RepeatedScalarFieldContainer[str]
    license: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    prediction_parameters: int
    weight_bytes_certainty: Certainty
    kv_cache_certainty: Certainty
    adapter: Adapter
    completeness: _model_pb2.Completeness
    remarks: _containers.RepeatedCompositeFieldContainer[_model_pb2.Remark]
    modules: _containers.RepeatedCompositeFieldContainer[LinearModule]
    def __init__(self, model_type: _Optional[str] = ..., architecture: _Optional[str] = ..., framework: _Optional[str] = ..., framework_version: _Optional[str] = ..., format: _Optional[str] = ..., format_version: _Optional[str] = ..., dtype: _Optional[str] = ..., quantization: _Optional[_Union[Quantization, _Mapping]] = ..., parameters: _Optional[_Union[ParameterCount, _Mapping]] = ..., active_parameters: _Optional[_Union[ParameterCount, _Mapping]] = ..., components: _Optional[_Iterable[_Union[Component, _Mapping]]] = ..., parameter_size: _Optional[str] = ..., bytes_by_dtype: _Optional[_Mapping[str, int]] = ..., weight_bytes: _Optional[int] = ..., kv_cache_bytes_per_token: _Optional[int] = ..., context_length: _Optional[int] = ..., usable_context_length: _Optional[int] = ..., vocabulary_size: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., api_capabilities: _Optional[_Iterable[str]] = ..., license: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., prediction_parameters: _Optional[int] = ..., weight_bytes_certainty: _Optional[_Union[Certainty, str]] = ..., kv_cache_certainty: _Optional[_Union[Certainty, str]] = ..., adapter: _Optional[_Union[Adapter, _Mapping]] = ..., completeness: _Optional[_Union[_model_pb2.Completeness, _Mapping]] = ..., remarks: _Optional[_Iterable[_Union[_model_pb2.Remark, _Mapping]]] = ..., modules: _Optional[_Iterable[_Union[LinearModule, _Mapping]]] = ...) -> None: ...

class InspectionReport(_message.Message):
    __slots__ = ("problem", "facts", "parse_problem", "bytes", "files")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    PARSE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    problem: Finding
    facts: ModelFacts
    parse_problem: Finding
    bytes: int
    files: int
    def __init__(self, problem: _Optional[_Union[Finding, _Mapping]] = ..., facts: _Optional[_Union[ModelFacts, _Mapping]] = ..., parse_problem: _Optional[_Union[Finding, _Mapping]] = ..., bytes: _Optional[int] = ..., files: _Optional[int] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: _model_pb2.Reason
    message: str
    def __init__(self, reason: _Optional[_Union[_model_pb2.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...
