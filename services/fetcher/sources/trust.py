"""Certificates that sources may show besides public ones: read once, and made known to every library by its own way.

Some libraries know no further list of certificates, but only another one. They get a file with all of them, which lies
in memory: what a Pod may write to is for models. NATS, the gRPC channel and programs of vendors read none of it.
"""

import os
import ssl
from pathlib import Path

from libs.chassis.settings import SettingsError
from services.fetcher.transfer.tls import tls_context

# What requests, which Oracle's SDK asks with, takes instead of its own list. The engine trusts it additionally.
_BUNDLE = "REQUESTS_CA_BUNDLE"
_SETTING = "OME_SOURCE_CA_FILE"
# Below the directory of the system's certificates, as Debian has it.
_SYSTEM_BUNDLE = "ca-certificates.crt"


def trust_also(authorities: Path) -> None:
    """Trust the certificates of a file from now on, besides those that count already. Raises SettingsError."""
    try:
        added = authorities.read_text(encoding="ascii")
        if not added.strip():
            raise ValueError("it is empty")
        ssl.create_default_context(cadata=added)
    except (OSError, ValueError) as error:
        raise SettingsError(
            [f"{_SETTING}={str(authorities)!r} holds no certificates that can be read: {error}"]
        ) from error
    known = _bundle_so_far()
    # It lives as long as the process, and so does its descriptor.
    descriptor = os.memfd_create("source-authorities")
    os.write(descriptor, "\n".join([known.read_text(encoding="utf-8") if known else "", added, ""]).encode())
    os.environ[_BUNDLE] = f"/proc/{os.getpid()}/fd/{descriptor}"
    tls_context.cache_clear()


def bundle_of_all() -> str:
    """The file with all certificates, for a program of ours; empty if none are trusted besides the usual ones."""
    path = os.environ.get(_BUNDLE, "")
    return path if path.startswith(f"/proc/{os.getpid()}/fd/") else ""


def _bundle_so_far() -> Path | None:
    paths = ssl.get_default_verify_paths()
    candidates = (os.environ.get(_BUNDLE), paths.cafile, paths.capath and os.path.join(paths.capath, _SYSTEM_BUNDLE))
    return next((Path(path) for path in candidates if path and os.path.isfile(path)), None)
