"""Where a URL leads to: the endpoint to connect to and the target to ask for there. Pure."""

import functools
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_URL = re.compile(r"(?P<base>[^/?#]*//[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.DOTALL)
_TARGET = re.compile("[!-~]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressError(ValueError):
    """A URL that no request can be sent to. The message does not repeat it, as it may be a signed one."""


@dataclass(frozen=True)
class Endpoint:
    """Where a connection leads: scheme is http or https."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port, as a proxy is asked for them."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of a Host header, which leaves the default port of the scheme away."""
        return bracketed(self.host) if self.port == _DEFAULT_PORTS[self.scheme] else self.authority

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def split_url(url: str) -> tuple[Endpoint, str]:
    """Split an http or https URL into its endpoint and its target. Raises AddressError for anything else."""
    # Quick, as thousands of small files are bound by what each costs in Python.
    match = _URL.fullmatch(url)
    if not match:
        raise AddressError("an address names no host")
    endpoint, target = _parse_endpoint(match["base"]), match["target"]
    if not _TARGET.fullmatch(target):
        raise AddressError("an address holds characters that are not allowed in one")
    return endpoint, target if target.startswith("/") else f"/{target}"


def bracketed(host: str) -> str:
    """A host as a URL has it: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host else host


@functools.lru_cache(maxsize=64)
def _parse_endpoint(base: str) -> Endpoint:
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"an address cannot be understood: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise AddressError(f"an address begins with {parts.scheme!r}, which is neither http nor https, or has no host")
    return Endpoint(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme])
