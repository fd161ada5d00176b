"""What ModelScope says of a revision: entries that cannot be files, and patterns that leave them out."""

from typing import Any

import pytest

from libs.artifact.errors import InvalidValue
from services.fetcher.sources.modelscope.source import ModelScopeSource
from services.fetcher.sources.modelscope.tree import manifest_of, read_tree
from services.fetcher.sources.selection import read_choice

SHA256 = "0" * 64


def source(ignore: str = "") -> ModelScopeSource:
    choice = read_choice({"ignorePatterns": ignore})
    return ModelScopeSource("org/model", "master", "https://hub.example.com", choice=choice)


def entry(path: str, **more: Any) -> dict[str, Any]:
    return {"Path": path, "Type": "blob", "Size": 1, "Sha256": SHA256, **more}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([entry("a"), entry("a")], "the hub lists 'a' twice: "),
        ([entry("a", Size=None)], "the hub lists 'a' without its size: "),
        ([entry("a", Sha256="")], "the hub lists 'a' without its SHA-256"),
        ([entry("a//b")], "a file named 'a//b', which has an empty part"),
    ],
)
def test_an_entry_that_cannot_be_a_file_is_named_with_the_cure_which_helps(
    bad: list[dict[str, Any]], says: str
) -> None:
    document = {"Data": {"Files": [entry("config.json"), *bad]}}
    with pytest.raises(InvalidValue) as raised:
        manifest_of(read_tree(document, source()), source())
    assert raised.value.reason == "InvalidListing"
    assert says in raised.value.message
    path = bad[0]["Path"]
    assert f"set storage.parameters.ignorePatterns to {path!r}" in raised.value.message
    manifest, _ = manifest_of(read_tree(document, source(path)), source(path))
    assert [file.path for file in manifest.files] == ["config.json"]
