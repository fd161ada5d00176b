"""What --help of a service prints: what it does, its commands, and every setting with its variable and default."""

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.chassis.settings import variable_name

_WIDTH = 100
_EXIT_CODES = "Exit codes: 0 after a signal, 1 after a crash, 2 if the arguments or variables cannot be used."


@dataclass(frozen=True)
class Usage:
    """How a service is called: its command line, a sentence about it, and further commands of the same module."""

    command: str
    about: str
    commands: Mapping[str, str] = field(default_factory=dict)


def usage_text(usage: Usage, settings_class: type[Any]) -> str:
    """The page, which ends with a line break."""
    blocks = [f"usage: {usage.command}", textwrap.fill(usage.about, _WIDTH)]
    if usage.commands:
        rows = [_entry(name, about) for name, about in usage.commands.items()]
        blocks.append("\n".join(["Further commands of this module, each with --help:", *rows]))
    settings = [
        _entry(_head(each), each.metadata["help"])
        for each in sorted(dataclasses.fields(settings_class), key=lambda each: each.default is not dataclasses.MISSING)
    ]
    blocks.append("\n".join(["Settings, from environment variables. An empty variable counts as unset.", *settings]))
    return "\n\n".join([*blocks, _EXIT_CODES]) + "\n"


def _head(setting: "dataclasses.Field[Any]") -> str:
    if setting.default is dataclasses.MISSING:
        return f"{variable_name(setting)} (required)"
    default = ",".join(setting.default) if isinstance(setting.default, tuple) else setting.default
    return f"{variable_name(setting)} (default: {'none' if default in (None, '') else default})"


def _entry(head: str, about: str) -> str:
    return f"  {head}\n{textwrap.fill(about, _WIDTH, initial_indent='      ', subsequent_indent='      ')}"
