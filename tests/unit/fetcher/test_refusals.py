"""What stores say when they refuse: understood in every form, told in words, and nothing secret among them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.refusals import Said, cleaned, refusal_of, said_by, said_in

AMAZON = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidObjectState</Code><Message>The operation is not '
    b"valid for the object&apos;s storage class</Message><RequestId>9FEFFF118E15B86F</RequestId></Error>"
)
AZURE = (
    b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>BlobArchived</Code><Message>This operation is not permitted on an "
    b"archived blob.\nRequestId:1f2c\nTime:2026-11-27T12:00:00Z</Message></Error>"
)
FORMS: dict[str, tuple[dict[str, str], bytes, Said]] = {
    "Amazon": ({}, AMAZON, Said("InvalidObjectState", "The operation is not valid for the object's storage class")),
    "Azure": (
        {},
        AZURE,
        Said(
            "BlobArchived",
            "This operation is not permitted on an archived blob. RequestId:1f2c Time:2026-11-27T12:00:00Z",
        ),
    ),
    "Azure without a body": ({"x-ms-error-code": "BlobNotFound"}, b"", Said("BlobNotFound")),
    "Oracle": (
        {},
        b'{"code":"NotAuthorizedOrNotFound","message":"Authorization failed or requested resource not found."}',
        Said("NotAuthorizedOrNotFound", "Authorization failed or requested resource not found."),
    ),
    "Google": (
        {},
        json.dumps({"error": {"code": 403, "message": "No.", "errors": [{"reason": "forbidden"}]}}).encode(),
        Said("forbidden", "No."),
    ),
    "a registry": (
        {},
        b'{"errors":[{"code":"DENIED","message":"access is denied"}]}',
        Said("DENIED", "access is denied"),
    ),
    "Hugging Face": (
        {"x-error-code": "GatedRepo", "x-error-message": "Access to model o/m is restricted."},
        b'{"error":"other words"}',
        Said("GatedRepo", "Access to model o/m is restricted."),
    ),
    "Hugging Face without a code": ({}, b'{"error":"Invalid username."}', Said("", "Invalid username.")),
    "a proxy's page": ({"content-type": "text/html"}, b"<html><body><h1>403</h1></body></html>", Said()),
    "nothing": ({}, b"", Said()),
    "a code that is none": ({"x-error-code": "<script>alert(1)</script>"}, b"", Said()),
    "what is cut off": ({}, AMAZON[:90], Said("InvalidObjectState")),
}


@pytest.mark.parametrize(("headers", "body", "said"), FORMS.values(), ids=FORMS.keys())
def test_what_a_store_says_is_understood(headers: dict[str, str], body: bytes, said: Said) -> None:
    assert said_by(headers, body, ()) == said


@pytest.mark.parametrize("body", [AMAZON, AZURE, FORMS["Oracle"][1], FORMS["Google"][1]])
def test_the_same_is_found_in_the_words_of_an_sdk(body: bytes) -> None:
    assert said_in(f"Generic error: status code: 403: {body.decode()}", ()) == said_by({}, body, ())


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_body_says_something_or_nothing_in_one_line_that_can_be_printed(body: bytes) -> None:
    said = said_by({"x-error-message": body.decode(errors="replace")}, body, ())
    assert said.message.isprintable()
    assert len(said.message) <= 1024


CODES: dict[str, tuple[type[ServiceError], str]] = {
    "InvalidObjectState": (Missing, "Forbidden"),
    "blobarchived": (Missing, "Forbidden"),
    "NoSuchKey": (Missing, "NotFound"),
    "GatedRepo": (Missing, "Gated"),
    "SlowDown": (Unavailable, "RateLimited"),
    "AuthorizationHeaderMalformed": (Invalid, "InvalidParameter"),
}


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_a_reason_and_a_sentence(code: str) -> None:
    refusal = refusal_of(code)
    assert refusal
    error = refusal.error("s3://b/p: weights", "HTTP 403")
    assert (type(error), error.reason) == CODES[code]
    assert error.message == f"s3://b/p: weights {refusal.sentence} (HTTP 403)"


def test_a_code_outside_the_table_means_nothing_in_particular() -> None:
    assert refusal_of("Teapot") is None
    assert refusal_of("") is None


SECRETS = {
    "a token that was sent": "you sent hush-hush-token",
    "the query of an address": "see https://store.example/b/k?X-Amz-Signature=0123456789abcdef&x=1 for more",
    "a user in an address": "see https://me:hush-hush@store.example/b",
    "a bearer": "Authorization: Bearer abcdefghijkl",
    "a token by its form": "the token hf_abcdefghijklmnopqrst is not valid",
    "the id of a key": "The key AKIAIOSFODNN7EXAMPLE does not exist",
    "a named value": 'x-amz-security-token="hush-hush"',
    "an encoded value": "not the same as Wq7d0Wq7d0Wq7d0Wq7d0Wq7d0Wq7d0Wq7d0Wq7d0Wq7=",
}
TOLD = ("hush-hush", "0123456789abcdef", "abcdefghijkl", "AKIAIOSFODNN7", "Wq7d0")


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_what_may_be_secret_is_hidden(text: str) -> None:
    hidden = cleaned(text, ["Bearer hush-hush-token"])
    assert not [secret for secret in TOLD if secret in hidden]


SENTENCES = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    "Access to model meta-llama/Llama-3.1-70B-Instruct is restricted. You must have access to it.",
    "The specified key does not exist.",
    "Authorization failed or requested resource not found. opc-request-id iad-1:Wq7d0.",
)


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_stay_whole(text: str) -> None:
    assert cleaned(text, ['Signature version="1",keyId="ocid1.x/ocid1.y/aa",algorithm="rsa-sha256"']) == text


def test_long_words_are_bounded() -> None:
    assert len(cleaned("word " * 3000)) == 1024


def test_everything_that_a_request_carries_counts_as_secret() -> None:
    location = Location("https://s.example/k?X-Sig=ab%2Fcdefghij&v=1", {"Authorization": "Bearer hush-hush-token"})
    text = "sent ab/cdefghij and ab%2Fcdefghij and hush-hush-token with version 1"
    assert cleaned(text, location.secrets()) == "sent ... and ... and ... with version 1"
