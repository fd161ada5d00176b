"""A prefix of an S3, Google or Azure bucket as a model names it: parameters and secret understood. Pure.

The listing and the signed addresses are buckets.py's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from libs.artifact.errors import InvalidValue
from libs.artifact.hosts import read_endpoint_host
from libs.artifact.reasons import Reason
from libs.artifact.uri import BucketUri
from services.fetcher.sources.selection import OME_CHOOSES, Choice, read_choice
from services.fetcher.transfer.egress import ANYWHERE, Rule
from services.fetcher.transfer.passage import Passage

# What obstore takes where neither the model, its secret nor the pod's environment names a region.
_DEFAULT_REGION = "us-east-1"
# What becomes a part of a host's name must not end it.
_REGION = re.compile("[A-Za-z0-9_-]{0,63}")
_ACCOUNT = re.compile("[a-z0-9]{0,24}")
_AZURE_HOST = re.compile(
    r"[a-z0-9-]+([.]z[0-9]+)?[.]blob[.]core[.](windows[.]net|usgovcloudapi[.]net|chinacloudapi[.]cn)"
)
# Keys of a Secret in lower case without the prefix that the environment variables of each cloud have.
_S3_PREFIX = "aws_"
_AZURE_PREFIXES = ("azure_storage_", "azure_")
_AZURE_NAMES = {
    "account_name": "account_name", "account": "account_name",
    "account_key": "account_key", "access_key": "account_key", "key": "account_key",
    "sas_token": "sas_key", "sas_key": "sas_key",
}  # fmt: skip
_WANTED = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where they are temporary",
    "gs": "the JSON key of one service account, under any name",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}


@dataclass(frozen=True)
class BucketSource:
    """What to list and where. The secret holds what obstore calls the credentials; it is never shown.

    endpoint and account_name are empty where the cloud's own address and, for anything but az://, no account is meant.
    With neither a secret nor anonymous, the pod's identity signs. passage is the way of the SDK's connections, egress
    the rule of our own.
    """

    scheme: str
    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""
    account_name: str = ""
    anonymous: bool = False
    virtual_hosted: bool = False
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    choice: Choice = OME_CHOOSES
    passage: Passage | None = field(default=None, repr=False, compare=False)
    egress: Rule = ANYWHERE

    @property
    def name(self) -> str:
        """The prefix as a URI."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def key_of(self, path: str) -> str:
        """The key of the object that becomes a file."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def plain_url(self, key: str) -> str:
        """The address of an object before anything is signed."""
        amazon = f"s3.{self.region or _DEFAULT_REGION}.amazonaws.com"
        match self.scheme:
            case "s3" if self.virtual_hosted:
                base = self.endpoint or f"https://{self.bucket}.{amazon}"
            case "s3":
                base = f"{self.endpoint or f'https://{amazon}'}/{self.bucket}"
            case "gs":
                base = f"{self.endpoint or 'https://storage.googleapis.com'}/{self.bucket}"
            case _:
                base = f"{self.endpoint or f'https://{self.account_name}.blob.core.windows.net'}/{self.bucket}"
        return f"{base}/{quote(key)}"


def bucket_source(uri: BucketUri, parameters: Mapping[str, str], credentials: Mapping[str, bytes]) -> BucketSource:
    """Understand a model's URI, storage.parameters and secret. Raises InvalidValue InvalidParameter."""
    secret = _secret(uri.scheme, credentials)
    account = secret.pop("account_name", "")
    region = secret.pop("region", "")
    source = BucketSource(
        scheme=uri.scheme,
        bucket=uri.bucket,
        prefix=uri.prefix,
        endpoint=_endpoint(parameters.get("endpoint", "").strip()),
        region=parameters.get("region", "").strip() or region,
        account_name=parameters.get("account_name", "").strip() or account,
        anonymous=_flag(parameters, "skip_signature"),
        virtual_hosted=_flag(parameters, "virtual_hosted_style"),
        secret=secret,
        choice=read_choice(parameters),
    )
    if source.anonymous and credentials:
        raise _invalid("skip_signature", "asks for no credentials, but storage.storageKey names some: remove one")
    if not _REGION.fullmatch(source.region):
        raise _invalid("region", f"is {source.region!r}: it must be the name of a region, such as eu-central-1")
    if not _ACCOUNT.fullmatch(source.account_name):
        raise _invalid("account_name", f"is {source.account_name!r}: it must be lower-case letters and digits")
    if uri.scheme == "gs" and source.endpoint and not (source.secret or source.anonymous):
        raise _invalid(
            "endpoint", "needs a key to sign for it: name a Secret in storage.storageKey, or set skip_signature"
        )
    if uri.scheme == "az" and source.endpoint and not (source.secret or source.anonymous):
        host = read_endpoint_host(source.endpoint)
        if host is None or host.scheme != "https" or not _AZURE_HOST.fullmatch(host.host):
            # A signature is good for one request; the token of an identity is good for everything.
            raise InvalidValue(
                Reason.IDENTITY_REFUSED,
                "storage.parameters.endpoint is none of Azure's over https, and gets no token of the Pod's identity: "
                "name a Secret in storage.storageKey, or set skip_signature",
            )
    if uri.scheme == "az" and not source.account_name:
        raise _invalid("account_name", "is missing: az:// needs the name of the storage account, here or in the Secret")
    return source


def _secret(scheme: str, credentials: Mapping[str, bytes]) -> dict[str, str]:
    """The credentials under obstore's names, and the region and account that a Secret may hold beside them."""
    if not credentials:
        return {}
    try:
        values = {name: value.decode().strip() for name, value in credentials.items()}
    except UnicodeDecodeError:
        raise _bad_secret(scheme) from None
    match scheme:
        case "s3":
            return _s3_secret(values)
        case "gs":
            return _google_secret(values)
        case _:
            return _azure_secret(values)


def _s3_secret(values: Mapping[str, str]) -> dict[str, str]:
    named = {_lower(name).removeprefix(_S3_PREFIX): value for name, value in values.items() if value}
    pair = ("access_key_id", "secret_access_key")
    if any(name not in named for name in pair):
        raise _bad_secret("s3")
    found = {name: named[name] for name in (*pair, "session_token", "region") if name in named}
    # What is no header value must not reach one.
    if any(not value.isascii() or not value.isprintable() or " " in value for value in found.values()):
        raise _bad_secret("s3")
    return found


def _google_secret(values: Mapping[str, str]) -> dict[str, str]:
    keys = [value for value in values.values() if _is_service_account(value)]
    if len(keys) != 1:
        raise _bad_secret("gs")
    return {"service_account_key": keys[0]}


def _is_service_account(text: str) -> bool:
    try:
        key = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(key, dict) and all(isinstance(key.get(name), str) for name in ("client_email", "private_key"))


def _azure_secret(values: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in values.items():
        short = _lower(name)
        for prefix in _AZURE_PREFIXES:
            short = short.removeprefix(prefix)
        if short in _AZURE_NAMES and value:
            found[_AZURE_NAMES[short]] = value
    if ("account_key" in found) == ("sas_key" in found):
        raise _bad_secret("az")
    if "sas_key" in found:
        found["sas_key"] = found["sas_key"].removeprefix("?")
        if "sig=" not in found["sas_key"]:
            raise _bad_secret("az")
    return found


def _lower(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _endpoint(text: str) -> str:
    if not text:
        return ""
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise _invalid("endpoint", f"is {text!r}: it must be a URL such as https://minio.example.com:9000")
    if address.username or address.password:
        raise _invalid("endpoint", "must not contain a user or password: put credentials into a Secret")
    # As the Host header of a request has it, which is signed.
    default_port = {"http": ":80", "https": ":443"}[address.scheme]
    return address._replace(netloc=address.netloc.lower().removesuffix(default_port)).geturl().rstrip("/")


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters.get(name, "").strip().lower()
    if text not in ("", "true", "false"):
        raise _invalid(name, f"is {text!r}: it must be 'true' or 'false'")
    return text == "true"


def _bad_secret(scheme: str) -> InvalidValue:
    return InvalidValue(
        Reason.INVALID_PARAMETER,
        f"the Secret named by storage.storageKey does not fit {scheme}://: it must hold {_WANTED[scheme]}",
    )


def _invalid(parameter: str, why: str) -> InvalidValue:
    return InvalidValue(Reason.INVALID_PARAMETER, f"storage.parameters.{parameter} {why}")
