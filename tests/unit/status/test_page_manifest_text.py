"""What of a pasted text is taken for a manifest, and that none costs much more than its length."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.errors import Invalid
from services.status.page.manifest_text import manifest_json

MANIFEST = """
apiVersion: ome.io/v1beta1
kind: ClusterBaseModel
metadata: {name: llama, annotations: {since: 2026-01-01}}
spec:
  storage: {storageUri: "hf://org/llama"}
  disabled: off
"""


def test_yaml_becomes_json_as_kubectl_reads_it_and_dates_stay_texts() -> None:
    assert json.loads(manifest_json(MANIFEST)) == {
        "apiVersion": "ome.io/v1beta1",
        "kind": "ClusterBaseModel",
        "metadata": {"name": "llama", "annotations": {"since": "2026-01-01"}},
        "spec": {"storage": {"storageUri": "hf://org/llama"}, "disabled": False},
    }


def test_json_is_taken_as_it_is_and_what_a_browser_sends_as_well() -> None:
    assert json.loads(manifest_json('{"kind": "BaseModel"}')) == {"kind": "BaseModel"}
    assert manifest_json(MANIFEST.replace("\n", "\r\n")) == manifest_json(MANIFEST)
    assert manifest_json(f"---{MANIFEST}---\n") == manifest_json(MANIFEST)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one model"),
        ("- kind: BaseModel", "one model"),
        ("kind: BaseModel\n---\nkind: BaseModel\n", "one model"),
        ("kind: x\n  y: {", "no YAML in line 2"),
        ("kind: \x07", "no YAML"),
        ("a: &a [1]\nb: [*a, *a]", "refers to parts of itself"),
        ("[" * 20_000, "too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "no YAML"),
        ("a: !!binary aGk=", "JSON cannot hold"),
        ("a: .nan", "JSON cannot hold"),
        ("a: " + "1" * 20_000, "no YAML"),
        ("a: " + "x" * 50_000, "more than 48 KiB"),
        ("a: 0x" + "f" * 20_000, "no YAML"),
        ('a: !!int ""', "no YAML"),
        ('a: !!float "-"', "no YAML"),
        ("!!bool maybe: 1", "no YAML"),
        ("{" + ",".join(f"a{number}" for number in range(8000)) + "}", "more parts"),
        ("<<: [" + ",".join(f"{{a{number}: 1}}" for number in range(4000)) + "]", "more parts"),
    ],
)
def test_what_is_no_manifest_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        manifest_json(text)
    assert words in refused.value.message


@pytest.mark.parametrize("number", ["1:1", "59:" * 15_000 + "59", "59:" * 15_000 + "59.5"])
def test_what_yaml_takes_for_a_number_on_base_60_is_a_text_as_for_kubectl(number: str) -> None:
    assert json.loads(manifest_json(f"a: {number}")) == {"a": number}


@given(st.text(st.characters(codec=None, categories=None), max_size=300))
def test_whatever_is_pasted_is_json_or_refused(text: str) -> None:
    try:
        made = manifest_json(text)
    except Invalid:
        return
    assert isinstance(json.loads(made), dict)
