"""What a backend is: the folder that knows one kind of source, and exports how it is opened as BACKEND.

What its URIs and parameters look like is libs/artifact/uri.py's. Must not know any backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from libs.artifact.findings import Remark
from libs.artifact.manifest import Manifest
from libs.artifact.uri import ModelUri
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.origin import Origin, Streams
from services.fetcher.transfer.passage import Passage


@dataclass(frozen=True)
class Asked:
    """A source as a model names it. uri is of the class that the scheme's syntax makes; credentials are never shown.

    passage is the way of an SDK's connections; egress is the rule of those that the backend makes itself.
    """

    uri: Any
    parameters: Mapping[str, str]
    credentials: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    passage: Passage | None = None
    egress: Rule = ANYWHERE


@dataclass(frozen=True)
class Listing:
    """What a source held when it was listed, and what a person should know about it."""

    manifest: Manifest
    warnings: tuple[Remark, ...] = ()


class Source(Protocol):
    """A source that is understood and not asked yet. The methods block, for seconds, and raise ServiceErrors.

    They import the backend's SDK: on the thread that calls them, and not before.
    """

    def list(self) -> Listing:
        """The files to fetch of the revision that it has now. Must not retry: the controller does."""

    def origin(self, revision: str) -> Origin:
        """Where the files of a listed revision are fetched from."""

    def streams(self, revision: str) -> Streams | None:
        """A second way to files of a listed revision, where there is one. Does not block."""


@dataclass(frozen=True)
class Opening:
    """How a backend opens sources, by the settings of this fetcher.

    open raises InvalidValue for what a model says and cannot mean; the flag ends what takes long. reads_in_place tells
    of a URI that something else puts the files on the nodes, so that there is nothing to list. endpoints are the
    addresses of such a source that the operator has set: they are reached wherever they are. identity says of
    parameters and credentials whether an SDK may ask for the identity of the Pod.
    """

    open: Callable[[Asked, StopFlag], Source]
    reads_in_place: Callable[[ModelUri], bool] = lambda uri: False
    endpoints: Callable[[ModelUri], tuple[str, ...]] = lambda uri: ()
    identity: Callable[[Mapping[str, str], Mapping[str, bytes]], bool] = lambda parameters, credentials: False


@dataclass(frozen=True)
class Backend:
    """The schemes that a folder serves. configure takes the fetcher's settings, and raises SettingsError."""

    schemes: tuple[str, ...]
    configure: Callable[[Any], Opening]
