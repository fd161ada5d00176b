"""Names of labels and of ConfigMap keys."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.labels import is_model_label
from ome.model.v1.model_pb2 import (
    MODEL_KIND_BASE_MODEL,
    MODEL_KIND_CLUSTER_BASE_MODEL,
    MODEL_KIND_FINE_TUNED_WEIGHT,
    ModelRef,
)
from services.status.labels import data_key, readable_label, uid_label

UID = "0b6e4cf5-9a55-4b0a-8f1f-3d6f0e1c2a11"
# The name part of a qualified name, from k8s.io/apimachinery/pkg/util/validation.
LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
DNS_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
DNS_SUBDOMAIN = st.lists(DNS_LABEL, min_size=1, max_size=3).map(".".join)
MODELS = st.one_of(
    st.builds(ModelRef, kind=st.just(MODEL_KIND_BASE_MODEL), namespace=DNS_LABEL, name=DNS_SUBDOMAIN),
    st.builds(ModelRef, kind=st.just(MODEL_KIND_CLUSTER_BASE_MODEL), name=DNS_SUBDOMAIN),
    st.builds(ModelRef, kind=st.just(MODEL_KIND_FINE_TUNED_WEIGHT), name=DNS_SUBDOMAIN),
)


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="llama-3"), "models.ome.io/clusterbasemodel.llama-3"),
        (ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace="team-a", name="x"), "models.ome.io/team-a.basemodel.x"),
        (ModelRef(kind=MODEL_KIND_FINE_TUNED_WEIGHT, name="lora"), "models.ome.io/finetunedweight.lora"),
    ],
)
def test_short_names_are_readable(model: ModelRef, label: str) -> None:
    assert readable_label(model) == label


def test_a_long_name_keeps_its_head_and_ends_in_a_hash() -> None:
    label = readable_label(ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="llama-3-3-70b-instruct-" + "x" * 200))

    assert label.startswith("models.ome.io/clusterbasemodel.llama-3-3-70b-instruct-")
    assert re.search(r"-[0-9a-f]{10}$", label)


def test_long_names_that_begin_alike_have_different_labels() -> None:
    labels = {readable_label(ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="x" * 100 + end)) for end in "ab"}

    assert len(labels) == 2


@given(MODELS)
def test_every_label_is_one_that_kubernetes_takes_and_that_we_know_again(model: ModelRef) -> None:
    label = readable_label(model)
    prefix, _, name = label.partition("/")

    assert prefix == "models.ome.io"
    assert len(name) <= 63
    assert LABEL_NAME.fullmatch(name)
    assert is_model_label(label)


@given(MODELS)
def test_every_data_key_is_one_that_a_config_map_takes(model: ModelRef) -> None:
    assert len(data_key(model)) <= 253
    assert re.fullmatch(r"[-._a-zA-Z0-9]+", data_key(model))


def test_the_label_by_uid_is_the_seeds() -> None:
    assert uid_label(UID) == f"models.ome/{UID}"
    assert is_model_label(uid_label(UID))


@pytest.mark.parametrize(
    "key",
    [
        "models.ome.io/storage-tier",
        "models.ome.io/available-storage",
        "models.ome/basemodel-status",
        "kubernetes.io/hostname",
        "example.com/clusterbasemodel.x",
    ],
)
def test_labels_of_others_are_never_ours(key: str) -> None:
    assert not is_model_label(key)
