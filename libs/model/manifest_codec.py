"""Manifests as the protobuf message that ome-manifests holds, and back. Must not do I/O."""

from google.protobuf.message import DecodeError

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt
from ome.fetch.v1 import fetch_pb2

_TO_PROTO = {
    ChecksumAlgorithm.NONE: fetch_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED,
    ChecksumAlgorithm.SHA256: fetch_pb2.CHECKSUM_ALGORITHM_SHA256,
    ChecksumAlgorithm.GIT_SHA1: fetch_pb2.CHECKSUM_ALGORITHM_GIT_SHA1,
    ChecksumAlgorithm.MD5: fetch_pb2.CHECKSUM_ALGORITHM_MD5,
    ChecksumAlgorithm.SHA384: fetch_pb2.CHECKSUM_ALGORITHM_SHA384,
    ChecksumAlgorithm.CRC32C: fetch_pb2.CHECKSUM_ALGORITHM_CRC32C,
}
_FROM_PROTO = {number: algorithm for algorithm, number in _TO_PROTO.items()}


def algorithm_number(algorithm: ChecksumAlgorithm) -> fetch_pb2.ChecksumAlgorithm:
    """An algorithm as the protobuf message names it."""
    return _TO_PROTO[algorithm]


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of the object that holds a manifest."""
    message = fetch_pb2.Manifest(source_revision=manifest.source_revision, place=manifest.place)
    for file in manifest.files:
        checksum = fetch_pb2.Checksum(algorithm=_TO_PROTO[file.algorithm], value=file.checksum)
        message.files.add(path=file.path, size_bytes=file.size_bytes, checksum=checksum, version=file.version)
    return message.SerializeToString(deterministic=True)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that bytes hold, with every name checked again: whoever wrote them need not have done so.

    Raises InvalidValue for an unsafe name or an unknown checksum algorithm, DecodeError for other bytes.
    """
    message = fetch_pb2.Manifest.FromString(data)
    return new_manifest(message.source_revision, (_decode_file(file) for file in message.files), message.place)


def checked_manifest(digest: str, data: bytes) -> Manifest:
    """The manifest that bytes hold, if it is the one that a digest names. Raises Corrupt otherwise."""
    try:
        manifest = decode_manifest(data)
    except (DecodeError, InvalidValue) as error:
        raise Corrupt(Reason.INVALID_LISTING, f"the manifest {digest} cannot be used: {error}") from error
    if manifest.digest != digest:
        raise Corrupt(Reason.CHECKSUM_MISMATCH, f"the manifest stored as {digest} is that of {manifest.digest}")
    return manifest


def _decode_file(file: fetch_pb2.ManifestFile) -> ManifestFile:
    algorithm = _FROM_PROTO.get(file.checksum.algorithm)
    if algorithm is None:
        raise InvalidValue(
            Reason.INVALID_LISTING, f"{file.path!r} has a checksum of unknown kind {file.checksum.algorithm}"
        )
    return ManifestFile(file.path, file.size_bytes, algorithm, file.checksum.value, file.version)
