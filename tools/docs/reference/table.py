"""Words for the tables of the reference: what a cell may hold, and how a constraint of a schema reads."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a value may be, from the keys of a schema; each takes the value of the key.
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} keys",
}
# A longer default is left to the file that holds it.
_LONGEST_DEFAULT = 60


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text that stays inside one cell: on one line, and without a bar or a tag that Markdown would take for its own."""
    flat = " ".join(text.split()).replace("|", "\\|")
    return prose(flat)


def prose(text: str) -> str:
    """Text of a comment as Markdown: an angle bracket outside of code would begin a tag."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def sentences(*texts: str) -> str:
    """Texts one after another, each ended by a full stop."""
    return " ".join(text if text.endswith((".", ":", "`")) else f"{text}." for text in map(str.strip, texts) if text)


def code(value: object) -> str:
    """A value as it is written in YAML or JSON, as code."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def kind_of(schema: Mapping[str, Any]) -> str:
    """The type of a schema in a word or two."""
    kind = schema.get("type", "string" if "enum" in schema else "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    return f"map of {kind_of(inner)}" if kind == "object" and isinstance(inner, Mapping) and inner else str(kind)


def rules_of(schema: Mapping[str, Any]) -> str:
    """What a value must keep to, in sentences: choices, default, bounds, and the messages of its rules."""
    found = []
    choices = schema.get("enum") or (schema.get("items") or {}).get("enum")
    if choices:
        found.append(f"One of {', '.join(map(code, choices))}.")
    if "default" in schema and len(json.dumps(schema["default"])) <= _LONGEST_DEFAULT:
        found.append(f"Default: {code(schema['default'])}.")
    bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    if bounds:
        found.append(f"{'; '.join(bounds).capitalize()}.")
    found += [
        each["message"].rstrip(".") + "." for each in schema.get("x-kubernetes-validations", ()) if "message" in each
    ]
    return " ".join(found)
