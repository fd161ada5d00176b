"""Whose secret a node may have: that of a model that it holds, or whose source it may be asked to list."""

from pathlib import Path
from typing import Any

import pytest

from libs.artifact import names
from libs.artifact.errors import InvalidValue
from libs.chassis.health import Health
from ome.fetch.v1 import fetch_pb2
from ome.model.v1 import model_pb2
from services.controller.observations import Observations
from services.controller.settings import Settings
from services.controller.specification import read_model, source_of

NODE = "n1"
SETTINGS = Settings(
    namespace="ome",
    pod_name="controller-1",
    nats_url="nats://127.0.0.1:4222",
    nats_password_file=Path("password"),
    parser_image="ome/parser",
)


def private_model(uri: str = "hf://org/private", **changes: Any) -> dict[str, Any]:
    metadata = {"name": "m", "uid": "u", "resourceVersion": "1", **changes.pop("metadata", {})}
    spec = {"storage": {"storageUri": uri, "storageKey": "token"}, **changes}
    return {"kind": "ClusterBaseModel", "metadata": metadata, "spec": spec}


@pytest.fixture
def observations() -> Observations:
    return Observations(SETTINGS, Health(), lambda _: None, lambda *_: None, lambda _: None)


def lists(observations: Observations, item: dict[str, Any], **found: Any) -> None:
    source = source_of(read_model(item), "ome")
    assert source is not None
    observations.resolved.remember(source.key, 1, fetch_pb2.Resolution(attempt=1, **found))


def test_who_lists_may_have_the_secret_of_a_source_that_is_to_be_listed_and_no_node(
    observations: Observations,
) -> None:
    observations.model_changed(None, private_model())
    assert observations.model_for_listing("u") is not None
    assert observations.model_for_credentials(NODE, "u") is None


def test_a_changed_source_may_be_listed_although_the_plan_of_the_old_one_stands(observations: Observations) -> None:
    before, after = private_model(), private_model("hf://org/other")
    observations.model_changed(None, before)
    lists(observations, before, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    assert observations.model_for_listing("u") is None
    observations.model_changed(before, after)
    assert observations.model_for_listing("u") is not None


def test_a_node_that_must_hold_the_model_may_have_its_secret_after_the_listing(observations: Observations) -> None:
    item = private_model()
    observations.model_changed(None, item)
    lists(observations, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    key = names.node_key(NODE, "u")
    observations.desired.remember(key, 1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD))
    assert observations.model_for_credentials(NODE, "u") is not None
    observations.desired.remember(key, 2, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_ABSENT))
    assert observations.model_for_credentials(NODE, "u") is None


def test_a_source_that_was_read_in_place_may_be_listed_anew_with_the_secret_that_a_driver_wants(
    observations: Observations,
) -> None:
    item = private_model("vendor://acme/models/m")
    observations.model_changed(None, item)
    lists(observations, item, artifact=model_pb2.Artifact())
    assert observations.model_for_listing("u") is not None


def test_a_node_that_asks_before_its_assignment_is_known_here_is_believed_what_is_stored(
    observations: Observations,
) -> None:
    item = private_model()
    observations.model_changed(None, item)
    lists(observations, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    stored = {goal: fetch_pb2.Assignment(goal=goal) for goal in (fetch_pb2.GOAL_HOLD, fetch_pb2.GOAL_ABSENT)}
    assert observations.model_for_credentials(NODE, "u") is None
    assert observations.model_for_credentials(NODE, "u", stored[fetch_pb2.GOAL_HOLD]) is not None
    assert observations.model_for_credentials(NODE, "u", stored[fetch_pb2.GOAL_ABSENT]) is None
    assert observations.model_for_credentials(NODE, "u", fetch_pb2.Assignment()) is None


def test_a_source_that_a_node_has_lost_may_be_listed_again(observations: Observations) -> None:
    item = private_model()
    observations.model_changed(None, item)
    lists(observations, item, artifact=model_pb2.Artifact(digest="sha256:" + "a" * 64))
    key = names.node_key("n2", "u")
    observations.desired.remember(key, 1, fetch_pb2.Assignment(goal=fetch_pb2.GOAL_HOLD, content_digest="c"))
    state = fetch_pb2.NodeModelState(content_digest="c")
    observations.observed.remember(key, 1, state)
    observations.holder_changed(key)
    assert observations.model_for_listing("u") is None
    state.problem.reason = model_pb2.REASON_NOT_FOUND
    assert observations.model_for_listing("u") is not None


@pytest.mark.parametrize(
    "changes", [{"disabled": True}, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"storage": None}]
)
def test_nobody_gets_the_secret_of_a_model_that_nobody_is_to_fetch(
    observations: Observations, changes: dict[str, Any]
) -> None:
    observations.model_changed(None, private_model(**changes))
    assert observations.model_for_listing("u") is None
    assert observations.model_for_credentials(NODE, "u") is None


def test_a_source_that_cannot_be_understood_is_refused_with_its_reason(observations: Observations) -> None:
    observations.model_changed(None, private_model("ftp://host/model"))
    with pytest.raises(InvalidValue, match="must begin with"):
        observations.model_for_listing("u")


@pytest.mark.parametrize("uri", ["s3://bucket/model", "gs://bucket/model", "az://container/model"])
def test_a_bucket_is_listed_with_every_key_of_the_secret(uri: str) -> None:
    source = source_of(read_model(private_model(uri)), "ome")
    assert source is not None
    assert source.needs_listing
    assert source.source.has_secret
    assert source.secret is not None
    assert (source.secret.namespace, source.secret.name, source.secret.key) == ("ome", "token", "")
