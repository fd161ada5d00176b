"""Where the bytes of a manifest come from: a URL and headers per file, or a stream of its own.

Adapters implement Origin, which must not send requests for file content: ranges, redirects, retries and pauses are the
engine's. A source that has a protocol of its own beside HTTP implements Streams as well.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from libs.artifact.manifest import ManifestFile


@dataclass(frozen=True)
class Location:
    """An http or https URL and the headers to send with it. Both may be secret, as signed URLs are: never shown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def secrets(self) -> tuple[str, ...]:
        """What must not come back in anybody's words: values of headers and of the query, as sent and decoded."""
        query = urlsplit(self.url).query
        values = [value for _, _, value in (pair.partition("=") for pair in query.split("&"))]
        return (query, *values, *map(unquote, values), *self.headers.values())


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


class Stream(Protocol):
    """Sends the bytes of one file after the other, in order. Used by one thread."""

    def offers(self, file: ManifestFile) -> bool:
        """Whether the source can send this file."""

    def begin(self, file: ManifestFile, offset: int) -> None:
        """Turn to a file that is offered, from an offset on; the one before must have been read to its end."""

    def receive(self, view: memoryview) -> int:
        """Fill view; return how many bytes came, fewer only at the end of the file.

        The end may come early and the bytes may be wrong: the caller checks both. Raises Unavailable or Missing when
        the source cannot go on, and what the check raises that the stream was opened with.
        """


class Streams(Protocol):
    """A way to whole files beside HTTP."""

    @property
    def name(self) -> str:
        """What a person calls it, as in "hf://org/model over Xet"; without anything secret."""

    @property
    def preferred(self) -> bool:
        """Whether it comes before HTTP, else after: for what HTTP could not bring."""

    def open(self, directory: Path, check: Callable[[], None]) -> AbstractContextManager[Stream]:
        """Begin to stream. What must lie on disk lies in directory, which nobody else uses and which goes afterwards.

        check is called while waiting and may raise. Raises any ServiceError when the source cannot be asked.
        """
