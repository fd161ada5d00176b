"""Which hosts may have the credentials of a model, and what a person is told of those that may not."""

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing
from ome.fetch.v1.fetch_pb2 import Source
from services.controller.destinations import DestinationRules, check_secret, check_transport

RULES = DestinationRules("http://mirror.lab:8080/hub", "https://ms.lab", ("*.lab", "10.0.0.7"))


def source(uri: str, endpoint: str = "") -> Source:
    return Source(uri=uri, parameters={"endpoint": endpoint} if endpoint else {})


def refusal(uri: str, endpoint: str = "", kind: str = "Opaque", allowed: str = "") -> str:
    """What is said when the Secret is not sent; empty when it is."""
    try:
        check_secret("team-a/s", kind, {"models.ome.io/allowed-hosts": allowed}, source(uri, endpoint), RULES)
    except Missing as error:
        return error.message if error.reason is Reason.SECRET_REFUSED else f"another reason: {error.reason}"
    return ""


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("hf://o/m", "http://mirror.lab:8080"),
        ("hf://o/m", "http://mirror.lab:8080/another/path"),
        ("ms://o/m", "https://ms.lab"),
        ("ms://o/m", "https://modelscope.cn"),
        ("s3://b/m", "https://s3.amazonaws.com"),
        ("s3://b/m", "https://s3-us-west-2.amazonaws.com"),
        ("s3://b/m", "https://b.s3.dualstack.us-gov-east-1.amazonaws.com"),
        ("s3://b/m", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("gs://b/m", "https://storage.googleapis.com"),
        ("az://c/m", "https://acme.z12.blob.core.windows.net"),
        ("oci://n/ns/b/b/o/m", "https://objectstorage.us-phoenix-1.oraclecloud.com"),
        ("vendor://acme/models/m", "https://anywhere.example"),
    ],
)
def test_a_secret_goes_to_the_hosts_of_its_kind_of_source_and_to_the_operators(uri: str, endpoint: str) -> None:
    assert refusal(uri, endpoint) == ""


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("ms://o/m", "https://huggingface.co"),
        ("hf://o/m", "https://mirror.lab:8080"),
        ("hf://o/m", "http://mirror.lab:9090"),
        ("s3://b/m", "http://mirror.lab:8080"),
        ("s3://b/m", "https://s3.amazonaws.com.thief.example"),
        ("s3://b/m", "https://evils3.amazonaws.com"),
        ("s3://b/m", "https://abc.execute-api.us-east-1.amazonaws.com"),
        ("gs://b/m", "https://googleapis.com.thief.example"),
        ("az://c/m", "https://blob.core.windows.net.thief.example"),
        ("az://c/m", "https://thief.azurewebsites.net"),
        ("oci://n/ns/b/b/o/m", "https://objectstorage.us-phoenix-1.thief.com"),
        ("oci://n/ns/b/b/o/m", "https://x.apigateway.us-phoenix-1.oci.customer-oci.com"),
    ],
)
def test_it_goes_nowhere_else_unless_it_says_so_itself(uri: str, endpoint: str) -> None:
    host = endpoint.partition("://")[2].partition(":")[0]
    said = refusal(uri, endpoint)
    assert f"allow it by the annotation models.ome.io/allowed-hosts: {host}" in said
    assert refusal(uri, endpoint, allowed=host) == ""


def test_plain_http_needs_the_operators_word_whatever_the_secret_says() -> None:
    for endpoint in ("http://minio.example", "http://10.0.0.8:9000"):
        assert "credentials.insecureHosts of the controller's chart" in refusal(
            "s3://b/m", endpoint, allowed="minio.example,10.0.0.8"
        )
    assert refusal("s3://b/m", "http://10.0.0.7:9000", allowed="10.0.0.7") == ""
    assert "allowed-hosts" in refusal("s3://b/m", "http://10.0.0.7:9000")


def test_a_token_in_the_parameters_is_its_authors_but_for_plain_http() -> None:
    check_transport(source("hf://o/m", "https://anywhere.example"), RULES)
    with pytest.raises(Missing, match="begins with http://"):
        check_transport(source("hf://o/m", "http://anywhere.example"), RULES)


def test_an_endpoint_that_is_none_is_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidValue, match="must be a URL such as") as caught:
        refusal("s3://b/m", "https://thief.example\\@s3.amazonaws.com")
    assert "thief" not in caught.value.message


def test_the_type_of_a_secret_is_not_told() -> None:
    said = refusal("s3://b/m", kind="helm.sh/release.v1")
    assert "of a type that no model may use" in said
    assert "helm" not in said
