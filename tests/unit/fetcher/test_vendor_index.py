"""What a driver program says of one file, and what of it is believed."""

from typing import Any

import pytest

from libs.artifact.errors import InvalidValue
from libs.chassis.errors import Invalid, Missing
from services.fetcher.sources.selection import Choice
from services.fetcher.sources.vendor.index import IndexBuilder, manifest_of, read_location, read_page, said_seconds

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


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"path": "b//c", "size": 1}, "'b//c', which has an empty part"),
        ({"path": "notes.txt"}, "'size' of 'notes.txt'"),
        ({"path": "notes.txt", "size": 1, "sha256": "?"}, "'sha256' of 'notes.txt'"),
        ({"path": "a.json", "size": 1}, "a.json"),
        ({"path": "A.JSON", "size": 1}, "'A.JSON' and 'a.json', which some file systems cannot tell apart"),
    ],
)
def test_patterns_are_asked_before_an_entry_of_an_index_is_looked_at(bad: dict[str, Any], says: str) -> None:
    builder = IndexBuilder("vendor://a/b/c")
    builder.add(
        read_page({"files": [{"path": "a.json", "size": 2}, {"path": "c.bin", "size": 3}, bad]}, "vendor://a/b/c")
    )
    with pytest.raises(InvalidValue) as raised:
        builder.index()
    assert raised.value.reason == "InvalidListing"
    assert says in raised.value.message
    choice = Choice(ignore=(bad["path"],))
    index = builder.index(choice)
    assert [file.path for file in manifest_of(index, "vendor://a/b/c", choice).files] == sorted(
        {"a.json", "c.bin"} - {bad["path"]}
    )


def test_entries_that_stand_for_folders_are_no_files() -> None:
    builder = IndexBuilder("vendor://a/b/c")
    markers = [{"path": path, "size": 0} for path in ("sub/", "sub_$folder$")]
    builder.add(read_page({"files": [{"path": "sub/a.json", "size": 2}, *markers]}, "vendor://a/b/c"))
    assert list(builder.index().files) == ["sub/a.json"]


def test_patterns_that_leave_nothing_of_an_index_are_told_apart_from_an_empty_one() -> None:
    builder = IndexBuilder("vendor://a/b/c")
    choice = Choice(allow=("*.gguf",))
    with pytest.raises(Missing, match="lists no files"):
        manifest_of(builder.index(choice), "vendor://a/b/c", choice)
    builder.add(read_page({"files": [{"path": "a.json", "size": 2}]}, "vendor://a/b/c"))
    with pytest.raises(Invalid, match="none of the 1 files"):
        manifest_of(builder.index(choice), "vendor://a/b/c", choice)
