"""A Hugging Face repository as a model names it, and the URLs of its files. Pure: the listing is huggingface.py's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from libs.artifact.manifest import ManifestFile
from libs.artifact.uri import HuggingFaceUri
from services.fetcher.sources.parameters import invalid_parameter, read_endpoint, read_revision, read_token
from services.fetcher.sources.selection import OME_CHOOSES, Choice, read_choice
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.passage import Passage


class Transport(StrEnum):
    """The way that bytes take from the hub. Only large files have two; the others always come over HTTP."""

    # HTTP, and Xet for what HTTP cannot bring.
    AUTO = "auto"
    HTTP = "http"
    # Xet, and HTTP for what Xet cannot bring.
    XET = "xet"


@dataclass(frozen=True)
class HubSource:
    """What to list and where; an empty revision is the repository's default branch. The token is never shown.

    passage is the way of the SDKs' connections.
    """

    repository: str
    revision: str
    endpoint: str
    token: str | None = field(default=None, repr=False)
    choice: Choice = OME_CHOOSES
    transport: Transport = Transport.AUTO
    passage: Passage | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The repository as a URI."""
        return f"hf://{self.repository}"


def hub_source(
    uri: HuggingFaceUri,
    parameters: Mapping[str, str],
    credentials: Mapping[str, bytes],
    default_endpoint: str,
    default_transport: Transport = Transport.AUTO,
) -> HubSource:
    """Understand a model's URI, storage.parameters and secret.

    cache_dir is accepted and has no effect: there is no cache beside the store. Raises InvalidValue InvalidParameter.
    """
    return HubSource(
        repository=uri.repository,
        revision=read_revision(parameters, uri.revision),
        endpoint=read_endpoint(parameters, default_endpoint),
        token=read_token(credentials, "Hugging Face", "hf_..."),
        choice=read_choice(parameters),
        transport=_transport(parameters.get("transport", "").strip(), default_transport),
    )


class HubOrigin:
    """The files of one commit, for the transfer engine."""

    def __init__(self, source: HubSource, commit: str) -> None:
        self.name = source.name
        self._base = f"{source.endpoint}/{source.repository}/resolve/{quote(commit, safe='')}"
        self._headers = {"Authorization": f"Bearer {source.token}"} if source.token else {}

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The hub's own URL of a file, which redirects to a link that expires: asking it again renews the link."""
        return Location(f"{self._base}/{quote(file.path)}", self._headers)


def _transport(text: str, default: Transport) -> Transport:
    try:
        return Transport(text) if text else default
    except ValueError:
        raise invalid_parameter("transport", f"is {text!r}: write {', '.join(Transport)} or leave it out") from None
