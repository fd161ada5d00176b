"""What is read from the webhooks of a hub: the repository and its branches, whatever else somebody writes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.status.hub_events import RepositoryChange, read_event


def event(**changes: Any) -> dict[str, Any]:
    """An event as the hub documents it, of a commit to the main branch."""
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": "org/llama", "private": False, "headSha": "a" * 40},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "a" * 40, "newSha": "b" * 40}],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
    } | changes


def refs(*names: Any) -> dict[str, Any]:
    return event(updatedRefs=[{"ref": name, "newSha": None} for name in names])


ANY = RepositoryChange("org/llama")
READ = {
    "a commit": (event(), RepositoryChange("org/llama", ("main",))),
    "a branch and a tag": (refs("refs/heads/a/b", "refs/tags/v1"), RepositoryChange("org/llama", ("a/b", "v1"))),
    "a pull request and a branch": (refs("refs/pr/7", "refs/heads/dev"), RepositoryChange("org/llama", ("dev",))),
    "a pull request alone": (refs("refs/pr/7"), None),
    "a repository that was moved": (event(event={"action": "move", "scope": "repo"}, updatedRefs=None), ANY),
    "a narrower scope, which may come": (
        event(event={"action": "update", "scope": "repo.content.lfs"}),
        RepositoryChange("org/llama", ("main",)),
    ),
    "more references than anybody names": (refs(*(f"refs/heads/{number}" for number in range(100))), ANY),
    "references that are no list": (event(updatedRefs="refs/heads/main"), ANY),
    "no references": (event(updatedRefs=[]), ANY),
    "a model without an owner": (event(repo={"type": "model", "name": "gpt2"}), RepositoryChange("gpt2", ("main",))),
    "settings": (event(event={"action": "update", "scope": "repo.config"}), None),
    "a comment": (event(event={"action": "create", "scope": "discussion.comment"}), None),
    "another scope that begins alike": (event(event={"action": "update", "scope": "repo.contents"}), None),
    "a dataset": (event(repo={"type": "dataset", "name": "org/llama"}), None),
    "no name": (event(repo={"type": "model"}), None),
    "a name that is none": (event(repo={"type": "model", "name": "org/../x/y"}), None),
    "a name with a line break": (event(repo={"type": "model", "name": "org/llama\n"}), None),
    "a name without end": (event(repo={"type": "model", "name": "o" * 10_000}), None),
    "no repository": (event(repo=["org/llama"]), None),
    "no event": (event(event="repo.content"), None),
}


@pytest.mark.parametrize("case", READ)
def test_an_event_tells_of(case: str) -> None:
    said, expected = READ[case]
    assert read_event(json.dumps(said).encode()) == expected


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b"[" * 60_000, b"repo=org%2Fllama"])
def test_what_is_no_event_tells_of_nothing(body: bytes) -> None:
    assert read_event(body) is None


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.dictionaries(st.sampled_from(["event", "repo", "updatedRefs"]), JSON), JSON, JSON)
def test_whatever_stands_in_an_event_is_read_or_dropped(parts: dict[str, Any], name: Any, ref: Any) -> None:
    for said in (parts, event(**parts), event(repo={"type": "model", "name": name}), refs(ref)):
        change = read_event(json.dumps(said).encode())
        assert change is None or change.repository.isprintable()
