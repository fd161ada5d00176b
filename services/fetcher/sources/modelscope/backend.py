"""ms:// as a backend: repositories of ModelScope, by its public HTTP API."""

from dataclasses import dataclass
from typing import Protocol

from services.fetcher.sources.backend import Asked, Backend, Listing, Opening
from services.fetcher.sources.modelscope.listing import list_revision
from services.fetcher.sources.modelscope.source import ModelScopeOrigin, ModelScopeSource, modelscope_source
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.origin import Origin


class _Settings(Protocol):
    @property
    def modelscope_endpoint(self) -> str: ...


@dataclass(frozen=True)
class _Repository:
    source: ModelScopeSource
    stop: StopFlag
    egress: Rule

    def list(self) -> Listing:
        return list_revision(self.source, self.stop, self.egress)

    def origin(self, revision: str) -> Origin:
        return ModelScopeOrigin(self.source, revision)

    def streams(self, revision: str) -> None:
        return None


def _configure(settings: _Settings) -> Opening:
    def open_repository(asked: Asked, stop: StopFlag) -> _Repository:
        source = modelscope_source(asked.uri, asked.parameters, asked.credentials, settings.modelscope_endpoint)
        return _Repository(source, stop, asked.egress)

    return Opening(open_repository, endpoints=lambda uri: (settings.modelscope_endpoint,))


BACKEND = Backend(("ms",), _configure)
