"""Model URIs: what is understood, and what is said of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.artifact.uri import (
    AUTH_TYPES,
    CREDENTIAL_PARAMETERS,
    SCHEMES,
    SYNTAXES,
    BucketUri,
    HuggingFaceUri,
    LocalUri,
    ModelScopeUri,
    ModelUri,
    OracleUri,
    Syntax,
    VendorUri,
    VolumeClaimUri,
    allows_incomplete,
    check_parameters,
    named_auth_type,
    parse_uri,
)

UNDERSTOOD = {
    "hf://meta-llama/Llama-3.3-70B-Instruct": HuggingFaceUri("meta-llama/Llama-3.3-70B-Instruct", ""),
    "hf://gpt2": HuggingFaceUri("gpt2", ""),
    "hf://org/model@refs/pr/1": HuggingFaceUri("org/model", "refs/pr/1"),
    "ms://Qwen/Qwen2.5-7B-Instruct": ModelScopeUri("Qwen/Qwen2.5-7B-Instruct", ""),
    "ms://Qwen/Qwen2.5-7B-Instruct@v1.0": ModelScopeUri("Qwen/Qwen2.5-7B-Instruct", "v1.0"),
    "oci://n/mycompany/b/ai-models/o/llama/llama-3-70b/": OracleUri("mycompany", "ai-models", "llama/llama-3-70b"),
    "oci://n/ns/b/bucket/o/": OracleUri("ns", "bucket", ""),
    "pvc://model-storage/llama/70b": VolumeClaimUri("", "model-storage", "llama/70b"),
    "pvc://team:model-storage/llama": VolumeClaimUri("team", "model-storage", "llama"),
    "vendor://nvidia/models/llama-70b-tensorrt": VendorUri("nvidia", "models", "llama-70b-tensorrt"),
    "local:///models/llama/": LocalUri("/models/llama"),
    "s3://bucket/a//b": BucketUri("s3", "bucket", "a/b"),
    "gs://bucket": BucketUri("gs", "bucket", ""),
    "s3://bucket/my%20models/llama": BucketUri("s3", "bucket", "my models/llama"),
    "gs://bucket/100%25/a?b#c&d=e+f": BucketUri("gs", "bucket", "100%/a?b#c&d=e+f"),
    "az://container/m%C3%B6del/mödel": BucketUri("az", "container", "mödel/mödel"),
    "oci://n/ns/b/bucket/o/my%20models/%5Ba%5D/": OracleUri("ns", "bucket", "my models/[a]"),
    "pvc://claim/my%20models": VolumeClaimUri("", "claim", "my models"),
    "vendor://acme/models/a%20b": VendorUri("acme", "models", "a b"),
    "local:///models/my%20model": LocalUri("/models/my model"),
}


@pytest.mark.parametrize(("text", "uri"), UNDERSTOOD.items(), ids=UNDERSTOOD.keys())
def test_uri_is_understood(text: str, uri: object) -> None:
    assert parse_uri(text) == uri


REFUSED = {
    "": "must begin with one of hf://",
    "https://huggingface.co/a/b": "must begin with one of hf://",
    "HF://a/b": "must begin with one of hf://",
    "hf://": "hf://<organisation>/<model>",
    "hf://a/b/c": "hf://<organisation>/<model>",
    "hf://../b": "hf://<organisation>/<model>",
    "hf://a/b@": "must name a Git branch, tag or commit after the @",
    "hf://a/b@../x": "must name a Git branch, tag or commit after the @",
    "hf://a/b c": "must not contain spaces or control characters",
    "hf://a/b%20c": "hf://<organisation>/<model>",
    "s3://bucket/my models": "write %20 for a space",
    "s3://bucket/100%": "must have two digits from 0 to F behind each '%', as in %20 for a space and %25 for '%'",
    "s3://bucket/%zz": "must have two digits",
    "gs://bucket/a%2Fb": "'.' and '/' stand for themselves",
    "oci://n/a/b/c/o/%2e%2e/x": "'.' and '/' stand for themselves",
    "local:///models/%2E%2E/etc": "'.' and '/' stand for themselves",
    "pvc://claim/a%0Ab": "control characters for nothing",
    "az://container/%7F": "control characters for nothing",
    "s3://bucket/%FF": "must have characters of UTF-8",
    "s3://b%20c/x": "must name a bucket",
    "ms://Qwen": "ms://<owner>/<model>",
    "ms://Qwen/a/b": "ms://<owner>/<model>",
    "ms://Qwen/a..b": "ms://<owner>/<model>",
    "ms://Qwen/a@b..c": "must name a Git branch, tag or commit after the @",
    "oci://bucket/path": "oci://n/<namespace>/b/<bucket>/o/",
    "oci://n/a/b/c/o/../x": "'..'",
    "pvc://": "pvc://<claim>/<path>",
    "pvc://A:b/x": "pvc://<claim>/<path>",
    "vendor://nvidia/models": "vendor://<vendor>/<resource type>/<resource path>",
    "local://models": "three slashes",
    "local:///": "an absolute path",
    "local:///models/../etc": "'..'",
    "s3:///key": "must name a bucket, as in s3://my-bucket/llama-3-70b",
    "s3://AKIA:secret@bucket/key": "put credentials into a Secret",
    "az://account.blob.core.windows.net:443/container": "must name a container",
}


@pytest.mark.parametrize(("text", "says"), REFUSED.items(), ids=REFUSED.keys())
def test_uri_that_cannot_be_used_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_uri(text)
    assert says in refused.value.message
    assert refused.value.reason == "InvalidUri"


@given(st.sampled_from(SCHEMES), st.text())
def test_any_text_is_understood_or_refused_and_never_holds_a_parent(scheme: str, rest: str) -> None:
    answer = answer_to(f"{scheme}://{rest}")
    if isinstance(answer, InvalidValue):
        assert answer.reason == "InvalidUri"
        assert scheme in answer.message
    else:
        assert ".." not in [part for value in vars(answer).values() for part in value.split("/")]


def answer_to(text: str) -> ModelUri | InvalidValue:
    try:
        return parse_uri(text)
    except InvalidValue as refusal:
        return refusal


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)


@given(_NAMES, _NAMES, st.lists(_NAMES, min_size=1, max_size=4))
def test_every_plain_name_is_understood_in_every_scheme(first: str, second: str, rest: list[str]) -> None:
    path = "/".join(rest)
    assert parse_uri(f"hf://{first}/{second}@{path}") == HuggingFaceUri(f"{first}/{second}", path)
    assert parse_uri(f"oci://n/{first}/b/{second}/o/{path}") == OracleUri(first, second, path)
    assert parse_uri(f"pvc://{first}:{second}/{path}") == VolumeClaimUri(first, second, path)
    assert parse_uri(f"vendor://{first}/{second}/{path}") == VendorUri(first, second, path)
    assert parse_uri(f"local:///{path}") == LocalUri(f"/{path}")
    assert parse_uri(f"s3://{first}/{path}") == BucketUri("s3", first, path)


EXAMPLES = {syntax.scheme: syntax.conditions[0].sentence.partition("as in ")[2] for syntax in SYNTAXES}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=SCHEMES)
def test_the_sentence_of_a_scheme_gives_an_example_that_is_understood(syntax: Syntax) -> None:
    example = EXAMPLES[syntax.scheme].partition(",")[0].partition(";")[0]
    assert example.startswith(f"{syntax.scheme}://")
    parse_uri(example)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=SCHEMES)
def test_a_scheme_knows_its_own_parameters_and_those_about_credentials(syntax: Syntax) -> None:
    names = [parameter.name for parameter in syntax.parameters or ()]
    assert len(set(names)) == len(names)
    spellings = [parameter.spelling_of for parameter in syntax.parameters or ()]
    usual = [name for name in names if name not in spellings]
    check_parameters(f"{syntax.scheme}://x", dict.fromkeys((*usual, *CREDENTIAL_PARAMETERS), "true"))
    check_parameters(f"{syntax.scheme}://x", dict.fromkeys(filter(None, spellings), "true"))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=SCHEMES)
def test_every_source_may_be_used_although_it_is_incomplete_and_says_so_in_one_way(syntax: Syntax) -> None:
    uri = f"{syntax.scheme}://x"
    check_parameters(uri, {"allowIncomplete": "true"})
    assert allows_incomplete({"allowIncomplete": "true"})
    assert not allows_incomplete({"allowIncomplete": "false"})
    assert not allows_incomplete({})
    with pytest.raises(InvalidValue, match="is 'yes': it must be 'true' or 'false'"):
        check_parameters(uri, {"allowIncomplete": "yes"})


@pytest.mark.parametrize(
    ("uri", "name", "says"),
    [
        ("hf://org/model", "revison", "write 'revision' if that is meant"),
        ("hf://org/model", "allowPattern", "write 'allowPatterns' if that is meant"),
        ("hf://org/model", "tokn", "if 'token' is meant, put it into a Secret"),
        ("vendor://acme/models/llama", "alowIncomplete", "write 'allowIncomplete' if that is meant"),
        ("vendor://acme/models/llama", "ignorepatterns", "write 'ignorePatterns' if that is meant"),
        ("hf://org/model", "secretkey", "write 'secretKey' if that is meant"),
        (
            "hf://org/model",
            "region",
            "//; there are allowIncomplete, allowPatterns, cache_dir, endpoint",
        ),
        ("oci://n/a/b/c/o/d", "authtype", "write 'auth_type' if that is meant"),
        (
            "s3://bucket/x",
            "bucket_region",
            "; there are allowIncomplete, allowPatterns, endpoint, ignorePatterns",
        ),
        ("gs://bucket/x", "region", "does not exist for gs://"),
        ("az://container/x", "accountName", "write 'account_name' if that is meant"),
        ("local:///models/x", "region", "; there are allowIncomplete"),
    ],
)
def test_a_parameter_that_does_not_exist_is_refused_with_the_nearest_word(uri: str, name: str, says: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_parameters(uri, {name: "canary"})
    assert refused.value.reason == "InvalidParameter"
    assert refused.value.message.startswith(f"storage.parameters.{name} does not exist for ")
    assert says in refused.value.message
    assert "canary" not in refused.value.message


def test_a_vendor_may_be_told_anything() -> None:
    check_parameters("vendor://acme/models/llama", {"flavour": "int4", "pattern": "*", "auth": "a", "auth_type": "b"})


def test_two_spellings_of_one_parameter_are_refused_although_they_agree() -> None:
    with pytest.raises(InvalidValue, match="keep auth_type and remove auth") as refused:
        check_parameters("oci://n/a/b/c/o/d", {"auth_type": "UserPrincipal", "auth": "user_principal"})
    assert refused.value.reason == "InvalidParameter"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({}, ""),
        ({"auth_type": "UserPrincipal", "auth": "InstancePrincipal"}, "UserPrincipal"),
        ({"auth": "InstancePrincipal"}, "InstancePrincipal"),
        ({"auth": "instance_principal"}, "InstancePrincipal"),
        ({"auth": "oke_workload_identity"}, "OkeWorkloadIdentity"),
        ({"auth": "password"}, "password"),
    ],
)
def test_an_identity_may_be_named_in_the_words_of_ome(parameters: dict[str, str], named: str) -> None:
    assert named_auth_type(parameters) == named
    assert named in (*AUTH_TYPES, "", "password")
