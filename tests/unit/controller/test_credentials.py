"""Whose secret a node may have: that of a model that it holds, or whose source it may be asked to list."""

from pathlib import Path
from typing import Any

import pytest

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.chassis.health import Health
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.loop import Reconciler
from services.controller.settings import Settings
from services.controller.specification import read_model, source_of

NODE = "n1"
SETTINGS = Settings(
    namespace="ome",
    pod_name="controller-1",
    nats_url="nats://127.0.0.1:4222",
    nats_password_file=Path("password"),
    nats_issuer_seed_file=Path("seed"),
    parser_image="ome/parser",
)


def private_model(uri: str = "hf://org/private", **changes: Any) -> dict[str, Any]:
    metadata = {"name": "m", "uid": "u", "resourceVersion": "1", **changes.pop("metadata", {})}
    spec = {"storage": {"storageUri": uri, "storageKey": "token"}, **changes}
    return {"kind": "ClusterBaseModel", "metadata": metadata, "spec": spec}


@pytest.fixture
def reconciler() -> Reconciler:
    known = Reconciler(SETTINGS, Health())
    known.heartbeats.remember(names.node_token(NODE), 1, fetch_pb2.NodeHeartbeat(node=NODE))
    return known


def lists(reconciler: Reconciler, item: dict[str, Any], **found: Any) -> None:
    source = source_of(read_model(item), "ome")
    assert source is not None
    reconciler.resolved.remember(source.key, 1, fetch_pb2.Resolution(attempt=1, **found))


def test_a_node_may_have_the_secret_of_a_source_that_is_to_be_listed_before_any_plan_is_stored(
    reconciler: Reconciler,
) -> None:
    reconciler.model_changed(None, private_model())
    assert reconciler.model_for_credentials(NODE, "u") is not None


def test_a_changed_source_may_be_listed_although_the_plan_of_the_old_one_stands(reconciler: Reconciler) -> None:
    before, after = private_model(), private_model("hf://org/other")
    reconciler.model_changed(None, before)
    lists(reconciler, before, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    assert reconciler.model_for_credentials(NODE, "u") is None
    reconciler.model_changed(before, after)
    assert reconciler.model_for_credentials(NODE, "u") is not None


def test_a_node_that_must_hold_the_model_may_have_its_secret_after_the_listing(reconciler: Reconciler) -> None:
    item = private_model()
    reconciler.model_changed(None, item)
    lists(reconciler, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    key = names.node_key(NODE, "u")
    reconciler.desired.remember(key, 1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD))
    assert reconciler.model_for_credentials(NODE, "u") is not None
    reconciler.desired.remember(key, 2, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_ABSENT))
    assert reconciler.model_for_credentials(NODE, "u") is None


def test_a_source_that_was_read_in_place_may_be_listed_anew_with_the_secret_that_a_driver_wants(
    reconciler: Reconciler,
) -> None:
    item = private_model("vendor://acme/models/m")
    reconciler.model_changed(None, item)
    lists(reconciler, item, artifact=model_pb2.Artifact())
    assert reconciler.model_for_credentials(NODE, "u") is not None


def test_a_node_that_asks_before_its_assignment_is_known_here_is_believed_what_is_stored(
    reconciler: Reconciler,
) -> None:
    item = private_model()
    reconciler.model_changed(None, item)
    lists(reconciler, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    stored = {goal: fetch_pb2.Assignment(goal=goal) for goal in (fetch_pb2.GOAL_HOLD, fetch_pb2.GOAL_ABSENT)}
    assert reconciler.model_for_credentials(NODE, "u") is None
    assert reconciler.model_for_credentials(NODE, "u", stored[fetch_pb2.GOAL_HOLD]) is not None
    assert reconciler.model_for_credentials(NODE, "u", stored[fetch_pb2.GOAL_ABSENT]) is None
    assert reconciler.model_for_credentials(NODE, "u", fetch_pb2.Assignment()) is None


def test_a_source_that_a_node_has_lost_may_be_listed_again_by_any_node(reconciler: Reconciler) -> None:
    item = private_model()
    reconciler.model_changed(None, item)
    lists(reconciler, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    key = names.node_key("n2", "u")
    reconciler.desired.remember(key, 1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD, content_digest="c"))
    state = fetch_pb2.NodeModelState(content_digest="c")
    reconciler.observed.remember(key, 1, state)
    reconciler.holder_changed(key)
    assert reconciler.model_for_credentials(NODE, "u") is None
    state.problem.reason = model_pb2.REASON_NOT_FOUND
    assert reconciler.model_for_credentials(NODE, "u") is not None


@pytest.mark.parametrize(
    "changes", [{"disabled": True}, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"storage": None}]
)
def test_nobody_gets_the_secret_of_a_model_that_nobody_is_to_fetch(
    reconciler: Reconciler, changes: dict[str, Any]
) -> None:
    reconciler.model_changed(None, private_model(**changes))
    assert reconciler.model_for_credentials(NODE, "u") is None


def test_a_node_that_does_not_report_gets_nothing_to_list_with(reconciler: Reconciler) -> None:
    reconciler.model_changed(None, private_model())
    assert reconciler.model_for_credentials("n2", "u") is None


def test_a_source_that_cannot_be_understood_is_refused_with_its_reason(reconciler: Reconciler) -> None:
    reconciler.model_changed(None, private_model("ftp://host/model"))
    with pytest.raises(InvalidValue, match="must begin with"):
        reconciler.model_for_credentials(NODE, "u")


@pytest.mark.parametrize("uri", ["s3://bucket/model", "gs://bucket/model", "az://container/model"])
def test_a_bucket_is_listed_with_every_key_of_the_secret(uri: str) -> None:
    source = source_of(read_model(private_model(uri)), "ome")
    assert source is not None
    assert source.needs_listing
    assert source.source.has_secret
    assert source.secret is not None
    assert (source.secret.namespace, source.secret.name, source.secret.key) == ("ome", "token", "")
