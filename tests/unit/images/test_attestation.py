"""A statement about an image names its digest, its commit and its locks, and says when nobody can build it again."""

import hashlib
import json

from tools.images import attestation

NAME, DIGEST, COMMIT = "registry.example.com:5000/ome/status:1", "sha256:" + "ab" * 32, "cd" * 20
INPUTS = {"b.lock": b"two", "a.lock": b"one"}


def test_a_statement_is_of_the_digest_and_names_commit_and_locks() -> None:
    statement = json.loads(attestation.document(NAME, DIGEST, COMMIT, False, INPUTS))

    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "registry.example.com:5000/ome/status", "digest": {"sha256": "ab" * 32}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"image": NAME}
    assert definition["resolvedDependencies"] == [
        {"name": "source", "digest": {"gitCommit": COMMIT}},
        {"name": "a.lock", "digest": {"sha256": hashlib.sha256(b"one").hexdigest()}},
        {"name": "b.lock", "digest": {"sha256": hashlib.sha256(b"two").hexdigest()}},
    ]


def test_the_same_commit_gives_the_same_statement() -> None:
    reverse = dict(reversed(INPUTS.items()))
    one = attestation.document(NAME, DIGEST, COMMIT, False, INPUTS)
    assert one == attestation.document(NAME, DIGEST, COMMIT, False, reverse)


def test_what_was_built_from_changed_files_or_from_no_commit_says_so() -> None:
    for revision, changed in ((COMMIT, True), ("", False)):
        statement = json.loads(attestation.document(NAME, DIGEST, revision, changed, {}))
        (source,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        assert source["annotations"] == {"reproducible": False}
        assert source.get("digest") == ({"gitCommit": revision} if revision else None)
