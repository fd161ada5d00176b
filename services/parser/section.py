"""One object of a configuration, read by name and type, with "not stated" kept apart from zero.

Decides what a plausible number is, and remembers what was asked for: a description knows the keys that it reads, and
what it never asked for may mean another network. Must not know any architecture.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

# No dimension of a network, no vocabulary and no context comes near this; it keeps products in sane bounds.
_MAX_INTEGER = 1 << 40
# Descriptions go through layers one by one where these differ; the deepest real network has a few hundred.
_MAX_REPEATS = 10_000
_REPEATS = re.compile(r"(^|_)(layers?|depth|blocks|levels|times|layers_per_block)$")
_MAX_NUMBER = 1e15
_MAX_ITEMS = 20_000


class Undescribed(Exception):
    """The configuration does not state what a description needs; the message names it."""


class KnownKeys(Protocol):
    """What a page of the catalogue says about keys that it does not read; see network.Family."""

    @property
    def model_types(self) -> tuple[str, ...]: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def ignores(self) -> frozenset[str]: ...
    @property
    def assumes(self) -> Mapping[str, tuple[Any, ...]]: ...
    def describes(self, class_name: str) -> bool: ...


class Reading:
    """What descriptions asked of a configuration, and why their result may be wrong."""

    def __init__(self) -> None:
        # Names, and the pages that describe a section, by the section's path.
        self.names: dict[str, set[str]] = {}
        self.pages: dict[str, list[KnownKeys]] = {}
        self.doubts: list[str] = []


@lru_cache(maxsize=1024)
def _most(name: str) -> int:
    """The bound of a size. Names are those that pages ask for."""
    return _MAX_REPEATS if _REPEATS.search(name) else _MAX_INTEGER


class Section:
    """A JSON object of a configuration. Every accessor takes several names and reads the first that is stated."""

    __slots__ = ("_asked", "_path", "_reading", "_values")

    def __init__(self, values: Mapping[str, Any] | None, path: str = "", reading: Reading | None = None) -> None:
        # A dictionary is what JSON yields; asking for any mapping takes ten times as long.
        self._values: Mapping[str, Any] = values if isinstance(values, dict) else {}
        self._path = path
        self._reading = reading or Reading()
        self._asked = self._reading.names.setdefault(path, set())

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        self._asked.add(name)
        return self._values.get(name) is not None

    @property
    def reading(self) -> Reading:
        """What was asked of this section and of those it was taken from."""
        return self._reading

    @property
    def path(self) -> str:
        """Where the section stands in its document: "" or, for example, "text_config."."""
        return self._path

    def doubt(self, why: str) -> None:
        """State why the result for this section may be another than the configuration means."""
        self._reading.doubts.append(why)

    @property
    def values(self) -> Mapping[str, Any]:
        """The object as it was read."""
        return self._values

    @property
    def model_type(self) -> str:
        """The name of the model family, or ""."""
        return self.text("model_type")

    @property
    def architecture(self) -> str:
        """The implementation class, or ""; diffusers states it as _class_name."""
        self._asked.add("architectures")
        stated = self._values.get("architectures")
        if isinstance(stated, list):
            stated = stated[0] if stated else None
        return stated if isinstance(stated, str) else self.text("_class_name")

    def integer(self, *names: str, default: int | None = None) -> int:
        """A size: a whole number from 0. Raises Undescribed when it is neither stated nor has a default."""
        found = self.stated_integer(*names)
        if found is not None:
            return found
        if default is None:
            raise Undescribed(f"{self._path}{names[0]} is not stated")
        return default

    def stated_integer(self, *names: str) -> int | None:
        """A size, or None when it is not stated."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                # Most sizes are small; to look at the name takes longer than to compare.
                if not 0 <= value < _MAX_REPEATS and not 0 <= value < _most(name):
                    raise Undescribed(f"{self._path}{name} is not a plausible size")
                return value
        return None

    def number(self, *names: str, default: float = 0.0) -> float:
        """A number."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            # 1e999 is infinite, and a long integer is more than a float can hold.
            if isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_NUMBER < value < _MAX_NUMBER:
                return float(value)
        return default

    def flag(self, *names: str, default: bool = False) -> bool:
        """A yes or no."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            if isinstance(value, bool):
                return value
        return default

    def text(self, *names: str, default: str = "") -> str:
        """A word."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            if isinstance(value, str):
                return value
        return default

    def section(self, *names: str) -> "Section":
        """An object inside this one; an empty section when it is not stated."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            if isinstance(value, dict):
                return Section(value, f"{self._path}{name}.", self._reading)
        return Section({}, f"{self._path}{names[0]}.", self._reading)

    def sections(self, name: str) -> list["Section"]:
        """The objects of a list inside this one."""
        items = enumerate(self.items(name))
        return [Section(item, f"{self._path}{name}[{index}].", self._reading) for index, item in items]

    def items(self, *names: str) -> list[Any]:
        """A list; empty when it is not stated."""
        self._asked.update(names)
        for name in names:
            value = self._values.get(name)
            if isinstance(value, list):
                if len(value) > _MAX_ITEMS:
                    raise Undescribed(f"{self._path}{name} has more than {_MAX_ITEMS} items")
                return value
        return []

    def integers(self, *names: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A list of sizes. Raises Undescribed when it is neither stated nor has a default."""
        values = self.items(*names)
        if not values:
            if default is None:
                raise Undescribed(f"{self._path}{names[0]} is not stated")
            return default
        reader = Section({str(index): value for index, value in enumerate(values)}, f"{self._path}{names[0]}.")
        return tuple(reader.integer(str(index)) for index in range(len(values)))

    def merged(self, values: Mapping[str, Any]) -> "Section":
        """This section with some values stated instead."""
        return Section({**self._values, **values}, self._path, self._reading)

    def with_defaults(self, values: Mapping[str, Any]) -> "Section":
        """This section with some values stated where it is silent."""
        silent = {name: value for name, value in values.items() if self._values.get(name) is None}
        return self.merged(silent)
