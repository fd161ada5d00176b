"""Lays rows out as kubectl does: columns for people, JSON, YAML or names for programs. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.artifact.wording import one_line

FORMATS = ("table", "wide", "json", "yaml", "name")
_COLOURS = {"Ready": "32", "True": "32", "Failed": "31", "Incomplete": "31", "Creating": "33", "Updating": "33"}
_GAP = "   "
_OWN_ESCAPES = re.compile(r"(\x1b\[(?:0|31|32|33)m|\n)")
_CELL_CHARACTERS = 4096


@dataclass(frozen=True)
class Column:
    """A column: its title, the field of a row that it shows, and whether only `-o wide` has it."""

    title: str
    field: str
    wide: bool = False


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], wide: bool, colour: bool) -> str:
    """The rows below their titles."""
    shown = [column for column in columns if wide or not column.wide]
    lines = [[column.title for column in shown]]
    lines += [[_cell(row.get(column.field)) for column in shown] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(shown))]
    text = []
    for number, line in enumerate(lines):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if colour and number:
            padded = [painted(cell) for cell in padded]
        text.append(_GAP.join(padded).rstrip())
    return "\n".join(text)


def harmless(text: str) -> str:
    """Lines for a terminal, which may take what others have written for commands: only our own colours are left."""
    return "".join(
        part if number % 2 or part.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in part)
        for number, part in enumerate(_OWN_ESCAPES.split(text))
    )


def _json(value: Any, indent: int | None = None) -> str:
    """JSON whose strings say what they are, and are nothing to a terminal."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return (
        "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)
        if not text.isprintable()
        else text
    )


def documents(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """The rows for a program."""
    if form == "json":
        return _json(list(rows), indent=2)
    if form == "name":
        return "\n".join(str(row["id"]) for row in rows)
    # Each value is written as JSON, which is YAML as well.
    lines = []
    for row in rows:
        for number, (name, value) in enumerate(row.items()):
            lines.append(f"{'  ' if number else '- '}{name}: {_json(value)}")
    return "\n".join(lines) or "[]"


def painted(cell: str) -> str:
    """A cell in the colour of the state that it names, if it names one."""
    code = _COLOURS.get(cell.strip())
    return f"\x1b[{code}m{cell}\x1b[0m" if code else cell


def bar(done: int, total: int, width: int = 30) -> str:
    """How far something is, such as "[=====>    ]  50%". Full only when all is there."""
    share = min(max(done, 0) / total, 1.0) if total > 0 else 0.0
    filled = int(share * width)
    if filled >= width:
        return f"[{'=' * width}] 100%"
    return f"[{'=' * filled}>{' ' * (width - filled - 1)}] {int(share * 100):3}%"


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else one_line(str(value), _CELL_CHARACTERS)
