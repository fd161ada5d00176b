"""A prefix of Oracle's Object Storage as a model names it, and the key that a Secret holds. Pure: oracle.py asks."""

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import quote, urlsplit

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.uri import OracleUri, named_auth_type
from services.fetcher.sources.selection import OME_CHOOSES, Choice, read_choice
from services.fetcher.transfer.passage import Passage

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Spellings of what a Secret may hold: ours first, then those of the SDK's configuration.
_PRIVATE_KEY_NAMES = ("private_key", "key_content")
_PASSPHRASE_NAMES = ("passphrase", "pass_phrase")


class AuthType(Enum):
    """Whose identity signs the requests: values of parameters.auth_type."""

    INSTANCE_PRINCIPAL = "InstancePrincipal"
    USER_PRINCIPAL = "UserPrincipal"
    RESOURCE_PRINCIPAL = "ResourcePrincipal"
    OKE_WORKLOAD_IDENTITY = "OkeWorkloadIdentity"


@dataclass(frozen=True)
class UserKey:
    """An API signing key of a user. Key and passphrase are never shown."""

    user: str
    tenancy: str
    fingerprint: str
    private_key: str = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class OracleSource:
    """What to list and where; an empty endpoint follows from the region, and an empty region from the principal.

    passage is the way of the SDK's connections to the service; it asks for an identity where the machine says.
    """

    namespace: str
    bucket: str
    prefix: str
    auth_type: AuthType
    region: str = ""
    endpoint: str = ""
    key: UserKey | None = None
    choice: Choice = OME_CHOOSES
    passage: Passage | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The prefix as a URI."""
        return f"oci://n/{self.namespace}/b/{self.bucket}/o/{self.prefix}"

    @property
    def folder(self) -> str:
        """What the names of all objects begin with."""
        return f"{self.prefix}/" if self.prefix else ""

    def object_path(self, path: str) -> str:
        """The path of an object's URL, for a file of the manifest."""
        return f"/n/{quote(self.namespace)}/b/{quote(self.bucket)}/o/{quote(self.folder + path)}"


def oracle_source(uri: OracleUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> OracleSource:
    """Understand a model's URI, storage.parameters and secret.

    Without auth_type, a Secret means UserPrincipal and none InstancePrincipal. Raises InvalidValue InvalidParameter.
    """
    values = _secret_values(credentials)
    auth_type = _auth_type(named_auth_type(parameters), bool(values))
    region = parameters.get("region", "").strip() or values.get("region", "")
    if region and not _REGION.fullmatch(region):
        raise _invalid("region", f"is {region!r}: it must be the identifier of a region, such as us-phoenix-1")
    endpoint = _endpoint(parameters.get("endpoint", "").strip())
    by_key = auth_type is AuthType.USER_PRINCIPAL
    if by_key and not region and not endpoint:
        raise _invalid("region", "is missing, and the Secret has no key 'region' either")
    return OracleSource(
        namespace=uri.namespace,
        bucket=uri.bucket,
        prefix=uri.prefix,
        auth_type=auth_type,
        region=region,
        endpoint=endpoint,
        key=_user_key(values) if by_key else None,
        choice=read_choice(parameters),
    )


def _auth_type(text: str, has_secret: bool) -> AuthType:
    if not text:
        return AuthType.USER_PRINCIPAL if has_secret else AuthType.INSTANCE_PRINCIPAL
    try:
        return AuthType(text)
    except ValueError:
        known = ", ".join(kind.value for kind in AuthType)
        raise _invalid("auth_type", f"is {text!r}: it must be one of {known}") from None


def _endpoint(text: str) -> str:
    """A service endpoint in the one form that the signature and the Host header agree on."""
    if not text:
        return ""
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        raise _bad_endpoint(text) from None
    odd = address.path.strip("/") or address.query or address.fragment or address.username or address.password
    if address.scheme not in _DEFAULT_PORTS or not address.hostname or odd:
        raise _bad_endpoint(text)
    shown_port = f":{port}" if port and port != _DEFAULT_PORTS[address.scheme] else ""
    return f"{address.scheme}://{address.hostname}{shown_port}"


def _bad_endpoint(text: str) -> InvalidValue:
    # A URL may hold a password: what is wrong with it is said without repeating more than its end.
    shown = text.rpartition("@")[2]
    return _invalid(
        "endpoint", f"is {shown!r}: it must be a URL such as https://objectstorage.us-phoenix-1.oraclecloud.com"
    )


def _secret_values(credentials: Mapping[str, bytes]) -> dict[str, str]:
    """The Secret as text, together with the default profile of an SDK configuration file under the key "config"."""
    try:
        values = {name: value.decode("ascii").strip() for name, value in credentials.items()}
    except UnicodeDecodeError:
        raise _bad_secret("holds a value that is not text") from None
    if "config" not in values:
        return values
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(values.pop("config"))
    except configparser.Error:
        # The parser's message quotes the line, which may be a secret.
        raise _bad_secret("has a 'config' that is no configuration file of the SDK") from None
    profile = dict(parser.defaults())
    # key_file is a path on somebody's machine; the Secret may hold the file under its own name.
    key_file = profile.pop("key_file", "").rpartition("/")[2]
    if key_file in values:
        profile["private_key"] = values[key_file]
    return {**profile, **values}


def _user_key(values: Mapping[str, str]) -> UserKey:
    found = {name: values.get(name, "") for name in ("user", "tenancy", "fingerprint")}
    private_key = next((values[name] for name in _PRIVATE_KEY_NAMES if values.get(name)), "")
    passphrase = next((values[name] for name in _PASSPHRASE_NAMES if values.get(name)), None)
    lacking = [name for name, value in {**found, "private_key": private_key}.items() if not value]
    if lacking:
        raise _bad_secret(f"has no {' and no '.join(repr(name) for name in lacking)}")
    return UserKey(**found, private_key=private_key, passphrase=passphrase)


def _bad_secret(what: str) -> InvalidValue:
    return InvalidValue(
        Reason.INVALID_PARAMETER,
        f"the Secret named by storage.storageKey {what}; UserPrincipal needs the keys user, tenancy, fingerprint and "
        "private_key (in PEM), and passphrase when the key has one",
    )


def _invalid(parameter: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{parameter} {why}")
