"""Manifests on the wire."""

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.model.manifest_codec import decode_manifest, encode_manifest
from ome.fetch.v1 import fetch_pb2


def test_what_is_written_is_read() -> None:
    files = [
        ManifestFile(f"{each.value}.bin", 1, each, "00" if each.value != "none" else "") for each in ChecksumAlgorithm
    ]
    manifest = new_manifest("commit", files, "https://store/bucket")

    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_unsafe_names_are_refused_when_they_are_read() -> None:
    data = fetch_pb2.Manifest(files=[fetch_pb2.ManifestFile(path="../escape")]).SerializeToString()

    with pytest.raises(InvalidValue, match=r"\.\."):
        decode_manifest(data)


def test_an_unknown_checksum_is_refused_rather_than_left_unverified() -> None:
    file = fetch_pb2.ManifestFile(path="a", checksum=fetch_pb2.Checksum(algorithm=99, value="00"))  # type: ignore[arg-type]

    with pytest.raises(InvalidValue, match="unknown kind"):
        decode_manifest(fetch_pb2.Manifest(files=[file]).SerializeToString())
