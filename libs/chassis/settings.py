"""Settings of a process: a frozen dataclass, read from the environment, every bad variable reported at once.

A field `nats_url` is read from OME_NATS_URL unless its metadata names another variable. Secrets are given as paths of
files; nothing here reads them.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_PREFIX = "OME_"
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


class SettingsError(Exception):
    """The environment cannot be used; problems holds one sentence per variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def setting(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    name: str = "",
    minimum: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
) -> Any:
    """Declare a field of a settings dataclass.

    name replaces the variable's usual name; minimum bounds numbers, inclusive; choices bounds strings; each
    entry of a tuple is wholly as the regular expression pattern says.
    """
    metadata = {"help": help, "name": name, "minimum": minimum, "choices": choices, "pattern": pattern}
    return dataclasses.field(default=default, metadata=metadata)


def variable_name(field: "dataclasses.Field[Any]") -> str:
    """The environment variable that a field is read from."""
    return field.metadata.get("name") or _PREFIX + field.name.upper()


def environment_of(cls: type[Any], settings: object) -> dict[str, str]:
    """The variables from which load_settings reads the fields of cls with the values that settings have.

    For a process that is started with what its parent was told. Secrets are in files, so none is among them.
    """
    values = {field: getattr(settings, field.name) for field in dataclasses.fields(cls)}
    return {variable_name(field): _written(value) for field, value in values.items()}


def load_settings(cls: type[T], environ: Mapping[str, str]) -> T:
    """Read cls from environ. An empty variable counts as unset.

    Raises SettingsError with every problem, never only the first.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = variable_name(field)
        text = environ.get(name, "")
        if not text:
            if field.default is dataclasses.MISSING:
                problems.append(f"{name} is not set: {field.metadata['help']}")
            continue
        try:
            values[field.name] = _parse(hints[field.name], text, field.metadata)
        except ValueError as error:
            problems.append(f"{name}={text!r} {error}: {field.metadata['help']}")
    if problems:
        raise SettingsError(problems)
    return cls(**values)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _parse(hint: Any, text: str, metadata: Mapping[str, Any]) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if hint is bool:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError("must be true or false")
    if hint in (int, float):
        return _parse_number(hint, text, metadata.get("minimum"))
    if hint is Path:
        return Path(text)
    if typing.get_origin(hint) is tuple:
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        pattern = metadata.get("pattern")
        if pattern and (wrong := [part for part in parts if not re.fullmatch(pattern, part)]):
            raise ValueError(f"holds {wrong[0]!r}, which cannot be understood")
        return parts
    choices = metadata.get("choices") or ()
    if choices and text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return text


def _parse_number(kind: type, text: str, minimum: float | None) -> int | float:
    try:
        number: int | float = kind(text)
    except ValueError:
        raise ValueError("must be a whole number" if kind is int else "must be a number") from None
    # float() takes "nan" and "inf", which no setting can use.
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("must be a finite number")
    if minimum is not None and number < minimum:
        raise ValueError(f"must be at least {minimum:g}")
    return number
