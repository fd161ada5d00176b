"""Reads untrusted JSON: strict about what could mean two things, tolerant of what real publishers write.

Decides what a malformed document is. Hooks into the decoder stay few, since each is called for every value. Must not
know what any document means.
"""

import json
import re
from typing import Any

from services.parser.errors import ParseError, malformed

Document = dict[str, Any]
# The key under which a document that is a list holds its items.
ITEMS = "[]"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Each escape, whole: a pair of surrogates is one character, and a backslash may be escaped itself.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def read_document(path: str, data: bytes, warnings: list[str]) -> Document:
    """The JSON object that data holds, or a list as an object of ITEMS.

    Oddities that change nothing are added to warnings. NaN and Infinity, which JSON does not have but Python's writer
    produces, become null.
    """
    reader = _Reader(path)
    document = _load(path, data, object_pairs_hook=reader.object, parse_constant=reader.constant)
    if isinstance(document, list):
        # modules.json of sentence-transformers is the one list among the files that are read.
        document = {ITEMS: document}
    if data.startswith(b"\xef\xbb\xbf"):
        warnings.append(f"{path} starts with a byte order mark.")
    if reader.nonfinite:
        warnings.append(f"{path} holds {reader.nonfinite}, which is not JSON; it was read as null.")
    if not isinstance(document, dict):
        raise malformed(path, "is not a JSON object")
    for key in reader.repeated:
        warnings.append(f"{path} states {key!r} twice with the same value.")
    return document


def read_header_document(path: str, data: bytes) -> Document:
    """The JSON object of a binary format's header, whose writers are programs: no oddity is accepted.

    Keys that are stated twice are not looked for, which would double the time: what a header describes must add up.
    """

    def refuse(literal: str) -> None:
        raise malformed(path, f"{literal} is not JSON")

    document = _load(path, data, parse_constant=refuse)
    if not isinstance(document, dict):
        raise malformed(path, "is not a JSON object")
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


def _without_lone_surrogates(text: str) -> str:
    """JSON text with U+FFFD for each escape that stands for half a character: no message could hold that."""
    if not _SURROGATE.search(text):
        return text
    return _ESCAPE.sub(lambda escape: "\\ufffd" if escape["lone"] else escape[0], text)


def _load(path: str, data: bytes, **hooks: Any) -> Any:
    try:
        return json.loads(_without_lone_surrogates(data.decode("utf-8-sig")), **hooks)
    except UnicodeDecodeError:
        raise malformed(path, "is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise malformed(path, f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        # Nothing here or later recurses over a document by itself, so the decoder's own bound is enough.
        raise malformed(path, "is nested too deeply") from None
    except ParseError:
        raise
    except ValueError:
        # Python refuses to convert numbers of more than 4,300 digits, whose conversion takes quadratic time.
        raise malformed(path, "holds a number that is too long") from None


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
