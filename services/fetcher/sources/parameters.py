"""Values of storage.parameters and tokens of Secrets that several backends read alike. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.artifact.uri import TOKEN_KEY, is_revision
from services.fetcher.transfer.addresses import AddressError, split_url


def invalid_parameter(parameter: str, why: str) -> InvalidValue:
    """A parameter that cannot be used; why goes on with the sentence that it begins."""
    return InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{parameter} {why}")


def read_revision(parameters: Mapping[str, str], in_uri: str) -> str:
    """The revision that a model wants: named in its URI or in its parameters; empty when in neither."""
    revision = parameters.get("revision", "").strip()
    if revision and in_uri and revision != in_uri:
        raise invalid_parameter(
            "revision", f"is {revision!r}, but storageUri names {in_uri!r}: write the revision in one place only"
        )
    if revision and not is_revision(revision):
        raise invalid_parameter("revision", f"is {revision!r}, which is no Git branch, tag or commit")
    return in_uri or revision


def read_endpoint(parameters: Mapping[str, str], default: str) -> str:
    """The base URL of the hub that a model names, or else the default, without a slash at its end."""
    text = parameters.get("endpoint", "").strip() or default
    address = urlsplit(text)
    if address.username or address.password:
        raise invalid_parameter("endpoint", "must not contain a user or password: put a token into a Secret")
    try:
        split_url(text)
        usable = not (address.query or address.fragment)
    except AddressError:
        usable = False
    if not usable:
        raise invalid_parameter("endpoint", f"is {text!r}: it must be a URL such as {default}")
    return text.rstrip("/")


def read_token(credentials: Mapping[str, bytes], hub: str, example: str) -> str | None:
    """The token that the controller hands out, or None without one. Raises InvalidValue, without showing it."""
    bad_token = InvalidValue(
        Reason.INVALID_PARAMETER,
        f"the Secret named by storage.storageKey holds no token of {hub}: it must be one line such as {example}, under "
        f"the key that parameters.secretKey names ({TOKEN_KEY} by default)",
    )
    try:
        token = credentials.get(TOKEN_KEY, b"").decode("ascii").strip()
    except UnicodeDecodeError:
        raise bad_token from None
    # What is no header value must not reach one: a line end would begin another header.
    if not token.isprintable() or " " in token:
        raise bad_token
    return token or None
