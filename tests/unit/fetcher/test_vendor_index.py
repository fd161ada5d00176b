"""What a driver program says of one file, and what of it is believed."""

from typing import Any

import pytest

from libs.artifact.errors import InvalidValue
from services.fetcher.sources.vendor.index import read_location, said_seconds

URL = "https://cdn.acme.com/a?signature=s3cret"


def test_an_address_comes_with_its_headers_and_its_life() -> None:
    location, seconds = read_location({"url": URL, "headers": {"X-Key": "k"}, "expiresInSeconds": 60}, "vendor://a/b/c")
    assert (location.url, location.headers, seconds) == (URL, {"X-Key": "k"}, 60)
    assert "s3cret" not in repr(location)
    assert read_location({"url": URL}, "vendor://a/b/c")[1] is None
    assert read_location({"url": URL, "expiresInSeconds": 10**400}, "vendor://a/b/c")[1] == 86400


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({}, "'url'"),
        ({"url": "file:///etc/passwd"}, "'url'"),
        ({"url": 5}, "'url'"),
        ({"url": URL, "headers": ["X-Key"]}, "'headers'"),
        ({"url": URL, "headers": {"X-Key": 5}}, "'headers'"),
        ({"url": URL, "headers": {"X-Key": "s3cret\r\nHost: evil"}}, "'headers'"),
        ({"url": URL, "headers": {"X Key": "s3cret"}}, "'headers'"),
        ({"url": URL, "headers": {"range": "bytes=0-1"}}, "'headers'"),
        ({"url": URL, "expiresInSeconds": -1}, "'expiresInSeconds'"),
        ({"url": URL, "expiresInSeconds": True}, "'expiresInSeconds'"),
        ({"url": URL, "expiresInSeconds": float("nan")}, "'expiresInSeconds'"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_without_being_shown(answer: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        read_location(answer, "vendor://a/b/c")
    assert raised.value.reason == "InvalidListing"
    assert field in raised.value.message
    assert "s3cret" not in raised.value.message


@pytest.mark.parametrize(
    ("said", "pause"),
    [(30, 30.0), (0.5, 0.5), (10**400, 86400.0), (-1, None), ("30", None), (True, None), (float("inf"), None)],
)
def test_a_pause_is_waited_for_when_it_is_one(said: Any, pause: float | None) -> None:
    assert said_seconds({"retryAfterSeconds": said}) == pause
