"""Where the bytes of a manifest come from: a URL and headers per file. Adapters implement Origin, the engine asks it.

Must not send requests for file content: ranges, redirects, retries and pauses are the engine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from libs.artifact.manifest import ManifestFile


@dataclass(frozen=True)
class Location:
    """An http or https URL and the headers to send with it. Both may be secret, as signed URLs are: never shown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Origin(Protocol):
    """A source of files over HTTP."""

    @property
    def name(self) -> str:
        """What a person calls the source, as in "hf://org/model"; without anything secret."""

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """Where to ask for a file.

        Called from several threads, before each request that does not follow a remembered redirect: must be quick when
        nothing has changed. again says that the last answer was refused (401, 403, 404, 410): renew what can expire.
        May raise any ServiceError, which ends the transfer.
        """


@dataclass(frozen=True)
class UrlOrigin:
    """Files below one base URL, under the paths that the manifest gives them."""

    name: str
    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The base URL with the file's path behind it."""
        return Location(f"{self.base_url.rstrip('/')}/{quote(file.path)}", self.headers)
