"""What services of an earlier commit have stored and put on disk is read now as it was meant then. See record.py."""

import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from libs.artifact import names
from libs.model.manifest_codec import checked_manifest
from ome.fetch.v1 import fetch_pb2
from services.fetcher.stop import StopFlag
from tests.contract.versions.record import DATA, MESSAGES
from tests.support.transfers import contents_of, new_store

VALUES: dict[str, dict[str, Any]] = json.loads((DATA / "buckets.json").read_text())["values"]


@pytest.mark.parametrize("bucket", MESSAGES)
def test_a_value_of_an_earlier_service_means_what_it_meant(bucket: str) -> None:
    message = getattr(fetch_pb2, MESSAGES[bucket])
    assert VALUES[bucket]
    for value in VALUES[bucket].values():
        assert MessageToDict(message.FromString(base64.b64decode(value["bytes"]))) == value["fields"]


def test_a_manifest_of_an_earlier_resolver_has_the_digest_that_it_is_named_by() -> None:
    assigned = {
        value["fields"]["artifact"]["digest"]
        for value in VALUES[names.DESIRED_BUCKET].values()
        if "artifact" in value["fields"]
    }
    stored = VALUES[names.MANIFESTS_BUCKET]
    assert assigned
    assert assigned <= set(stored)
    for digest, value in stored.items():
        assert checked_manifest(digest, base64.b64decode(value["bytes"])).digest == digest


def test_a_model_root_of_an_earlier_fetcher_is_taken_over_without_a_change(tmp_path: Path) -> None:
    with tarfile.open(DATA / "models.tar.gz") as tar:
        tar.extractall(tmp_path, filter="tar")
    root = tmp_path / "models"
    before = contents_of(root / "recorded")

    with new_store(root) as store:
        [publication] = store.publications().values()
        assert store.check(publication.digest) == ()
        assert store.is_whole(publication.digest)
        assert store.scrub(publication.digest, StopFlag()) == ()
        assert {file.path for file in store.manifest(publication.digest).files} == set(before)
        assert store.collect([publication.digest]) == []

    assert contents_of(root / "recorded") == before
    assert publication.path == "recorded"
