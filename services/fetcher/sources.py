"""Chooses the adapter for a storage URI, and keeps its blocking calls on a bounded executor.

An SDK is imported when its backend is first used, which keeps an idle fetcher small. Must not transfer content.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import structlog

from libs.artifact.manifest import Manifest
from libs.artifact.uri import HuggingFaceUri, parse_uri
from libs.chassis.errors import Invalid
from services.fetcher.hub_source import HubOrigin, HubSource, hub_source
from services.fetcher.transfer.origin import Origin

if TYPE_CHECKING:
    from services.fetcher.huggingface import HubListing

_log = structlog.get_logger()

R = TypeVar("R")

# Listings of different models at the same time, and origins of transfers that begin.
_THREADS = 4


class Sources:
    """The backends that this fetcher can list and fetch from."""

    def __init__(self, hf_endpoint: str) -> None:
        self._hf_endpoint = hf_endpoint
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="source")

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False)

    async def list(self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> Manifest:
        """List a source: the files of the revision that it has now.

        Raises InvalidValue for a URI or parameter that cannot be used, else the ServiceError that the adapter raises.
        """
        match parse_uri(uri):
            case HuggingFaceUri() as hub_uri:
                source = hub_source(hub_uri, parameters, credentials, self._hf_endpoint)
                listing = await self._run(lambda: _list_revision(source))
                for warning in listing.warnings:
                    _log.warning("listing_odd", source=uri, warning=warning)
                return listing.manifest
            case _:
                raise _unsupported(uri)

    async def origin(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Origin:
        """Where the files of a listed revision are fetched from. Raises as list does."""
        match parse_uri(uri):
            case HuggingFaceUri() as hub_uri:
                return HubOrigin(hub_source(hub_uri, parameters, credentials, self._hf_endpoint), revision)
            case _:
                raise _unsupported(uri)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _list_revision(source: HubSource) -> "HubListing":
    # Imported on the executor's thread: it takes a good part of a second, and the loop has others to serve.
    from services.fetcher.huggingface import list_revision

    return list_revision(source)


def _unsupported(uri: str) -> Invalid:
    scheme = uri.partition("://")[0]
    return Invalid("UnsupportedBackend", f"this release cannot fetch from {scheme}://; hf:// and local:// work")
