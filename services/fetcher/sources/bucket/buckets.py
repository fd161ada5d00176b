"""Lists prefixes of S3, Google and Azure buckets and signs addresses of objects. Only this module uses obstore.

Must not transfer content, and must not retry: the controller decides when a listing is tried again, the engine when a
range is. Import it when the first bucket is used: the SDK takes tens of megabytes.

No object store says in a listing what the SHA-256 of an object is, and an ETag is the MD5 of the content only for
objects that were put in one part and not encrypted with a customer's or a KMS key, which a listing does not say either
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html). So an ETag is taken for what it always is: the name
of this very content. Each range asks for it with If-Match, and the length is checked; see bucket_checksums for more.
"""

import re
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import obstore
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import AzureStore, GCSStore, S3Store

from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Remark
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, check_name, leave_out, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.bounds import check_count, most_store_bytes_of
from services.fetcher.sources.bucket.checksums import with_checksums
from services.fetcher.sources.bucket.pages import Address, read_entries
from services.fetcher.sources.bucket.signing import Signer, is_signable, listing_signer_of, signer_of
from services.fetcher.sources.bucket.source import BucketSource
from services.fetcher.sources.selection import is_folder_marker, select_files
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.refusals import RATE_LIMITED, WRONG_REGION, Said, refusal_of, said_in
from services.fetcher.transfer.tls import tls_context
from services.fetcher.transfer.wire import Head

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config, S3Credential

_TIMEOUT = timedelta(seconds=30)
_CONNECT_TIMEOUT = timedelta(seconds=10)
# Objects per page: what all three clouds give at most.
_PAGE = 1000
_NO_RETRY: "RetryConfig" = {"max_retries": 0}
_SIGNED_FOR = timedelta(hours=1)
# Of a signed address: what is asked for in the second half might still be waited for when it expires.
_USED_FOR_SECONDS = _SIGNED_FOR.total_seconds() / 2
# Few files are in flight at once; the others are signed when their turn comes.
_REMEMBERED = 256

_BAD_NAME = re.compile(r'Path "((?:[^"\\]|\\.)*)"')
_SHOWN = 200
_STATUS = re.compile(r"status code: (\d{3})|\bstatus: (\d{3})\b")
# Addresses at which pods and machines of the clouds ask for their identity.
_IDENTITY = re.compile(
    r"169\.254\.\d+\.\d+|metadata\.google\.internal|\bsts\.|login\.microsoftonline|oauth2|token request"
)

Store = S3Store | GCSStore | AzureStore


@dataclass(frozen=True)
class BucketListing:
    """What a prefix held when it was listed."""

    manifest: Manifest
    warnings: tuple[Remark, ...]


def list_prefix(source: BucketSource) -> BucketListing:
    """List the files to fetch below a prefix. Blocks for seconds.

    Folder markers, empty objects that are named like the folder of others, are left out. Raises Missing NotFound or
    Forbidden; Unavailable RateLimited, SourceChanged or Unavailable; Invalid InvalidUri or InvalidParameter;
    InvalidValue InvalidListing or InvalidParameter.
    """
    files = _files_below(source)
    if not files:
        raise Missing(
            Reason.NOT_FOUND,
            f"{source.name} holds no objects: check the prefix in storageUri, which names a folder, not an object",
        )
    selection = select_files(files.keys(), source.choice)
    if not selection.paths:
        raise Invalid(
            Reason.INVALID_PARAMETER,
            f"allowPatterns and ignorePatterns leave none of the {len(files)} files of {source.name}; "
            "a pattern is matched against the whole path below the prefix, as in '*.safetensors' or 'onnx/*'",
        )
    for path in selection.paths:
        # Before an address is asked for: of such a name there is none.
        check_name(path)
        if not is_signable(source, source.key_of(path)):
            raise InvalidValue(
                Reason.INVALID_LISTING,
                f"{source.name} holds {path!r}: with the identity of a pod no address can be signed of such a name; "
                f"name a Secret with a key in storage.storageKey; {leave_out(path)}",
            )
    # A prefix has no revision: the digest of the manifest stands for its state.
    selected = with_checksums(source, BucketOrigin(source), [files[path] for path in selection.paths])
    return BucketListing(new_manifest("", selected, source.plain_url("")), selection.warnings)


def _files_below(source: BucketSource) -> dict[str, ManifestFile]:
    """What the prefix holds, by path, without what only stands for a folder.

    By obstore where it can tell, and else by the raw names: patterns may leave out what cannot be a file.
    """
    store = _open(source)
    address = _listing_address(source, store)
    files = _without_markers(_files_by_sdk(source, store, can_do_otherwise=address is not None))
    # An empty file may be the marker of an empty folder, from which obstore took the slash.
    if address and (not files or any(file.size_bytes == 0 for file in files.values())):
        files = _without_markers(_files_by_name(source, address))
    return files


def _without_markers(files: dict[str, ManifestFile]) -> dict[str, ManifestFile]:
    folders = {path[:end] for path in files for end in _slashes(path)}
    return {
        path: file
        for path, file in files.items()
        if not is_folder_marker(path, file.size_bytes) and not (path in folders and file.size_bytes == 0)
    }


def _files_by_sdk(source: BucketSource, store: Store, can_do_otherwise: bool) -> dict[str, ManifestFile]:
    """Nothing for a prefix with an object of whose name obstore makes no path, if it can be listed otherwise."""
    files: dict[str, ManifestFile] = {}
    # By what the store says and not by what is kept of it: the same names may come again and again.
    objects = 0
    if source.passage:
        source.passage.limit(most_store_bytes_of(source.most_files))
    with _errors_of(source):
        try:
            for page in obstore.list(store, source.prefix or None, chunk_size=_PAGE):
                for entry in page:
                    path = entry["path"].removeprefix(source.prefix).lstrip("/")
                    if path:
                        files[path] = _file(path, entry["size"], entry["e_tag"] or "", entry["last_modified"])
                objects += len(page)
                check_count(source.name, objects, source.most_files)
        except InvalidPathError:
            if not can_do_otherwise:
                raise
            return {}
    return files


def _files_by_name(source: BucketSource, address: Address) -> dict[str, ManifestFile]:
    files: dict[str, ManifestFile] = {}
    start = f"{source.prefix}/" if source.prefix else ""

    def refused(head: Head, said: Said) -> ServiceError:
        return _refusal(source, head.status, said)

    with _errors_of(source):
        for objects, entry in enumerate(read_entries(source, address, refused), start=1):
            check_count(source.name, objects, source.most_files)
            path = entry.key.removeprefix(start)
            if path:
                files[path] = _file(path, entry.size_bytes, entry.tag, entry.modified)
    return files


def _file(path: str, size_bytes: int, tag: str, modified: datetime) -> ManifestFile:
    # Without an ETag the time of the last change still makes another content another artifact.
    version = _entity_tag(tag) or modified.isoformat()
    return ManifestFile(path, size_bytes, ChecksumAlgorithm.NONE, "", version)


def _listing_address(source: BucketSource, store: Store) -> Address | None:
    """How a listing is asked for without obstore; None where only obstore has the credentials to sign that."""
    try:
        sign = listing_signer_of(source)
    except ValueError:
        raise _cannot_open(source) from None
    if sign:
        return lambda query: sign(query, datetime.now(UTC), _SIGNED_FOR)
    if not isinstance(store, S3Store):
        return None

    def address(query: Mapping[str, str]) -> str:
        # obstore signs the address of any object, and whatever stands before it: so the query does, with the name of
        # the object as the value of a word that no store knows. Remove when obstore lists raw names, or signs listings.
        with _errors_of(source):
            root = obstore.sign(store, "GET", "", _SIGNED_FOR).partition("?")[0].rstrip("/")
            asked = urlencode(query, quote_via=quote, safe="")
            listed = replace(source, endpoint=f"{root}?{asked}&x-ome=", virtual_hosted=True)
            return obstore.sign(_open(listed), "GET", "", _SIGNED_FOR)

    return address


class BucketOrigin:
    """The objects of a listing, for the transfer engine: addresses that are signed for an hour and never shown."""

    def __init__(self, source: BucketSource) -> None:
        self.name = source.name
        self._source = source
        self._store = _open(source)
        self._sign = _signer(source)
        self._lock = threading.Lock()
        self._signed: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The signed address of an object, and the condition that its content is still the one that was listed."""
        # A weak tag never matches, and what is no tag at all is a date: see list_prefix.
        headers = {"If-Match": file.version} if file.version.startswith('"') else {}
        return Location(self._url(self._source.key_of(file.path), again), headers)

    def _url(self, key: str, again: bool) -> str:
        source = self._source
        if source.anonymous:
            return source.plain_url(key)
        if "sas_key" in source.secret:
            return f"{source.plain_url(key)}?{source.secret['sas_key']}"
        now = time.monotonic()
        with self._lock:
            url, signed_at = self._signed.get(key, ("", 0.0))
        if url and not again and now - signed_at < _USED_FOR_SECONDS:
            return url
        if self._sign:
            url = self._sign(key, datetime.now(UTC), _SIGNED_FOR)
        else:
            with _errors_of(source):
                url = obstore.sign(self._store, "GET", key, _SIGNED_FOR)
        with self._lock:
            self._signed[key] = url, now
            if len(self._signed) > _REMEMBERED:
                self._signed.popitem(last=False)
        return url


def _open(source: BucketSource) -> Store:
    options: ClientConfig = {
        "timeout": _TIMEOUT,
        "connect_timeout": _CONNECT_TIMEOUT,
        "allow_http": source.endpoint.startswith("http://"),
        "user_agent": "ome-fetcher",
    }
    if source.passage:
        # The gate knows of the operator's proxies.
        options["proxy_url"] = source.passage.url
    authorities = tls_context().get_ca_certs(binary_form=True)
    if authorities:
        # The SDK reads SSL_CERT_FILE and SSL_CERT_DIR but not the other variables that the engine knows.
        options["root_certificate"] = "".join(map(ssl.DER_cert_to_PEM_cert, authorities))
    try:
        match source.scheme:
            case "s3":
                return _open_s3(source, options)
            case "gs":
                google: GCSConfig = {"skip_signature": source.anonymous}
                if source.endpoint:
                    google["base_url"] = source.endpoint
                if source.secret:
                    google["service_account_key"] = source.secret["service_account_key"]
                return GCSStore(source.bucket, config=google, client_options=options, retry_config=_NO_RETRY)
            case _:
                azure: AzureConfig = {"account_name": source.account_name, "skip_signature": source.anonymous}
                if source.endpoint:
                    azure["endpoint"] = source.endpoint
                if "account_key" in source.secret:
                    azure["account_key"] = source.secret["account_key"]
                if "sas_key" in source.secret:
                    azure["sas_key"] = source.secret["sas_key"]
                return AzureStore(source.bucket, config=azure, client_options=options, retry_config=_NO_RETRY)
    except (BaseError, ValueError):
        # Without the SDK's words, which may quote what it was given.
        raise _cannot_open(source) from None


def _cannot_open(source: BucketSource) -> InvalidValue:
    return InvalidValue(
        Reason.INVALID_PARAMETER,
        f"{source.name} cannot be opened: the credentials, the bucket's name or the parameters are not in a form "
        "that the cloud takes",
    )


def _signer(source: BucketSource) -> Signer | None:
    try:
        return signer_of(source)
    except ValueError:
        raise _cannot_open(source) from None


def _open_s3(source: BucketSource, options: "ClientConfig") -> S3Store:
    config: S3Config = {
        "skip_signature": source.anonymous,
        "virtual_hosted_style_request": source.virtual_hosted,
    }
    if source.endpoint:
        config["endpoint"] = source.endpoint
    if source.region:
        config["region"] = source.region
    if not source.secret:
        return S3Store(source.bucket, config=config, client_options=options, retry_config=_NO_RETRY)
    secret = source.secret
    credential: S3Credential = {
        "access_key_id": secret["access_key_id"],
        "secret_access_key": secret["secret_access_key"],
        "token": secret.get("session_token"),
        "expires_at": None,
    }
    # Given as a provider: the SDK would complete a pair of keys with a session token of the pod's environment.
    return S3Store(
        source.bucket,
        config=config,
        client_options=options,
        retry_config=_NO_RETRY,
        credential_provider=lambda: credential,
    )


@contextmanager
def _errors_of(source: BucketSource) -> Iterator[None]:
    """Turn what the SDK raises into what the caller does next, without its words: they may quote signed addresses.

    What the store itself has said is in them, and is told.
    """
    try:
        yield
    except (ServiceError, InvalidValue):
        raise
    except (BaseError, OSError, ValueError) as error:
        problem = source.passage.problem(source.name) if source.passage else None
        refusal = problem or _refused(source, str(error))
    else:
        return
    raise refusal


def _refused(source: BucketSource, text: str) -> ServiceError:
    status = next((int(one or other) for one, other in _STATUS.findall(text)), 0)
    return _refusal(source, status, said_in(text, source.secret.values()), text)


def _refusal(source: BucketSource, status: int, said: Said, text: str = "") -> ServiceError:
    """text is all that the SDK says, which may be secret."""
    named = f" ({said.behind(status)})" if status or said.code else ""
    known = refusal_of(said.code)
    if _IDENTITY.search(text) and (status or not source.secret):
        return Missing(Reason.FORBIDDEN, f"{source.name}: the cloud gives no credentials{named}: {_advice(source)}")
    if known is None and "redirect without LOCATION" in text:
        known = WRONG_REGION
    if known and not known.general:
        return known.error(source.name, said.behind(status) or "a redirect that leads nowhere")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Missing(Reason.FORBIDDEN, f"{source.name}: access is refused{named}: {_advice(source)}")
    if status == HTTPStatus.NOT_FOUND:
        return Missing(Reason.NOT_FOUND, f"{source.name}: there is no such bucket{named}: check storageUri")
    if status == HTTPStatus.TOO_MANY_REQUESTS or known is RATE_LIMITED:
        return Unavailable(Reason.RATE_LIMITED, f"{source.name}: the store asks to slow down{named}")
    if status == HTTPStatus.BAD_REQUEST:
        return Invalid(Reason.INVALID_PARAMETER, f"{source.name}: the store does not understand the request{named}")
    if "path segment" in text or "invalid path" in text.lower():
        # obstore stops at such a name, before patterns could be asked.
        bad = _BAD_NAME.search(text)
        what = repr(bad[1][:_SHOWN]) if bad else "an object"
        return Invalid(
            Reason.INVALID_LISTING,
            f"{source.name} holds {what}, whose name has an empty part, '.', '..' or a control character, so that no "
            "file can be made of it: rename it, name a prefix that it does not lie below, or name a Secret with a key "
            "in storage.storageKey, with which ignorePatterns can leave it out",
        )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and source.passage:
        # The SDK takes its own word for a proxy away when it is led to another host.
        why = "the store redirects from http to another host, which is not followed"
        return Unavailable(Reason.UNAVAILABLE, f"{source.name}: {why}: name that host as endpoint")
    if status:
        return Unavailable(Reason.UNAVAILABLE, f"{source.name}: the store answers{named}")
    where = source.endpoint or "the store"
    return Unavailable(
        Reason.UNAVAILABLE, f"{source.name}: {where} cannot be reached, or does not answer as such a store does"
    )


def _advice(source: BucketSource) -> str:
    if source.secret:
        return "check the credentials in the Secret named by storage.storageKey, and what they are allowed"
    if source.anonymous:
        return "it is not public: remove parameters.skip_signature and name a Secret in storage.storageKey"
    return (
        "the identity of the fetcher's pod is not allowed to, or it has none: name a Secret in storage.storageKey, "
        "or set parameters.skip_signature to 'true' for a public bucket"
    )


def _entity_tag(text: str) -> str:
    """An ETag as HTTP writes it: Azure leaves its quotes away in listings."""
    return text if not text or text.endswith('"') else f'"{text}"'


def _slashes(path: str) -> list[int]:
    return [index for index, character in enumerate(path) if character == "/"]
