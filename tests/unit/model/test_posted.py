"""What is a manifest of a model, and of which."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.errors import Invalid
from libs.model.posted import MANIFEST_BYTES, posted_ref, read_manifest
from ome.model.v1.model_pb2 import MODEL_KIND_BASE_MODEL, MODEL_KIND_CLUSTER_BASE_MODEL, ModelRef

VERSION = "ome.io/v1beta1"


def manifest(kind: Any = "ClusterBaseModel", version: Any = VERSION, **metadata: Any) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata})


def test_a_manifest_names_its_model() -> None:
    item = read_manifest(manifest("BaseModel", name="llama", namespace="team-a", uid="of another"))
    assert posted_ref(item) == ModelRef(kind=MODEL_KIND_BASE_MODEL, namespace="team-a", name="llama")
    item = read_manifest(manifest(name="llama-3.1", namespace=""))
    assert posted_ref(item) == ModelRef(kind=MODEL_KIND_CLUSTER_BASE_MODEL, name="llama-3.1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        manifest("Pod", name="x"),
        manifest(["ClusterBaseModel"], name="x"),
        manifest(version="v1", name="x"),
        manifest("BaseModel", name="x"),
        manifest("BaseModel", name="x", namespace=["team-a"]),
        manifest(name="x", namespace="y"),
        manifest(name="x", namespace="Not a name"),
        manifest(name="x", namespace=0),
        manifest(name=5),
        manifest(name="x/../y"),
        manifest(name="x\n"),
        manifest(name="\u217d"),
        manifest(name="\ud800"),
        json.dumps({"apiVersion": VERSION, "kind": "ClusterBaseModel", "metadata": [1]}),
        manifest(name="x", labels={"a": "y" * MANIFEST_BYTES}),
        "\ud800",
    ],
    ids=range(20),
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_manifest(text)


@given(st.text() | st.recursive(st.none() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_whatever_is_sent_ends_in_an_answer(sent: Any) -> None:
    for text in (str(sent), json.dumps(sent), manifest(name=sent), manifest(sent, name="x"), manifest(namespace=sent)):
        try:
            posted_ref(read_manifest(text))
        except Invalid:
            continue
