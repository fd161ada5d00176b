"""vendor:// as a backend: whatever the operator's driver for the vendor says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from libs.artifact.reasons import Reason
from libs.artifact.uri import ModelUri, VendorUri
from libs.chassis.errors import Invalid
from services.fetcher.sources.backend import Asked, Backend, Listing, Opening, Source
from services.fetcher.sources.vendor import exec_driver, http_driver
from services.fetcher.sources.vendor.driver_file import read_drivers
from services.fetcher.sources.vendor.drivers import PREPROVISIONED, Driver, ExecDriver, HttpDriver
from services.fetcher.sources.vendor.source import ExecSource, HttpSource, exec_source, http_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin


class _Settings(Protocol):
    @property
    def vendor_drivers_file(self) -> Path | None: ...


@dataclass(frozen=True)
class _BehindIndex:
    source: HttpSource
    stop: StopFlag

    def list(self) -> Listing:
        return Listing(http_driver.list_index(self.source, self.stop))

    def origin(self, revision: str) -> Origin:
        return http_driver.open_origin(self.source, revision, self.stop)

    def streams(self, revision: str) -> None:
        return None


@dataclass(frozen=True)
class _BehindProgram:
    source: ExecSource
    stop: StopFlag

    def list(self) -> Listing:
        return Listing(exec_driver.list_index(self.source, self.stop))

    def origin(self, revision: str) -> Origin:
        return exec_driver.ExecOrigin(self.source, revision, self.stop)

    def streams(self, revision: str) -> None:
        return None


class _Vendors:
    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = drivers

    def driver(self, uri: VendorUri) -> Driver:
        return self._drivers.get(uri.vendor, PREPROVISIONED)

    def reads_in_place(self, uri: ModelUri) -> bool:
        return isinstance(uri, VendorUri) and self.driver(uri) == PREPROVISIONED

    def endpoints(self, uri: ModelUri) -> tuple[str, ...]:
        """The addresses in a driver, whose host no variable can change."""
        match self.driver(uri) if isinstance(uri, VendorUri) else PREPROVISIONED:
            case HttpDriver(index, file):
                return tuple(url for url in (index, file) if url)
        return ()

    def open(self, asked: Asked, stop: StopFlag) -> Source:
        match self.driver(asked.uri):
            case HttpDriver() as http:
                source = http_source(asked.uri, asked.parameters, asked.credentials, http)
                return _BehindIndex(replace(source, egress=asked.egress), stop)
            case ExecDriver() as program:
                return _BehindProgram(exec_source(asked.uri, asked.parameters, asked.credentials, program), stop)
        raise Invalid(
            Reason.UNSUPPORTED_BACKEND,
            f"the fetcher of this node has no driver for vendor {asked.uri.vendor}, which another one has: "
            "give all of them the same vendorDrivers",
        )


def _configure(settings: _Settings) -> Opening:
    vendors = _Vendors(read_drivers(settings.vendor_drivers_file))
    return Opening(vendors.open, vendors.reads_in_place, vendors.endpoints)


BACKEND = Backend(("vendor",), _configure)
