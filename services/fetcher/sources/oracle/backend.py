"""oci:// as a backend: prefixes of Oracle's Object Storage."""

from dataclasses import dataclass, replace

from services.fetcher.sources.backend import Asked, Backend, Listing, Opening
from services.fetcher.sources.oracle.source import OracleSource, oracle_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin


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


def _open(asked: Asked, _stop: StopFlag) -> _Prefix:
    return _Prefix(replace(oracle_source(asked.uri, asked.parameters, asked.credentials), passage=asked.passage))


BACKEND = Backend(("oci",), lambda settings: Opening(_open))
