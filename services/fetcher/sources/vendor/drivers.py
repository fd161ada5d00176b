"""How the models of each vendor are brought: the operator's configuration of drivers, understood and checked. Pure.

What a driver does with one model is vendor_source.py's.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from libs.chassis.settings import SettingsError

# The first part of vendor://; one that no URI can hold would never be used.
_VENDOR = re.compile(r"[^/\s\x00-\x1f\x7f]+")
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_INDEX_VARIABLES = ("vendor", "type", "path", "revision")
_FILE_VARIABLES = (*_INDEX_VARIABLES, "file")
_SECRET = "secret:"  # noqa: S105 (the beginning of a variable's name)
# RFC 9110 5.6.2.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What every request says already, and what would change how an answer is framed.
_RESERVED_HEADERS = {
    "accept", "accept-encoding", "connection", "content-length", "expect", "host", "if-match", "proxy-authorization",
    "range", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
}  # fmt: skip
_EXAMPLE = 'write {"acme": {"driver": "http", "index": "https://models.acme.com/{path}/index.json"}}'
_KINDS = ("http", "exec", "preprovisioned")
_DEFAULT_TIMEOUT_SECONDS = 60.0
# While a program runs for a file, the thread that wants the file can do nothing else.
_LONGEST_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class HttpDriver:
    """An index at a URL that says which files a model has. Without a file template it also says where each file is."""

    index: str
    file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ExecDriver:
    """A program that lists a model and says where its files are. It gets the named variables of the environment."""

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS


@dataclass(frozen=True)
class PreprovisionedDriver:
    """The vendor's own tools put models on the nodes, where they are read in place."""


Driver = HttpDriver | ExecDriver | PreprovisionedDriver

PREPROVISIONED = PreprovisionedDriver()


def parse_drivers(text: str) -> dict[str, Driver]:
    """The driver of each vendor, from a JSON object by vendor. Raises SettingsError with every mistake in it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError([f"is no JSON ({error}): {_EXAMPLE}"]) from None
    if not isinstance(document, dict):
        raise SettingsError([f"must be an object with one driver per vendor: {_EXAMPLE}"])
    problems: list[str] = []
    drivers: dict[str, Driver] = {}
    for vendor, fields in document.items():
        reading = _Reading(vendor)
        drivers[vendor] = reading.driver(fields)
        problems += reading.problems
    if problems:
        raise SettingsError(problems)
    return drivers


def variables_of(template: str) -> list[str]:
    """The names between braces, in order."""
    return _VARIABLE.findall(template)


def fill(template: str, value_of: Callable[[str], str]) -> str:
    """A template with each variable replaced."""
    return _VARIABLE.sub(lambda match: value_of(match[1]), template)


def is_free_header(name: str) -> bool:
    """Whether a driver may send a header: it has the form of one, and the fetcher does not set it by itself."""
    return bool(_HEADER_NAME.fullmatch(name)) and name.lower() not in _RESERVED_HEADERS


def secret_key(variable: str) -> str:
    """The key of the Secret that a variable of a header stands for; empty for another variable."""
    return variable.removeprefix(_SECRET) if variable.startswith(_SECRET) else ""


class _Reading:
    """Reads one driver and collects what is wrong with it, field by field."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self.problems: list[str] = []

    def driver(self, fields: Any) -> Driver:
        """The driver that the fields describe; of no use when there are problems."""
        if not _VENDOR.fullmatch(self._vendor):
            self._wrong("", "is no name of a vendor: it must be what stands behind vendor://, up to the next slash")
        if not isinstance(fields, dict):
            self._wrong("", f"must be an object with 'driver', one of {_listed(_KINDS)}")
            return PREPROVISIONED
        match fields.get("driver"):
            case "http":
                return self._http(self._known(fields, ("driver", "index", "file", "headers")))
            case "exec":
                return self._exec(self._known(fields, ("driver", "command", "environment", "timeoutSeconds")))
            case "preprovisioned":
                self._known(fields, ("driver",))
            case other:
                self._wrong("driver", f"is {other!r}: it must be one of {_listed(_KINDS)}")
        return PREPROVISIONED

    def _http(self, fields: Mapping[str, Any]) -> HttpDriver:
        index = self._template("index", fields.get("index"), _INDEX_VARIABLES, "path")
        file = self._template("file", fields["file"], _FILE_VARIABLES, "file") if "file" in fields else ""
        return HttpDriver(index, file, dict(self._headers(fields.get("headers", {}))))

    def _exec(self, fields: Mapping[str, Any]) -> ExecDriver:
        command = self._strings("command", fields.get("command"))
        if not command or not command[0].startswith("/") or any("\0" in word for word in command):
            self._wrong("command", 'must be a list that begins with an absolute path, such as ["/opt/acme/driver"]')
        environment = self._strings("environment", fields.get("environment", []))
        for name in environment:
            if not name or "=" in name or "\0" in name:
                # What stands behind the sign may be a secret.
                shown = name.partition("=")[0]
                self._wrong("environment", f"must list names of variables alone, but holds more for {shown!r}")
        seconds = fields.get("timeoutSeconds", _DEFAULT_TIMEOUT_SECONDS)
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < seconds <= _LONGEST_TIMEOUT_SECONDS:
            self._wrong(
                "timeoutSeconds", f"is {seconds!r}: it must be a number above 0, at most {_LONGEST_TIMEOUT_SECONDS:g}"
            )
            seconds = _DEFAULT_TIMEOUT_SECONDS
        return ExecDriver(command, environment, float(seconds))

    def _template(self, name: str, text: Any, known: Collection[str], needed: str) -> str:
        if not isinstance(text, str) or not text:
            self._wrong(name, f"must be a URL such as https://models.acme.com/{{path}}/{_example_end(name)}")
            return ""
        for variable in variables_of(text):
            if secret_key(variable):
                self._wrong(name, f"holds {{{variable}}}: a Secret is for headers alone, as addresses end up in logs")
            elif variable not in known:
                self._wrong(name, f"holds {{{variable}}}: there are {_listed(f'{{{each}}}' for each in known)}")
        if needed not in variables_of(text):
            self._wrong(name, f"lacks {{{needed}}}, so that all would have one address")
        if _has_stray_brace(text):
            self._wrong(name, "holds a brace that belongs to no variable: write it as %7B or %7D")
        self._check_address(name, text)
        return text

    def _check_address(self, name: str, text: str) -> None:
        try:
            parts = urlsplit(text)
            # Looking at the port is what raises for one that is no number.
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or any(character <= " " or character > "~" for character in text):
            self._wrong(name, f"must be a URL such as https://models.acme.com/{{path}}/{_example_end(name)}")
        elif "{" in parts.netloc:
            self._wrong(name, "has a variable in its host: a model would choose where the request goes")
        elif parts.username is not None or parts.fragment:
            self._wrong(name, "must hold neither a user, who belongs into headers and a Secret, nor a fragment")

    def _headers(self, fields: Any) -> Iterator[tuple[str, str]]:
        if not isinstance(fields, dict):
            self._wrong("headers", 'must be an object such as {"Authorization": "Bearer {secret:token}"}')
            return
        seen: set[str] = set()
        for name, text in fields.items():
            # The value may be a secret that somebody wrote in the wrong place: it is not repeated.
            if not is_free_header(name):
                self._wrong("headers", f"holds {name!r}, which is no name of a header, or one that the fetcher sets")
            elif name.lower() in seen:
                self._wrong("headers", f"holds {name!r} twice, as case makes no difference")
            seen.add(name.lower())
            if not isinstance(text, str) or not text.isascii() or not text.isprintable():
                self._wrong(f"headers.{name}", "must be one line of ASCII characters")
                continue
            if any(not secret_key(variable) for variable in variables_of(text)) or _has_stray_brace(text):
                self._wrong(f"headers.{name}", "may hold braces only as in {secret:token}, for a key of the Secret")
            yield name, text

    def _strings(self, name: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(name, "must be a list of strings")
            return ()
        return tuple(value)

    def _known(self, fields: Mapping[str, Any], known: Collection[str]) -> Mapping[str, Any]:
        for name in fields:
            if name not in known:
                self._wrong(name, f"does not exist for this driver: there are {_listed(known)}")
        return fields

    def _wrong(self, name: str, why: str) -> None:
        self.problems.append(f"{self._vendor}{'.' if name else ''}{name} {why}")


def _has_stray_brace(text: str) -> bool:
    return bool(re.search(r"[{}]", _VARIABLE.sub("", text)))


def _example_end(name: str) -> str:
    return "index.json" if name == "index" else "{file}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
