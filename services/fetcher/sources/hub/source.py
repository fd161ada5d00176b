"""A Hugging Face repository as a model names it, and the URLs of its files. Pure: the listing is huggingface.py's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, urlsplit

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.artifact.uri import HuggingFaceUri, parse_uri
from services.fetcher.sources.selection import parse_patterns
from services.fetcher.transfer.origin import Location

_TOKEN_KEY = "token"  # noqa: S105 (the name under which the controller hands a token out)


class Transport(StrEnum):
    """The way that bytes take from the hub. Only large files have two; the others always come over HTTP."""

    # HTTP, and Xet for what HTTP cannot bring.
    AUTO = "auto"
    HTTP = "http"
    # Xet, and HTTP for what Xet cannot bring.
    XET = "xet"


@dataclass(frozen=True)
class HubSource:
    """What to list and where; an empty revision is the repository's default branch. The token is never shown."""

    repository: str
    revision: str
    endpoint: str
    token: str | None = field(default=None, repr=False)
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    transport: Transport = Transport.AUTO

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
    revision = parameters.get("revision", "").strip()
    if revision and uri.revision and revision != uri.revision:
        raise _invalid(
            "revision", f"is {revision!r}, but storageUri names {uri.revision!r}: write the revision in one place only"
        )
    if revision and not uri.revision:
        try:
            parse_uri(f"hf://{uri.repository}@{revision}")
        except InvalidValue as error:
            raise _invalid("revision", f"is {revision!r}, which is no Git branch, tag or commit") from error
    return HubSource(
        repository=uri.repository,
        revision=uri.revision or revision,
        endpoint=_endpoint(parameters.get("endpoint", "").strip() or default_endpoint),
        token=_token(credentials),
        allow=parse_patterns(parameters.get("allowPatterns", "")),
        ignore=parse_patterns(parameters.get("ignorePatterns", "")),
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


def _endpoint(text: str) -> str:
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise _invalid("endpoint", f"is {text!r}: it must be a URL such as https://huggingface.co")
    if address.username or address.password:
        raise _invalid("endpoint", "must not contain a user or password: put a token into a Secret")
    return text.rstrip("/")


def _transport(text: str, default: Transport) -> Transport:
    try:
        return Transport(text) if text else default
    except ValueError:
        raise _invalid("transport", f"is {text!r}: write {', '.join(Transport)} or leave it out") from None


def _token(credentials: Mapping[str, bytes]) -> str | None:
    try:
        token = credentials.get(_TOKEN_KEY, b"").decode("ascii").strip()
    except UnicodeDecodeError:
        raise _bad_token() from None
    if not token:
        return None
    # What is no header value must not reach one: a line end would begin another header.
    if not token.isprintable() or " " in token:
        raise _bad_token()
    return token


def _bad_token() -> InvalidValue:
    return InvalidValue(
        Reason.INVALID_PARAMETER,
        "the Secret named by storage.storageKey holds no Hugging Face token: it must be one line such as hf_..., "
        "under the key that parameters.secretKey names (token by default)",
    )


def _invalid(parameter: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{parameter} {why}")
