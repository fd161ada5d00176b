"""Reads a manifest that somebody has typed or pasted, as YAML or JSON, and hands it on as JSON. Pure.

Owns what of YAML is taken: what kubectl takes of it, of one object, without references that would make it grow.
"""

import json
from typing import Any

import yaml

from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid

_MOST_BYTES = 48 << 10
# Of models the deepest is nodeAffinity, at ten.
_MOST_DEPTH = 50
# Parts of a manifest: texts, and beginnings and ends of lists and mappings. Some things take the square of them.
_MOST_EVENTS = 5_000
# Of a number. YAML has some on base 60, which take the square of their length.
_MOST_DIGITS = 400
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class _Loader(yaml.CSafeLoader):
    """Leaves dates texts, as JSON has none, and what looks like a time of day, as kubectl does."""


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


def _as_number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    if ":" in text:
        return text
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return loader.construct_yaml_int(node) if node.tag.endswith(":int") else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _as_number)


def manifest_json(text: str) -> str:
    """The one object that a text describes. Raises Invalid."""
    if len(text.encode("utf-8", "replace")) > _MOST_BYTES:
        raise _invalid(f"the manifest has more than {_MOST_BYTES >> 10} KiB")
    try:
        _check(text)
        documents = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _invalid(f"the manifest is no YAML{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        # Texts that are said to be numbers or truth values without being any fail as they happen to.
        raise _invalid("the manifest is no YAML") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise _invalid("paste the manifest of one model")
    return _json(documents[0])


def _check(text: str) -> None:
    """Refuse what would cost much more than its length."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Loader)):
        if count > _MOST_EVENTS:
            raise _invalid("the manifest has more parts than a model")
        if isinstance(event, yaml.AliasEvent):
            raise _invalid("the manifest refers to parts of itself: write them out")
        depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
        if depth > _MOST_DEPTH:
            raise _invalid("the manifest is nested too deeply for a model")


def _json(item: dict[Any, Any]) -> str:
    try:
        return json.dumps(item, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _invalid("the manifest has a value that JSON cannot hold") from error


def _invalid(why: str) -> Invalid:
    return Invalid(Reason.INVALID_PARAMETER, why)
