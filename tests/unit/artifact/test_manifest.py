"""Manifests: a digest that names the files, and names that are safe to create."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.digest import digest_directory, is_digest
from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.artifact.names import node_key, node_name, node_token, split_node_key


def file(path: str, size: int = 1) -> ManifestFile:
    return ManifestFile(path, size, ChecksumAlgorithm.SHA256, "00" * 32)


def test_digest_depends_on_the_files_and_neither_on_their_order_nor_on_the_revision() -> None:
    one = new_manifest("rev1", [file("a"), file("b")])
    other = new_manifest("rev2", [file("b"), file("a")])
    assert one.digest == other.digest
    assert is_digest(one.digest)
    assert new_manifest("rev1", [file("a"), file("b", 2)]).digest != one.digest


def test_files_that_no_checksum_identifies_are_another_artifact_at_another_place() -> None:
    for algorithm in ChecksumAlgorithm:
        unsure = [file("a"), ManifestFile("b", 1, algorithm, "00", "etag")]
        here, there = (new_manifest("", unsure, place) for place in ("https://here", "https://there"))
        assert (here.digest == there.digest) == algorithm.identifies
        assert (here.place == "") == algorithm.identifies
    assert not ChecksumAlgorithm.NONE.identifies
    assert not ChecksumAlgorithm.CRC32C.identifies
    assert ChecksumAlgorithm.SHA256.identifies


def test_digests_of_earlier_releases_are_those_of_this_one() -> None:
    rows = [file("a"), ManifestFile("b", 2, ChecksumAlgorithm.NONE, "", "etag")]
    assert new_manifest("", rows).digest == "sha256:9314009a7292de0ebc95510c9d0ac97741086012a585a0166e56f94cdf51496a"


def test_digest_becomes_a_directory_name_without_a_colon() -> None:
    assert digest_directory("sha256:" + "0" * 64) == "sha256-" + "0" * 64
    with pytest.raises(ValueError, match="not an artifact digest"):
        digest_directory("../etc")


UNSAFE = {
    "an absolute name": ["/etc/passwd"],
    "a parent": ["a/../../b"],
    "an empty part": ["a//b"],
    "an empty name": [""],
    "a NUL": ["a\0b"],
    "a newline": ["a\nb"],
    "a lone surrogate": ["a\udc80"],
    "a part that is too long": ["a" * 256],
    "a name that is too long": ["/".join(["a" * 200] * 20)],
    "a duplicate": ["a", "a"],
    "names that differ in case only": ["README", "readme"],
    "a file that is another's directory": ["a", "a/b"],
}


@pytest.mark.parametrize("paths", UNSAFE.values(), ids=UNSAFE.keys())
def test_listing_with_an_unsafe_name_is_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidValue) as refused:
        new_manifest("", [file(path) for path in paths])
    assert refused.value.reason == "InvalidListing"


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True))
def test_node_names_survive_the_way_into_a_subject_and_back(node: str) -> None:
    assert node_name(node_token(node)) == node
    assert split_node_key(node_key(node, "uid-1")) == (node, "uid-1")
    assert "." not in node_token(node)
