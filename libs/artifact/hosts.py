"""Names of hosts as settings and users list them, and the endpoint that a model names. Pure.

An endpoint is read more strictly than by any client that will use it: what two of them could understand in two ways is
refused, so that a credential goes to the host that was checked.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?[.]?|\[[0-9a-f:.]{2,45}\])"
    r"(:(?P<port>[0-9]{1,5}))?"
    r"(/[a-z0-9._~/%+=,:-]*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class NamedEndpoint:
    """Where an endpoint of a model leads to. host is in lower case, without brackets and without a dot at its end."""

    scheme: str
    host: str
    port: int


def read_endpoint_host(text: str) -> NamedEndpoint | None:
    """Where an http or https URL leads to; None for a text that is none, or that could be understood in two ways."""
    match = _ENDPOINT.fullmatch(text.strip())
    if not match:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    return NamedEndpoint(scheme, plain_host(match["host"]), port) if 0 < port < 65536 else None


def plain_host(host: str) -> str:
    """A host as lists are searched for it."""
    return host.lower().strip("[]").removesuffix(".")


def is_listed(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host is one of a list: each entry is a host, or *.example.com for every host below example.com."""
    host = plain_host(host)
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == plain_host(pattern)
        for pattern in (each.strip().lower() for each in patterns)
        if pattern.strip("*.")
    )
