"""hf:// as a backend: repositories of the Hugging Face Hub, over HTTP and over Xet."""

from dataclasses import dataclass, replace
from typing import Protocol

from services.fetcher.sources.backend import Asked, Backend, Listing, Opening
from services.fetcher.sources.hub.source import HubOrigin, HubSource, Transport, hub_source
from services.fetcher.sources.hub.xet_streams import XetStreams
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.origin import Origin, Streams


class _Settings(Protocol):
    @property
    def hf_endpoint(self) -> str: ...

    @property
    def hf_transport(self) -> str: ...


@dataclass(frozen=True)
class _Repository:
    source: HubSource

    def list(self) -> Listing:
        from services.fetcher.sources.hub.huggingface import list_revision

        listing = list_revision(self.source)
        return Listing(listing.manifest, listing.warnings)

    def origin(self, revision: str) -> Origin:
        return HubOrigin(self.source, revision)

    def streams(self, revision: str) -> Streams | None:
        return None if self.source.transport is Transport.HTTP else XetStreams(self.source, revision)


def _configure(settings: _Settings) -> Opening:
    transport = Transport(settings.hf_transport)

    def open_repository(asked: Asked, _stop: StopFlag) -> _Repository:
        source = hub_source(asked.uri, asked.parameters, asked.credentials, settings.hf_endpoint, transport)
        return _Repository(replace(source, passage=asked.passage))

    return Opening(open_repository, endpoints=lambda uri: (settings.hf_endpoint,))


BACKEND = Backend(("hf",), _configure)
