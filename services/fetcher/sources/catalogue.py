"""The catalogue of backends: one folder per kind of source, found by name. Keeps their blocking calls on an executor.

Adding a folder touches nothing here. An SDK is imported when its backend is first used, which keeps an idle fetcher
small. Must not transfer content.
"""

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import TracebackType
from typing import TypeVar

from libs.artifact.reasons import Reason
from libs.artifact.uri import check_parameters, parse_uri, syntax_of
from libs.chassis.errors import Invalid
from services.fetcher import sources
from services.fetcher.sources.admission import Admitted, admit
from services.fetcher.sources.backend import Asked, Backend, Opening, Source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin, Streams

R = TypeVar("R")

# Listings of different models at the same time, and origins of transfers that begin.
_THREADS = 4


class Sources:
    """The sources that this fetcher can list and fetch from."""

    def __init__(self, settings: object) -> None:
        """settings are the fetcher's, of which each backend reads its own. Raises SettingsError."""
        self._openings: dict[str, Opening] = {}
        for backend in backends():
            self._openings |= dict.fromkeys(backend.schemes, backend.configure(settings))
        # A program of a vendor may take minutes, which the end of the process does not wait for.
        self._stop = StopFlag()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="source")

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._executor.shutdown(wait=False)

    def read_in_place(self, uri: str) -> bool:
        """Whether a source is not listed, as something else puts its files on the nodes. Raises InvalidValue."""
        parsed = parse_uri(uri)
        opening = self._openings.get(syntax_of(uri).scheme)
        return opening is not None and opening.reads_in_place(parsed)

    async def list(self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> Admitted:
        """List a source: the files of the revision that it has now.

        Raises InvalidValue for a URI or parameter that cannot be used, Missing Incomplete, else the ServiceError that
        the adapter raises.
        """
        source = self._open(uri, parameters, credentials)
        return await self._run(lambda: admit(source.list(), source, uri, parameters, self._stop))

    async def origin(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Origin:
        """Where the files of a listed revision are fetched from. Raises as list does."""
        source = self._open(uri, parameters, credentials)
        return await self._run(lambda: source.origin(revision))

    def streams(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Streams | None:
        """A second way to files of a listed revision, where the source has one. Raises InvalidValue as list does."""
        return self._open(uri, parameters, credentials).streams(revision)

    def _open(self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> Source:
        parsed, scheme = parse_uri(uri), syntax_of(uri).scheme
        check_parameters(uri, parameters)
        if scheme not in self._openings:
            known = ", ".join(f"{name}://" for name in self._openings)
            raise Invalid(Reason.UNSUPPORTED_BACKEND, f"this release cannot fetch from {scheme}://, but from {known}")
        return self._openings[scheme].open(Asked(parsed, parameters, credentials), self._stop)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


@cache
def backends() -> tuple[Backend, ...]:
    """What every folder beside this module exports."""
    folders = (module.name for module in pkgutil.iter_modules(sources.__path__) if module.ispkg)
    return tuple(importlib.import_module(f"{sources.__name__}.{name}.backend").BACKEND for name in sorted(folders))
