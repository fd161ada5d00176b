"""The catalogue of backends: one folder per kind of source, found by name.

Adding a folder touches nothing here. An SDK is imported when its backend is first used, which keeps an idle fetcher
small. Must not transfer content.
"""

import asyncio
import contextlib
import importlib
import ipaddress
import pkgutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Protocol, TypeVar

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest
from libs.artifact.model_directory import ModelFile
from libs.artifact.reasons import Reason
from libs.artifact.uri import ModelUri, check_parameters, parse_uri, syntax_of
from libs.chassis.errors import Invalid, ServiceError
from libs.chassis.settings import SettingsError
from services.fetcher import sources
from services.fetcher.sources.admission import Admitted, admit
from services.fetcher.sources.backend import Asked, Backend, Opening, Source
from services.fetcher.sources.declarations import read_declarations
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.addresses import split_url
from services.fetcher.transfer.egress import Rule, read_networks
from services.fetcher.transfer.gate import Gate
from services.fetcher.transfer.origin import Origin, Streams

R = TypeVar("R")

# Origins of transfers that begin.
_THREADS = 4


class _Settings(Protocol):
    @property
    def egress_allow(self) -> tuple[str, ...]: ...

    @property
    def egress_cluster_ranges(self) -> tuple[str, ...]: ...

    @property
    def kubernetes_service_host(self) -> str: ...


class Sources:
    """The sources that this fetcher can list and fetch from.

    Each is held to what its model may reach: a namespaced one to less than one of the cluster.
    """

    def __init__(self, settings: _Settings) -> None:
        """settings are the fetcher's, of which each backend reads its own. Raises SettingsError."""
        self._egress = _rule(settings)
        self._openings: dict[str, Opening] = {}
        for backend in backends():
            self._openings |= dict.fromkeys(backend.schemes, backend.configure(settings))
        # A program of a vendor may take minutes, which the end of the process does not wait for.
        self._stop = StopFlag()
        self._gate = Gate(self._stop.check)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="source")

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._gate.close()
        self._executor.shutdown(wait=False)

    def read_in_place(self, uri: str) -> bool:
        """Whether a source is not listed, as something else puts its files on the nodes. Raises InvalidValue."""
        parsed = parse_uri(uri)
        opening = self._openings.get(syntax_of(uri).scheme)
        return opening is not None and opening.reads_in_place(parsed)

    def egress(self, uri: str, namespaced: bool = True) -> Rule:
        """What the connections of a model's transfer may lead to. Raises InvalidValue."""
        opening = self._openings.get(syntax_of(uri).scheme)
        return self._rule_of(opening, parse_uri(uri), namespaced)

    def list(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], namespaced: bool = True
    ) -> Admitted:
        """List a source: the files of the revision that it has now. Blocks for seconds.

        Raises InvalidValue for a URI or parameter that cannot be used, Missing Incomplete, else the ServiceError that
        the adapter raises.
        """
        source = self._open(uri, parameters, credentials, namespaced)
        return admit(source.list(), source, uri, parameters, self._stop, self.egress(uri, namespaced))

    def declared(
        self,
        uri: str,
        parameters: Mapping[str, str],
        credentials: Mapping[str, bytes],
        manifest: Manifest,
        schema_path: str,
        seconds: float,
        namespaced: bool = True,
    ) -> tuple[ModelFile, ...]:
        """What the parser is given of a listed source's files; nothing where that cannot be read. Blocks for seconds.

        Raises InvalidValue as list does.
        """
        source = self._open(uri, parameters, credentials, namespaced)
        try:
            origin = source.origin(manifest.source_revision)
        except (ServiceError, InvalidValue):
            return ()
        rule = self.egress(uri, namespaced)
        return tuple(read_declarations(manifest, origin, schema_path, seconds, self._stop, rule))

    async def origin(
        self,
        uri: str,
        parameters: Mapping[str, str],
        credentials: Mapping[str, bytes],
        revision: str,
        namespaced: bool = True,
    ) -> Origin:
        """Where the files of a listed revision are fetched from. Raises as list does."""
        source = self._open(uri, parameters, credentials, namespaced)
        return await self._run(lambda: source.origin(revision))

    def streams(
        self,
        uri: str,
        parameters: Mapping[str, str],
        credentials: Mapping[str, bytes],
        revision: str,
        namespaced: bool = True,
    ) -> Streams | None:
        """A second way to files of a listed revision, where the source has one. Raises InvalidValue as list does."""
        return self._open(uri, parameters, credentials, namespaced).streams(revision)

    def _open(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], namespaced: bool
    ) -> Source:
        parsed, scheme = parse_uri(uri), syntax_of(uri).scheme
        check_parameters(uri, parameters)
        if scheme not in self._openings:
            known = ", ".join(f"{name}://" for name in self._openings)
            raise Invalid(Reason.UNSUPPORTED_BACKEND, f"this release cannot fetch from {scheme}://, but from {known}")
        opening = self._openings[scheme]
        rule = self._rule_of(opening, parsed, namespaced)
        passage = self._gate.passage(replace(rule, identity=opening.identity(parameters, credentials)))
        return opening.open(Asked(parsed, parameters, credentials, passage, rule), self._stop)

    def _rule_of(self, opening: Opening | None, uri: ModelUri, namespaced: bool) -> Rule:
        configured = [split_url(url)[0] for url in (opening.endpoints(uri) if opening else ())]
        own = tuple((endpoint.host, endpoint.port) for endpoint in configured)
        return replace(self._egress, namespaced=namespaced, own=own)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _rule(settings: _Settings) -> Rule:
    """The operator's part of the rule. Raises SettingsError."""
    problems = []
    lists = {"OME_EGRESS_ALLOW": settings.egress_allow, "OME_EGRESS_CLUSTER_RANGES": settings.egress_cluster_ranges}
    read = {}
    for name, entries in lists.items():
        try:
            read[name] = read_networks(entries)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not problems and read["OME_EGRESS_CLUSTER_RANGES"][1]:
        problems.append(f"OME_EGRESS_CLUSTER_RANGES: {read['OME_EGRESS_CLUSTER_RANGES'][1][0]!r} is no network")
    if problems:
        raise SettingsError(problems)
    networks, hosts = read["OME_EGRESS_ALLOW"]
    cluster, _ = read["OME_EGRESS_CLUSTER_RANGES"]
    # Outside of a cluster there is none; a name instead of an address is nothing to compare with.
    with contextlib.suppress(ValueError):
        cluster += (ipaddress.ip_network(settings.kubernetes_service_host),)
    return Rule(networks=networks, hosts=hosts, cluster=cluster)


def prepare(scheme: str) -> None:
    """Import what listing a source with this scheme takes. Idempotent; does nothing for one that is not known."""
    for backend in backends():
        if scheme in backend.schemes:
            backend.prepare()


@cache
def backends() -> tuple[Backend, ...]:
    """What every folder beside this module exports."""
    folders = (module.name for module in pkgutil.iter_modules(sources.__path__) if module.ispkg)
    return tuple(importlib.import_module(f"{sources.__name__}.{name}.backend").BACKEND for name in sorted(folders))
