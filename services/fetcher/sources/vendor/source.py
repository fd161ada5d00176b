"""A vendor's model as a user names it, together with the vendor's driver: addresses, headers, requests. Pure.

vendor_http.py and vendor_exec.py ask.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.artifact.uri import ALLOW_INCOMPLETE, VendorUri
from libs.chassis.errors import Missing
from services.fetcher.sources.selection import OME_CHOOSES, Choice, read_choice
from services.fetcher.sources.vendor.drivers import ExecDriver, HttpDriver, fill, secret_key, variables_of
from services.fetcher.transfer.egress import ANYWHERE, Rule

_PATTERNS = ("allowPatterns", "ignorePatterns")
_OURS = (*_PATTERNS, ALLOW_INCOMPLETE)
_HTTP_PARAMETERS = (*_OURS, "revision")
# Shorter values are found in innocent words, and are no secrets.
_SECRET_CHARACTERS = 4


@dataclass(frozen=True)
class HttpSource:
    """A model behind an index. The headers hold secrets; they are never shown."""

    uri: VendorUri
    driver: HttpDriver
    revision: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    choice: Choice = OME_CHOOSES
    has_secret: bool = False
    egress: Rule = ANYWHERE

    @property
    def name(self) -> str:
        """The model as a URI."""
        return _name(self.uri)

    @property
    def index_url(self) -> str:
        """Where the first page of the index is."""
        return self._fill(self.driver.index, self.revision)

    def file_url(self, file: ManifestFile, revision: str) -> str:
        """Where a file of a listed revision is, by the driver's template."""
        revision = revision or self.revision
        if not revision and "revision" in variables_of(self.driver.file):
            raise InvalidValue(
                Reason.INVALID_LISTING,
                f"{self.name}: the vendor's index names no 'revision', which the driver's 'file' template needs",
            )
        return self._fill(self.driver.file, revision, file.path)

    def _fill(self, template: str, revision: str, file: str = "") -> str:
        uri = self.uri
        values = {
            "vendor": quote(uri.vendor, safe=""),
            "type": quote(uri.resource_type, safe=""),
            "path": quote(uri.resource_path),
            "revision": quote(revision, safe=""),
            "file": quote(file),
        }
        url = fill(template, values.__getitem__)
        # Servers and proxies resolve such parts, and what was to stay below the template's path would not.
        if any(part in (".", "..") for part in urlsplit(url).path.split("/")):
            raise InvalidValue(
                Reason.INVALID_URI, f"{self.name}: a part of it is '.' or '..', which no address may hold"
            )
        return url


@dataclass(frozen=True)
class ExecSource:
    """A model that a program lists. The credentials are never shown."""

    uri: VendorUri
    driver: ExecDriver
    parameters: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    choice: Choice = OME_CHOOSES

    @property
    def name(self) -> str:
        """The model as a URI."""
        return _name(self.uri)

    def request(self, **more: Any) -> dict[str, Any]:
        """What the program reads from standard input; credentials are in base64, as in the data of a Secret."""
        return {
            "vendor": self.uri.vendor,
            "type": self.uri.resource_type,
            "path": self.uri.resource_path,
            "parameters": dict(self.parameters),
            "credentials": {key: base64.b64encode(value).decode() for key, value in self.credentials.items()},
            **more,
        }

    def without_secrets(self, text: str) -> str:
        """A text with every value of the Secret blacked out, as it is and in base64."""
        for value in self.credentials.values():
            for secret in (value.decode(errors="replace").strip(), base64.b64encode(value).decode()):
                if len(secret) >= _SECRET_CHARACTERS:
                    text = text.replace(secret, "***")
        return text


def http_source(
    uri: VendorUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes], driver: HttpDriver
) -> HttpSource:
    """Understand a model's URI, storage.parameters and secret.

    Without a secret, headers that take from it are left out: the vendor says whether it wants them. Raises InvalidValue
    InvalidParameter, Missing SecretNotFound.
    """
    unknown = sorted(parameters.keys() - set(_HTTP_PARAMETERS))
    if unknown:
        raise _invalid(unknown[0], f"does not exist for vendor {uri.vendor}; there are {', '.join(_HTTP_PARAMETERS)}")
    revision = parameters.get("revision", "").strip()
    wanted = "revision" in variables_of(driver.index)
    if wanted and not revision:
        raise _invalid("revision", f"is missing: vendor {uri.vendor} lists each revision of a model by itself")
    if revision and not wanted:
        raise _invalid("revision", f"is {revision!r}, but vendor {uri.vendor} has no revisions to choose from")
    return HttpSource(
        uri=uri,
        driver=driver,
        revision=revision,
        headers=_headers(uri, driver, credentials),
        choice=read_choice(parameters),
        has_secret=bool(credentials),
    )


def exec_source(
    uri: VendorUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes], driver: ExecDriver
) -> ExecSource:
    """Understand a model's URI, storage.parameters and secret; what else parameters hold is for the program."""
    return ExecSource(
        uri=uri,
        driver=driver,
        parameters={name: value for name, value in parameters.items() if name not in _OURS},
        credentials=credentials,
        choice=read_choice(parameters),
    )


def _headers(uri: VendorUri, driver: HttpDriver, credentials: Mapping[str, bytes]) -> dict[str, str]:
    found = {}
    for name, template in driver.headers.items():
        if credentials or not variables_of(template):
            found[name] = fill(template, lambda variable: _secret_value(uri, credentials, secret_key(variable)))
    return found


def _secret_value(uri: VendorUri, credentials: Mapping[str, bytes], key: str) -> str:
    if key not in credentials:
        raise Missing(
            Reason.SECRET_NOT_FOUND,
            f"the Secret named by storage.storageKey has no key {key!r}, which vendor {uri.vendor} wants",
        )
    try:
        value = credentials[key].decode("ascii").strip()
    except UnicodeDecodeError:
        value = ""
    # What is no header value must not reach one: a line end would begin another header.
    if not value or not value.isprintable():
        raise InvalidValue(
            Reason.INVALID_PARAMETER,
            f"the key {key!r} of the Secret named by storage.storageKey must hold one line of ASCII characters",
        )
    return value


def _name(uri: VendorUri) -> str:
    return f"vendor://{uri.vendor}/{uri.resource_type}/{uri.resource_path}"


def _invalid(parameter: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{parameter} {why}")
