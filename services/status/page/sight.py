"""What one browser has been sent of the board, and what it has yet to be sent: everything once, then differences. Pure.

A reader that is slow gets the sum of what it has missed, and costs no memory meanwhile: rows are shared.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from libs.artifact.wording import one_line
from libs.model.kinds import kind_numbered
from ome.status.v1.status_pb2 import CONDITION_STATUS_FALSE, CONDITION_STATUS_TRUE, Model, ModelState
from services.status.page.cells import CODES, Row, changed_places

# With more cells than this in a row that has changed, the whole row is shorter.
_MOST_PLACES = 200
_WHY_CHARACTERS = 280


class Sight:
    """The part of the board that one caller may see."""

    def __init__(self) -> None:
        self._columns: Mapping[str, int] | None = None
        self._places: list[int] = []
        self._lines: dict[str, list[Any]] = {}
        self._rows: dict[str, Row] = {}

    def message(
        self, models: Sequence[Model], columns: Mapping[str, int], rows: Mapping[str, Row], every_node: bool
    ) -> tuple[str, dict[str, Any]] | None:
        """The name and the content of the next message; None when there is nothing new.

        `models` are those that the caller may see, in order. Without `every_node`, it sees the nodes of these alone.
        """
        models = [model for model in models if model.ref.uid in rows]
        seen = {model.ref.uid: rows[model.ref.uid] for model in models}
        places = list(columns.values()) if every_node else self._occupied(columns, seen)
        lines = {model.ref.uid: line(model, seen[model.ref.uid]) for model in models}
        same = columns is self._columns and places == self._places and list(seen) == list(self._rows)
        message = self._changes(seen, lines) if same else self._everything(models, columns, places, seen, lines)
        self._columns, self._places, self._rows, self._lines = columns, places, seen, lines
        return message

    def _occupied(self, columns: Mapping[str, int], seen: Mapping[str, Row]) -> list[int]:
        """The places at which any of the rows has something."""
        if columns is self._columns and all(self._rows.get(uid) is each for uid, each in seen.items()):
            return self._places
        occupied = [False] * len(columns)
        for each in seen.values():
            occupied = [was or bool(code) for was, code in zip(occupied, each.cells, strict=True)]
        return [place for place, is_occupied in enumerate(occupied) if is_occupied]

    def _everything(
        self,
        models: Sequence[Model],
        columns: Mapping[str, int],
        places: Sequence[int],
        seen: Mapping[str, Row],
        lines: Mapping[str, list[Any]],
    ) -> tuple[str, dict[str, Any]]:
        names = list(columns)
        return "fleet", {
            "codes": CODES,
            "nodes": [names[place] for place in places],
            "models": [
                [kind_numbered(model.ref.kind).plural, model.ref.namespace, model.ref.name, model.artifact.bytes]
                for model in models
            ],
            "lines": [lines[uid] for uid in seen],
            "cells": [_encoded(_picked(each.cells, places)) for each in seen.values()],
        }

    def _changes(self, seen: Mapping[str, Row], lines: Mapping[str, list[Any]]) -> tuple[str, dict[str, Any]] | None:
        message: dict[str, Any] = {"lines": [], "cells": [], "rows": []}
        for number, (uid, each) in enumerate(seen.items()):
            if lines[uid] != self._lines[uid]:
                message["lines"].append([number, lines[uid]])
            if each is self._rows[uid]:
                continue
            before, after = (_picked(row.cells, self._places) for row in (self._rows[uid], each))
            changed = changed_places(before, after)
            if len(changed) > _MOST_PLACES:
                message["rows"].append([number, _encoded(after)])
            else:
                # Flat, as a list per cell would be longer than what it holds.
                message["cells"] += [figure for place in changed for figure in (number, place, after[place])]
        content = {name: value for name, value in message.items() if value}
        return ("cells", content) if content else None


def line(model: Model, each: Row) -> list[Any]:
    """What one line of text says about a model, as `fleet.js` reads it."""
    reason, why = why_of(model)
    return [
        state_word(model.state),
        each.ready,
        each.desired,
        each.failed,
        each.moving,
        each.bytes_per_second,
        each.bytes_left,
        each.eta_seconds,
        reason,
        one_line(why, _WHY_CHARACTERS),
    ]


def state_word(state: ModelState) -> str:
    """A state as `.status` spells it, such as "Ready"."""
    return ModelState.Name(state).removeprefix("MODEL_STATE_").capitalize()


def why_of(model: Model) -> tuple[str, str]:
    """Reason and sentence for that a model is not as it should be; both empty when it is.

    The worst news before the best, as `.status.reason` has it.
    """
    by_type = {condition.type: condition for condition in model.conditions}
    for name, bad in (
        ("Stalled", CONDITION_STATUS_TRUE),
        ("Degraded", CONDITION_STATUS_TRUE),
        ("Whole", CONDITION_STATUS_FALSE),
        ("Complete", CONDITION_STATUS_FALSE),
    ):
        found = by_type.get(name)
        if found and found.status == bad:
            return found.reason, found.message
    return "", ""


def _picked(cells: bytes, places: Sequence[int]) -> bytes:
    return cells if len(places) == len(cells) else bytes(cells[place] for place in places)


def _encoded(cells: bytes) -> str:
    return base64.b64encode(cells).decode()
