"""What the resolver and a process that lists say to each other over a socket: one request, and one answer. Pure.

Neither side takes objects of Python from the other: the one that lists has read what a stranger wrote. A frame is one
byte of kind, four of length, and so many bytes. An answer is a Resolution, and the manifest unless it has failed; then,
if it was asked for, what the parser is to be given of the files.
"""

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from libs.artifact.findings import MAX_FILES, MAX_MESSAGE, MAX_NAME
from libs.artifact.manifest import Manifest
from libs.artifact.model_directory import ModelFile
from libs.artifact.reasons import Reason
from libs.artifact.wording import one_line
from libs.chassis.errors import Invalid, Unavailable
from libs.model.findings import completeness_message, remark_message
from libs.model.manifest_codec import decode_manifest, encode_manifest
from libs.model.problems import error_of
from ome.fetch.v1.fetch_pb2 import Declarations, Resolution
from ome.model.v1.model_pb2 import Completeness, Remark
from ome.parser.v1.parser_pb2 import FileChunk
from services.fetcher.sources.admission import Admitted
from services.fetcher.sources.declarations import MOST_BYTES as MOST_DECLARED_BYTES

HEADER = struct.Struct("!cI")
REQUEST, RESOLUTION, MANIFEST, DECLARATIONS = b"R", b"A", b"M", b"D"
# Of a manifest of 100,000 files, 15 MB. It is stored for the fleet, where each namespace may have many.
_MANIFEST_BYTES = 32 << 20
_REQUEST_BYTES = 4 << 20
_RESOLUTION_BYTES = 512 << 10
# What is read, with the names of all files.
_DECLARATIONS_BYTES = MOST_DECLARED_BYTES + _MANIFEST_BYTES
MOST_BYTES = {
    REQUEST: _REQUEST_BYTES,
    RESOLUTION: _RESOLUTION_BYTES,
    MANIFEST: _MANIFEST_BYTES,
    DECLARATIONS: _DECLARATIONS_BYTES,
}
# What is said about a model is for people, who read no more.
_MOST_REMARKS = 30
# Each is stored for every model. The longest remark fits.
_REMARKS_BYTES = 16 << 10
_LONGEST_PAUSE_SECONDS = 86_400.0


class FrameError(Exception):
    """What came is no answer."""


@dataclass(frozen=True)
class Request:
    """A source to list. The credentials are never shown."""

    uri: str
    parameters: Mapping[str, str]
    credentials: Mapping[str, bytes] = field(repr=False)
    # Of a model with a namespace, which may reach less.
    namespaced: bool
    # For so long after the request, what the model declares of itself may be read as well; 0 if that is not asked for.
    # The configuration is at schema_path, if that is given.
    declared_seconds: float = 0.0
    schema_path: str = ""

    def frame(self) -> bytes:
        """As it is sent. Raises Invalid when it is larger than any source that can be meant."""
        credentials = {name: base64.b64encode(value).decode() for name, value in self.credentials.items()}
        document = {
            "uri": self.uri,
            "parameters": dict(self.parameters),
            "credentials": credentials,
            "namespaced": self.namespaced,
            "declaredSeconds": self.declared_seconds,
            "schemaPath": self.schema_path,
        }
        data = json.dumps(document).encode()
        if len(data) > _REQUEST_BYTES:
            raise Invalid(Reason.INVALID_PARAMETER, "storage.parameters and the Secret are too large together")
        return _frame(REQUEST, data)


@dataclass(frozen=True)
class Listed:
    """What a listing has found: the files to fetch, and what there is to say about them."""

    manifest: Manifest
    warnings: tuple[Remark, ...]
    completeness: Completeness
    # What was read for the parser, if that was asked for.
    declared: tuple[ModelFile, ...] = ()


def read_request(data: bytes) -> Request:
    """The request that a frame holds. Raises ValueError."""
    document = json.loads(data)
    credentials = {name: base64.b64decode(value) for name, value in document["credentials"].items()}
    return Request(
        document["uri"],
        document["parameters"],
        credentials,
        document["namespaced"],
        document["declaredSeconds"],
        document["schemaPath"],
    )


def success(uri: str, admitted: Admitted) -> bytes:
    """The answer of a listing that has succeeded. Raises Invalid for a manifest that is too large to be stored."""
    manifest = encode_manifest(admitted.manifest)
    if len(manifest) > _MANIFEST_BYTES:
        raise Invalid(
            Reason.INVALID_URI,
            f"the names of the {len(admitted.manifest.files)} files of {uri} take more than "
            f"{_MANIFEST_BYTES >> 20} MiB: name one model in storageUri",
        )
    warnings = [remark_message(each) for each in admitted.warnings]
    resolution = Resolution(
        warnings=_bounded(warnings), completeness=_bounded_completeness(completeness_message(admitted.verdict))
    )
    return _frame(RESOLUTION, resolution.SerializeToString()) + _frame(MANIFEST, manifest)


def failure(resolution: Resolution) -> bytes:
    """The answer of one that has failed: a problem, and how long after resolved_at to leave the source alone."""
    return _frame(RESOLUTION, resolution.SerializeToString())


def read_resolution(data: bytes) -> Resolution:
    """What a listing says of its end. Raises what it has failed with, or FrameError."""
    try:
        resolution = Resolution.FromString(data)
    except DecodeError as error:
        raise FrameError from error
    if not resolution.HasField("problem"):
        return resolution
    refusal = error_of(resolution.problem)
    if isinstance(refusal, Unavailable) and resolution.problem.HasField("retry_at"):
        asked, now = resolution.problem.retry_at, resolution.resolved_at
        pause = asked.seconds - now.seconds + (asked.nanos - now.nanos) / 1e9
        refusal.retry_after_seconds = min(max(pause, 0.0), _LONGEST_PAUSE_SECONDS)
    raise refusal


def declarations(files: Iterable[ModelFile]) -> bytes:
    """What follows the answer of a listing that was to read declarations as well."""
    chunks = [FileChunk(path=file.path, size_bytes=file.size_bytes, data=file.data) for file in files]
    return _frame(DECLARATIONS, Declarations(files=chunks).SerializeToString())


def read_listed(resolution: Resolution, data: bytes, declared: bytes = b"") -> Listed:
    """What a listing has found, with everything checked once more. Raises InvalidValue, or FrameError."""
    try:
        manifest, chunks = decode_manifest(data), Declarations.FromString(declared).files
    except DecodeError as error:
        raise FrameError from error
    sizes = {file.path: file.size_bytes for file in manifest.files}
    if any(sizes.get(chunk.path) != chunk.size_bytes for chunk in chunks):
        raise FrameError
    return Listed(
        manifest,
        tuple(_bounded(resolution.warnings)),
        _bounded_completeness(resolution.completeness),
        tuple(ModelFile(chunk.path, chunk.size_bytes, chunk.data) for chunk in chunks),
    )


def _bounded(remarks: Iterable[Remark]) -> list[Remark]:
    bounded: list[Remark] = []
    left = _REMARKS_BYTES
    for remark in list(remarks)[:_MOST_REMARKS]:
        short = Remark(
            finding=remark.finding,
            message=one_line(remark.message, MAX_MESSAGE),
            files=[one_line(name, MAX_NAME) for name in remark.files[:MAX_FILES]],
        )
        left -= short.ByteSize()
        if left < 0:
            break
        bounded.append(short)
    return bounded


def _bounded_completeness(said: Completeness) -> Completeness:
    return Completeness(wholeness=said.wholeness, defects=_bounded(said.defects))


def _frame(kind: bytes, data: bytes) -> bytes:
    return HEADER.pack(kind, len(data)) + data
