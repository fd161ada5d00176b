"""Hosts in lists, and endpoints that every client understands in the same way."""

import pytest

from libs.artifact.hosts import NamedEndpoint, is_listed, read_endpoint_host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://Hub.Example", NamedEndpoint("https", "hub.example", 443)),
        ("http://hub.example.:8080/mirror/a", NamedEndpoint("http", "hub.example", 8080)),
        ("HTTPS://[FD00::1]:9000", NamedEndpoint("https", "fd00::1", 9000)),
        (" https://minio_store ", NamedEndpoint("https", "minio_store", 443)),
    ],
)
def test_an_endpoint_names_a_host_and_a_port(text: str, expected: NamedEndpoint) -> None:
    assert read_endpoint_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub.example",
        "ftp://hub.example",
        "https://",
        "https://hub.example:0",
        "https://hub.example:65536",
        "https://me@hub.example",
        "https://thief.example\\@hub.example",
        "https://thief.example\\.hub.example",
        "https://thief.example#.hub.example",
        "https://thief.example?.hub.example",
        "https://hub.example/a@b",
        "https://%68ub.example",
        "https://hub.example\n.thief.example",
        "https://hub\t.example",
        "https:hub.example",
        "https://hub．example",
    ],
)
def test_what_could_be_understood_in_two_ways_is_no_endpoint(text: str) -> None:
    assert read_endpoint_host(text) is None


@pytest.mark.parametrize(
    ("host", "patterns", "expected"),
    [
        ("hub.example", ("hub.example",), True),
        ("HUB.example.", ("Hub.Example",), True),
        ("hub.example", (" hub.example ",), True),
        ("a.b.example", ("*.example",), True),
        ("example", ("*.example",), False),
        ("thief-example", ("*.example",), False),
        ("hub.example.thief", ("hub.example",), False),
        ("127.0.0.1", ("127.0.0.1",), True),
        ("fd00::1", ("[fd00::1]",), True),
        ("hub.example", ("",), False),
        ("hub.example", ("*",), False),
        ("hub.example", ("*.",), False),
        ("hub.example", (), False),
    ],
)
def test_a_list_names_hosts_or_all_below_one(host: str, patterns: tuple[str, ...], expected: bool) -> None:
    assert is_listed(host, patterns) is expected
