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
from libs.artifact.reasons import Reason
from libs.artifact.uri import BucketUri, HuggingFaceUri, OracleUri, VendorUri, parse_uri
from libs.chassis.errors import Invalid
from services.fetcher.sources.bucket.source import BucketSource, bucket_source
from services.fetcher.sources.hub.source import HubOrigin, HubSource, Transport, hub_source
from services.fetcher.sources.hub.xet_streams import XetStreams
from services.fetcher.sources.oracle.source import OracleSource, oracle_source
from services.fetcher.sources.vendor import exec_driver as vendor_exec
from services.fetcher.sources.vendor import http_driver as vendor_http
from services.fetcher.sources.vendor.drivers import PREPROVISIONED, Driver, ExecDriver, HttpDriver
from services.fetcher.sources.vendor.source import exec_source, http_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin, Streams

if TYPE_CHECKING:
    from services.fetcher.sources.bucket.buckets import BucketListing, BucketOrigin
    from services.fetcher.sources.hub.huggingface import HubListing
    from services.fetcher.sources.oracle.oracle import OracleListing, OracleOrigin

_log = structlog.get_logger()

R = TypeVar("R")

# Listings of different models at the same time, and origins of transfers that begin.
_THREADS = 4


class Sources:
    """The backends that this fetcher can list and fetch from."""

    def __init__(self, hf_endpoint: str, hf_transport: Transport, vendor_drivers: Mapping[str, Driver]) -> None:
        self._hf_endpoint = hf_endpoint
        self._hf_transport = hf_transport
        self._vendor_drivers = vendor_drivers
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
        match parse_uri(uri):
            case VendorUri(vendor):
                return self._vendor_drivers.get(vendor, PREPROVISIONED) == PREPROVISIONED
            case _:
                return False

    async def list(self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> Manifest:
        """List a source: the files of the revision that it has now.

        Raises InvalidValue for a URI or parameter that cannot be used, else the ServiceError that the adapter raises.
        """
        match parse_uri(uri):
            case HuggingFaceUri() as hub_uri:
                source = self._hub_source(hub_uri, parameters, credentials)
                return _manifest(uri, await self._run(lambda: _list_revision(source)))
            case BucketUri() as bucket_uri:
                bucket = bucket_source(bucket_uri, parameters, credentials)
                return _manifest(uri, await self._run(lambda: _list_prefix(bucket)))
            case OracleUri() as oracle_uri:
                objects = oracle_source(oracle_uri, parameters, credentials)
                return _manifest(uri, await self._run(lambda: _list_objects(objects)))
            case VendorUri() as vendor_uri:
                return await self._list_vendor(vendor_uri, parameters, credentials)
            case _:
                raise _unsupported(uri)

    async def origin(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Origin:
        """Where the files of a listed revision are fetched from. Raises as list does."""
        match parse_uri(uri):
            case HuggingFaceUri() as hub_uri:
                return HubOrigin(self._hub_source(hub_uri, parameters, credentials), revision)
            case BucketUri() as bucket_uri:
                bucket = bucket_source(bucket_uri, parameters, credentials)
                return await self._run(lambda: _bucket_origin(bucket))
            case OracleUri() as oracle_uri:
                objects = oracle_source(oracle_uri, parameters, credentials)
                return await self._run(lambda: _oracle_origin(objects))
            case VendorUri() as vendor_uri:
                return await self._vendor_origin(vendor_uri, parameters, credentials, revision)
            case _:
                raise _unsupported(uri)

    def streams(
        self, uri: str, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Streams | None:
        """A second way to files of a listed revision, where the source has one. Raises InvalidValue as list does."""
        parsed = parse_uri(uri)
        if not isinstance(parsed, HuggingFaceUri):
            return None
        source = self._hub_source(parsed, parameters, credentials)
        return None if source.transport is Transport.HTTP else XetStreams(source, revision)

    def _hub_source(
        self, uri: HuggingFaceUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes]
    ) -> HubSource:
        return hub_source(uri, parameters, credentials, self._hf_endpoint, self._hf_transport)

    async def _list_vendor(
        self, uri: VendorUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes]
    ) -> Manifest:
        match self._vendor_drivers.get(uri.vendor, PREPROVISIONED):
            case HttpDriver() as http:
                behind_index = http_source(uri, parameters, credentials, http)
                return await self._run(lambda: vendor_http.list_index(behind_index, self._stop))
            case ExecDriver() as program:
                behind_program = exec_source(uri, parameters, credentials, program)
                return await self._run(lambda: vendor_exec.list_index(behind_program, self._stop))
            case _:
                raise _no_driver(uri)

    async def _vendor_origin(
        self, uri: VendorUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes], revision: str
    ) -> Origin:
        match self._vendor_drivers.get(uri.vendor, PREPROVISIONED):
            case HttpDriver() as http:
                behind_index = http_source(uri, parameters, credentials, http)
                return await self._run(lambda: vendor_http.open_origin(behind_index, revision, self._stop))
            case ExecDriver() as program:
                return vendor_exec.ExecOrigin(exec_source(uri, parameters, credentials, program), revision, self._stop)
            case _:
                raise _no_driver(uri)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _list_revision(source: HubSource) -> "HubListing":
    # Imported on the executor's thread: it takes a good part of a second, and the loop has others to serve.
    from services.fetcher.sources.hub.huggingface import list_revision

    return list_revision(source)


def _list_prefix(source: BucketSource) -> "BucketListing":
    from services.fetcher.sources.bucket.buckets import list_prefix

    return list_prefix(source)


def _bucket_origin(source: BucketSource) -> "BucketOrigin":
    from services.fetcher.sources.bucket.buckets import BucketOrigin

    return BucketOrigin(source)


def _list_objects(source: OracleSource) -> "OracleListing":
    from services.fetcher.sources.oracle.oracle import list_objects

    return list_objects(source)


def _oracle_origin(source: OracleSource) -> "OracleOrigin":
    from services.fetcher.sources.oracle.oracle import OracleOrigin

    return OracleOrigin(source)


def _manifest(uri: str, listing: "HubListing | BucketListing | OracleListing") -> Manifest:
    for warning in listing.warnings:
        _log.warning("listing_odd", source=uri, warning=warning)
    return listing.manifest


def _no_driver(uri: VendorUri) -> Invalid:
    return Invalid(
        Reason.UNSUPPORTED_BACKEND,
        f"the fetcher of this node has no driver for vendor {uri.vendor}, which another one has: "
        "give all of them the same vendorDrivers",
    )


def _unsupported(uri: str) -> Invalid:
    scheme = uri.partition("://")[0]
    return Invalid(
        Reason.UNSUPPORTED_BACKEND,
        f"this release cannot fetch from {scheme}://; hf://, oci://, s3://, gs://, az://, vendor:// and local:// work",
    )
