"""Hubs that mean harm to who has the plugin look at a repository."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from urllib.error import URLError
from urllib.request import Request

import pytest

from clients.kubectl import hub
from clients.kubectl.parsing import Unreadable, parsed
from tests.support.one_answer import Answer, answering


@contextmanager
def hostile(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    with answering(answer) as (endpoint, asked):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.delenv("OME_PARSER", raising=False)
        yield endpoint, asked


def listing(*files: object) -> bytes:
    return json.dumps([{"type": "file", "path": path, "size": 1} for path in files]).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"{}[",
        b'{"error": 1}',
        b"[1]",
        b'[{"type": "file"}]',
        b'[{"type": "file", "path": 1, "size": 1}]',
        b'[{"type": "file", "path": "a", "size": -1}]',
        b'[{"type": "file", "path": "a", "size": 1e999}]',
        b'[{"type": "file", "path": "a", "size": %d}]' % 2**70,
        listing("../../outside"),
        listing("/etc/outside"),
        listing(""),
        listing("a\0b"),
        listing("a" * 300),
        listing("a", "a"),
        listing("a", "a/b"),
    ],
)
def test_a_list_that_makes_no_sense_ends_with_a_sentence(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(lambda path: (200, {}, body), monkeypatch), pytest.raises(Unreadable):
        parsed("hf://org/m")


def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MOST_PAGES", 5)

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Link": f'<{endpoint}/more>; rel="next"'}, b"[]"

    with hostile(answer, monkeypatch) as (endpoint, asked), pytest.raises(Unreadable, match="more than 5 pages"):
        parsed("hf://org/m")
    assert len(asked) == 5


def test_metadata_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MOST_FETCHED_BYTES", 1 << 20)
    entries = [{"type": "file", "path": f"{number}/config.json", "size": 200_000} for number in range(20)]

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps(entries).encode() if "/tree/" in path else b" " * 200_000

    with hostile(answer, monkeypatch), pytest.raises(Unreadable, match="sends more than 1 MiB"):
        parsed("hf://org/m")


def redirected(to: str) -> Request | None:
    asked = Request("https://hub.example/a", headers={"Authorization": "Bearer secret"})
    return hub.TokenStaysHome().redirect_request(asked, None, 302, "", Message(), to)


@pytest.mark.parametrize("to", ["http://hub.example/a", "http://127.0.0.1/a", "ftp://hub.example/a"])
def test_what_is_asked_over_tls_is_never_asked_in_plain_text(to: str) -> None:
    with pytest.raises(URLError, match="not HTTPS"):
        redirected(to)


def test_a_token_stays_with_its_host_and_port() -> None:
    for to, goes in (("https://hub.example/b", True), ("https://hub.example:8443/b", False), ("https://cdn/b", False)):
        request = redirected(to)
        assert request
        assert request.has_header("Authorization") is goes
