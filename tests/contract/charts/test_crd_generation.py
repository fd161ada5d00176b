"""The CRDs of the chart are what their description says, and every field explains itself."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.crd.generate import FILES, TEMPLATES, definitions, manifests, optional_manifests
from deploy.crd.storage import storage
from libs.artifact.errors import InvalidValue
from services.controller.specification import read_model, source_of

_KINDS = [definition["spec"]["names"]["kind"] for definition in definitions()]
# The API server describes these by itself.
_STANDARD_FIELDS = ("apiVersion", "kind", "metadata")


def _schema(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        if path or name not in _STANDARD_FIELDS:
            yield from _nodes(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from _nodes(schema[inner], f"{path}[]")


@pytest.mark.parametrize("name", sorted(manifests()))
def test_the_chart_holds_what_the_generator_writes(name: str) -> None:
    assert (TEMPLATES / name).read_text() == manifests()[name], "run: python -m deploy.crd.generate"


def test_the_optional_definition_is_what_the_generator_writes() -> None:
    assert {path.name: path.read_text() for path in FILES.iterdir()} == optional_manifests()


def test_the_chart_holds_no_definition_that_the_generator_does_not_write() -> None:
    assert {path.name for path in TEMPLATES.glob("ome.io_*.yaml")} == set(manifests())


@pytest.mark.parametrize("content", manifests().values(), ids=manifests())
def test_helm_finds_nothing_to_expand_in_a_definition(content: str) -> None:
    assert "{{" not in content


@pytest.mark.parametrize("definition", definitions(), ids=_KINDS)
def test_every_field_has_a_description_that_is_a_sentence(definition: dict[str, Any]) -> None:
    for path, schema in _nodes(_schema(definition)):
        description = schema.get("description", "")
        assert description[:1].isupper() or description.startswith(
            ("metadata.", "model_type")
        ), f"{path}: {description!r}"
        assert description.endswith("."), f"{path}: {description!r}"


@pytest.mark.parametrize("definition", definitions(), ids=_KINDS)
def test_every_rule_has_a_message_for_people(definition: dict[str, Any]) -> None:
    for path, schema in _nodes(_schema(definition)):
        for rule in schema.get("x-kubernetes-validations", []):
            assert rule["message"].split()[0].islower() or rule["message"].split()[0] in {
                "storageKey",
                "secretKey",
                "secretNamespace",
                "parameters.auth_type",
                "parameters.revision",
                "followIntervalSeconds",
                "revisionPolicy:",
                "pauseSeconds",
            }, f"{path}: {rule['message']}"


def test_the_kinds_differ_in_storage_only_by_what_scope_means() -> None:
    base, cluster, weight = (
        _schema(definition)["properties"]["spec"]["properties"]["storage"] for definition in definitions()
    )

    assert cluster == weight
    assert base.keys() == cluster.keys()
    assert base["properties"].keys() == cluster["properties"].keys()
    assert {name for name, field in base["properties"].items() if field != cluster["properties"][name]} == {
        "storageUri",
        "storageKey",
    }


def test_the_kinds_share_one_status_but_for_what_ties_weights_to_their_base() -> None:
    base, cluster, weights = (_schema(definition)["properties"]["status"]["properties"] for definition in definitions())

    assert base == cluster
    assert base.keys() - weights.keys() == {"fineTunedWeights"}
    assert weights.keys() - base.keys() == {"base", "weights"}
    assert all(field == weights[name] for name, field in base.items() if name in weights)


def test_the_schema_and_the_controller_agree_on_names_of_parameters_that_hold_credentials() -> None:
    schema = storage(cluster_scoped=True)["properties"]["parameters"]
    [rule] = [rule["rule"] for rule in schema["x-kubernetes-validations"] if "exists(name" in rule["rule"]]
    pattern = re.compile(rule.partition("matches('")[2].partition("')")[0])

    def is_refused(name: str) -> bool:
        spec = {"storage": {"storageUri": "hf://org/model", "parameters": {name: "ome"}}}
        try:
            source_of(
                read_model({"kind": "ClusterBaseModel", "metadata": {"name": "m", "uid": "u"}, "spec": spec}), "ome"
            )
        except InvalidValue as refused:
            return "holds credentials" in refused.message
        return False

    for name in ("secretKey", "secretNamespace", "token", "region", "account_name", "auth_type", "cache_dir"):
        assert (bool(pattern.search(name)), is_refused(name)) == (False, False), name
    for name in ("hf_token", "apiKey", "api-key", "access_token", "secret_key", "secret-access-key", "client-secret"):
        assert (bool(pattern.search(name)), is_refused(name)) == (True, True), name
    for name in ("password", "privateKey", "private_key", "AccountKey", "clientSecret", "sas_token", "sessionToken"):
        assert (bool(pattern.search(name)), is_refused(name)) == (True, True), name
