"""The operator's configuration of vendors: what it means, and that every mistake in it is named."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.settings import SettingsError
from services.fetcher.sources.vendor.driver_file import read_drivers
from services.fetcher.sources.vendor.drivers import PREPROVISIONED, ExecDriver, HttpDriver, parse_drivers

INDEX = "https://models.acme.com/{type}/{path}/index.json"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no driver": ({}, "acme.driver is None: it must be one of http, exec, preprovisioned"),
    "an unknown driver": ({"driver": "ftp"}, "acme.driver is 'ftp'"),
    "a misspelt field": ({"driver": "http", "index": INDEX, "fiel": "x"}, "acme.fiel does not exist for this driver"),
    "a field of another driver": ({"driver": "preprovisioned", "index": INDEX}, "acme.index does not exist"),
    "no index": ({"driver": "http"}, "acme.index must be a URL"),
    "an index that is no URL": ({"driver": "http", "index": "models.acme.com/{path}"}, "acme.index must be a URL"),
    "an index of another scheme": ({"driver": "http", "index": "ftp://acme.com/{path}"}, "acme.index must be a URL"),
    "an index with a space": ({"driver": "http", "index": "https://acme.com/a b/{path}"}, "acme.index must be a URL"),
    "an index on port 99999": ({"driver": "http", "index": "https://acme.com:99999/{path}"}, "must be a URL"),
    "an index for all models": ({"driver": "http", "index": "https://acme.com/index.json"}, "acme.index lacks {path}"),
    "an index by file": ({"driver": "http", "index": INDEX + "{file}"}, "acme.index holds {file}: there are {vendor}"),
    "an unknown variable": ({"driver": "http", "index": INDEX + "{user}"}, "acme.index holds {user}: there are"),
    "a lone brace": ({"driver": "http", "index": INDEX + "{"}, "acme.index holds a brace"),
    "a host that a model chooses": ({"driver": "http", "index": "https://{type}.acme.com/{path}"}, "in its host"),
    "a host that a model ends": ({"driver": "http", "index": "https://acme.com{path}"}, "in its host"),
    "a password": ({"driver": "http", "index": "https://me:pw@acme.com/{path}"}, "must hold neither a user"),
    "a fragment": ({"driver": "http", "index": INDEX + "#top"}, "must hold neither a user"),
    "a secret in an address": ({"driver": "http", "index": INDEX + "?key={secret:key}"}, "a Secret is for headers"),
    "one address for all files": (
        {"driver": "http", "index": INDEX, "file": "https://acme.com/{path}"},
        "acme.file lacks {file}",
    ),
    "an empty file template": ({"driver": "http", "index": INDEX, "file": ""}, "acme.file must be a URL"),
    "headers in a list": ({"driver": "http", "index": INDEX, "headers": ["a"]}, "acme.headers must be an object"),
    "a bad header": ({"driver": "http", "index": INDEX, "headers": {"A B": "x"}}, "'A B', which is no name"),
    "our header": ({"driver": "http", "index": INDEX, "headers": {"host": "x"}}, "or one that the fetcher sets"),
    "a header twice": ({"driver": "http", "index": INDEX, "headers": {"X-A": "1", "x-a": "2"}}, "'x-a' twice"),
    "a header of two lines": ({"driver": "http", "index": INDEX, "headers": {"X-A": "1\r\nHost: x"}}, "headers.X-A"),
    "a header that is a number": ({"driver": "http", "index": INDEX, "headers": {"X-A": 1}}, "headers.X-A must be"),
    "a header with the model": ({"driver": "http", "index": INDEX, "headers": {"X": "{path}"}}, "{secret:token}"),
    "a header with no key": ({"driver": "http", "index": INDEX, "headers": {"X": "{secret:}"}}, "{secret:token}"),
    "no command": ({"driver": "exec"}, "acme.command must be a list"),
    "a command in one string": ({"driver": "exec", "command": "/opt/driver"}, "acme.command must be a list"),
    "an empty command": ({"driver": "exec", "command": []}, "must be a list that begins with an absolute path"),
    "a relative command": ({"driver": "exec", "command": ["driver"]}, "must be a list that begins with an absolute"),
    "a variable with its value": (
        {"driver": "exec", "command": ["/x"], "environment": ["A=b"]},
        "acme.environment must list names of variables alone, but holds more for 'A'",
    ),
    "a timeout in words": ({"driver": "exec", "command": ["/x"], "timeoutSeconds": "1m"}, "timeoutSeconds is '1m'"),
    "no time": ({"driver": "exec", "command": ["/x"], "timeoutSeconds": 0}, "timeoutSeconds is 0"),
    "all day": ({"driver": "exec", "command": ["/x"], "timeoutSeconds": 86400}, "at most 600"),
}


def problems_of(text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        parse_drivers(text)
    return raised.value.problems


def test_each_vendor_has_its_driver() -> None:
    text = {
        "acme": {"driver": "http", "index": INDEX, "headers": {"Authorization": "Bearer {secret:token}"}},
        "zen": {"driver": "exec", "command": ["/opt/zen", "-v"], "environment": ["PATH"], "timeoutSeconds": 5},
        "nvidia": {"driver": "preprovisioned"},
    }
    assert parse_drivers(json.dumps(text)) == {
        "acme": HttpDriver(INDEX, "", {"Authorization": "Bearer {secret:token}"}),
        "zen": ExecDriver(("/opt/zen", "-v"), ("PATH",), 5.0),
        "nvidia": PREPROVISIONED,
    }
    assert parse_drivers("{}") == {}


@pytest.mark.parametrize(("fields", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_what_to_write(fields: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in problems_of(json.dumps({"acme": fields})))


def test_all_mistakes_are_reported_at_once() -> None:
    problems = problems_of(json.dumps({name: fields for name, (fields, _) in MISTAKES.items()} | {"a/b": 5}))
    assert len(problems) >= len(MISTAKES)
    assert "a/b is no name of a vendor" in "\n".join(problems)


def test_a_header_is_not_repeated_as_it_may_be_a_secret() -> None:
    fields = {"driver": "http", "index": INDEX, "headers": {"Authorization": "Bearer s3cret {token}"}}
    assert "s3cret" not in "\n".join(problems_of(json.dumps({"acme": fields})))
    [driver] = parse_drivers(json.dumps({"acme": {**fields, "headers": {"Authorization": "Bearer s3cret"}}})).values()
    assert "s3cret" not in repr(driver)


@pytest.mark.parametrize("text", ["", "acme: {}", "[]", "null", "[" * 100_000])
def test_what_is_no_object_is_answered_with_an_example(text: str) -> None:
    [problem] = problems_of(text)
    assert '{"acme": {"driver": "http"' in problem


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_anything_else_is_reported_and_never_crashes(value: Any) -> None:
    for document in (value, {"acme": value}, {"acme": {"driver": "http", "index": value, "headers": value}}):
        if document in ({}, {"acme": {"driver": "preprovisioned"}}):
            continue
        assert problems_of(json.dumps(document))


def test_a_file_is_read_at_the_start_and_named_in_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "drivers.json"
    assert read_drivers(None) == {}
    with pytest.raises(SettingsError, match=r"OME_VENDOR_DRIVERS_FILE.*No such file"):
        read_drivers(file)
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"OME_VENDOR_DRIVERS_FILE.*cannot be read"):
        read_drivers(file)
    file.write_text('{"acme": {"driver": "ftp"}}')
    with pytest.raises(SettingsError, match=r"drivers\.json: acme\.driver is 'ftp'"):
        read_drivers(file)
    file.write_text(json.dumps({"acme": {"driver": "exec", "command": [str(file)]}}))
    with pytest.raises(SettingsError, match=r"acme\.command begins with .*which is no program that can be run"):
        read_drivers(file)
    file.write_text(json.dumps({"acme": {"driver": "exec", "command": [sys.executable]}}))
    assert read_drivers(file) == {"acme": ExecDriver((sys.executable,))}
