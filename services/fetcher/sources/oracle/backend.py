"""oci:// as a backend: prefixes of Oracle's Object Storage."""

from dataclasses import dataclass, replace
from typing import Protocol

from services.fetcher.sources.backend import Asked, Backend, Listing, Opening
from services.fetcher.sources.oracle.source import OracleSource, oracle_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin


class _Settings(Protocol):
    @property
    def listing_files(self) -> int: ...


@dataclass(frozen=True)
class _Prefix:
    source: OracleSource

    def list(self) -> Listing:
        from services.fetcher.sources.oracle.oracle import list_objects

        listing = list_objects(self.source)
        return Listing(listing.manifest, listing.warnings)

    def origin(self, revision: str) -> Origin:
        from services.fetcher.sources.oracle.oracle import OracleOrigin

        return OracleOrigin(self.source)

    def streams(self, revision: str) -> None:
        return None


def _configure(settings: _Settings) -> Opening:
    def open_prefix(asked: Asked, _stop: StopFlag) -> _Prefix:
        source = oracle_source(asked.uri, asked.parameters, asked.credentials)
        return _Prefix(replace(source, passage=asked.passage, most_files=settings.listing_files))

    return Opening(open_prefix)


def _prepare() -> None:
    import services.fetcher.sources.oracle.oracle  # noqa: F401


BACKEND = Backend(("oci",), _configure, _prepare)
