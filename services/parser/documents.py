"""Reads untrusted JSON: strict about what could mean two things, tolerant of what real publishers write.

Decides what a malformed document is. Must not know what any document means.
"""

import json
from collections.abc import Iterator
from typing import Any

from services.parser.errors import malformed

# Real configurations are at most about ten levels deep.
_MAX_DEPTH = 64
# Python refuses to convert longer literals, with an error of its own; no size or count has so many digits.
_MAX_DIGITS = 40

Document = dict[str, Any]
# The key under which a document that is a list holds its items.
ITEMS = "[]"


def read_document(path: str, data: bytes, warnings: list[str]) -> Document:
    """The JSON object that data holds, or a list as an object of ITEMS. Oddities that change nothing are added to warnings.

    NaN and Infinity, which JSON does not have but Python's writer produces, become null.
    """
    reader = _Reader(path)
    document = _load(path, data, reader)
    if data.startswith(b"\xef\xbb\xbf"):
        warnings.append(f"{path} starts with a byte order mark.")
    if reader.nonfinite:
        warnings.append(f"{path} holds {reader.nonfinite}, which is not JSON; it was read as null.")
    for key in reader.repeated:
        warnings.append(f"{path} states {key!r} twice with the same value.")
    return document


def read_strict(path: str, data: bytes) -> Document:
    """The JSON object that data holds, for formats whose writers are programs: no oddity is accepted."""
    reader = _Reader(path)
    document = _load(path, data, reader)
    if ITEMS in document:
        raise malformed(path, "is not a JSON object")
    if reader.nonfinite:
        raise malformed(path, f"{reader.nonfinite} is not JSON")
    if reader.repeated:
        raise malformed(path, f"{reader.repeated[0]!r} is stated twice")
    return document


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.nonfinite = ""
        self.repeated: list[str] = []

    def object(self, pairs: list[tuple[str, Any]]) -> Document:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        seen: Document = {}
        for key, value in pairs:
            if key in seen:
                if seen[key] != value:
                    raise malformed(self.path, f"{_shown(key)} is stated twice with different values")
                self.repeated.append(_shown(key))
            seen[key] = value
        return result

    def constant(self, literal: str) -> None:
        self.nonfinite = literal

    def integer(self, literal: str) -> int:
        if len(literal) > _MAX_DIGITS:
            raise malformed(self.path, f"a number of {len(literal)} digits is no size of anything")
        return int(literal)

    def number(self, literal: str) -> float | None:
        value = float(literal)
        if value in (float("inf"), float("-inf")):
            self.nonfinite = _shown(literal)
            return None
        return value


def _load(path: str, data: bytes, reader: _Reader) -> Document:
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=reader.object,
            parse_constant=reader.constant,
            parse_int=reader.integer,
            parse_float=reader.number,
        )
    except UnicodeDecodeError:
        raise malformed(path, "is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise malformed(path, f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise malformed(path, "is nested too deeply") from None
    if isinstance(document, list):
        # modules.json of sentence-transformers is the one list among the files that are read.
        document = {ITEMS: document}
    if not isinstance(document, dict):
        raise malformed(path, "is not a JSON object")
    _check_depth(path, document)
    return document


def _check_depth(path: str, document: Document) -> None:
    # Level by level rather than by recursion, because the depth is what is in doubt.
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        level = [child for value in level for child in _containers(value)]
        if not level:
            return
    raise malformed(path, f"is nested deeper than {_MAX_DEPTH} levels")


def _containers(value: Any) -> Iterator[Any]:
    children = value.values() if isinstance(value, dict) else value
    return (child for child in children if isinstance(child, dict | list))


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
