"""Holds the licence of each third-party distribution that an image may contain against a list.

What an image may contain is what `requirements.in` names and, in turn, what these require: the rules of the build
permit services nothing else.
"""

import importlib.metadata
import re
from collections.abc import Callable, Iterable
from email.message import Message
from typing import Any, cast

from packaging.requirements import Requirement

from tools.audit.finding import Finding
from tools.images.licences import expression, identifiers

# Each licence that an expression names must be here, whether it could be chosen or not.
ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "PSF-2.0",
        "UPL-1.0",
        # It asks that changed files of the work stay under it; we change none.
        "MPL-2.0",
        # The same for a library that is used as it is and can be replaced: crc32c, which the SDK of Oracle requires.
        "LGPL-2.1-or-later",
    }
)


def installed_metadata(name: str) -> Message:
    """The core metadata of a distribution in .venv, which holds what the locks pin."""
    return cast("Message", importlib.metadata.metadata(name))


def required(lines: Iterable[str], metadata: Callable[[str], Message] = installed_metadata) -> list[str]:
    """The names of everything that a file of requirements needs, directly or not, on this Python."""
    extras: dict[str, set[str]] = {}
    waiting = [Requirement(line) for line in map(str.strip, lines) if line and not line.startswith(("#", "-"))]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        new = {"", *wanted.extras} - extras.setdefault(name, set())
        extras[name] |= new
        inner = [Requirement(each) for each in metadata(name).get_all("Requires-Dist") or ()]
        waiting += [each for each in inner if any(_applies(each, extra) for extra in new)]
    return sorted(extras)


def _applies(requirement: Requirement, extra: str) -> bool:
    environment: dict[str, Any] = {"extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def check(names: Iterable[str], metadata: Callable[[str], Message] = installed_metadata) -> list[Finding]:
    """A finding for each distribution whose licence is unknown or not on the list."""
    found = []
    for name in names:
        stated = expression(metadata(name))
        foreign = sorted(set(identifiers(stated)) - ALLOWED)
        if not stated:
            found.append(Finding("licences", name, "its metadata names no licence that we can read"))
        elif foreign:
            found.append(Finding("licences", name, f"{stated} is not on the list of tools/audit/licences.py"))
    return found
