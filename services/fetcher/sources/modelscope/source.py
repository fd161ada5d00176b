"""A ModelScope repository as a model names it, and the URLs of its listing and its files. Pure: listing.py asks.

Paths and names are those of the API that the hub's own client uses: https://github.com/modelscope/modelscope_hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.artifact.uri import ModelScopeUri
from services.fetcher.sources.parameters import read_endpoint, read_revision, read_token
from services.fetcher.sources.selection import OME_CHOOSES, Choice, read_choice
from services.fetcher.transfer.origin import Location

# The branch that a repository of ModelScope begins with.
_DEFAULT_REVISION = "master"
# RFC 6265 4.1.1: what a value of a cookie cannot hold without being quoted.
_NO_COOKIE = frozenset(' ",;\\')


@dataclass(frozen=True)
class ModelScopeSource:
    """What to list and where. The token is never shown."""

    repository: str
    revision: str
    endpoint: str
    token: str | None = field(default=None, repr=False)
    choice: Choice = OME_CHOOSES

    @property
    def name(self) -> str:
        """The repository as a URI."""
        return f"ms://{self.repository}"

    @property
    def listing_url(self) -> str:
        """Where all files of the revision are listed."""
        return self._url("repo/files", Revision=self.revision, Recursive="True")

    def file_url(self, path: str, revision: str) -> str:
        """Where a file is; the hub redirects large ones to a link that expires."""
        return self._url("repo", Revision=revision, FilePath=path)

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells who asks. Older parts of the hub look at the cookie, newer ones at the header."""
        if not self.token:
            return {}
        return {"Authorization": f"Bearer {self.token}", "Cookie": f"m_session_id={self.token}"}

    def _url(self, operation: str, **query: str) -> str:
        return f"{self.endpoint}/api/v1/models/{self.repository}/{operation}?{urlencode(query)}"


def modelscope_source(
    uri: ModelScopeUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes], default_endpoint: str
) -> ModelScopeSource:
    """Understand a model's URI, storage.parameters and secret. Raises InvalidValue InvalidParameter."""
    token = read_token(credentials, "ModelScope", "ms-...")
    if token and _NO_COOKIE & set(token):
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            "the Secret named by storage.storageKey holds no token of ModelScope: a token has no quotes, commas, "
            "semicolons or backslashes",
        )
    return ModelScopeSource(
        repository=uri.repository,
        revision=read_revision(parameters, uri.revision) or _DEFAULT_REVISION,
        endpoint=read_endpoint(parameters, default_endpoint),
        token=token,
        choice=read_choice(parameters),
    )


class ModelScopeOrigin:
    """The files of one revision, for the transfer engine."""

    def __init__(self, source: ModelScopeSource, revision: str) -> None:
        self.name = source.name
        self._source = source
        self._revision = revision

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The hub's own URL of a file: asking it again renews the link that it may redirect to."""
        return Location(self._source.file_url(file.path, self._revision), self._source.headers)
