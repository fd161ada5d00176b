"""Lists prefixes of Oracle's Object Storage and signs requests for their objects. Only this module uses oci.

Must not transfer content, and must not retry: the controller decides when a listing is tried again, the engine when a
request is. Import it when the first prefix is listed, and on a thread of its own: the SDK is large and its calls block.
"""

import base64
import binascii
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from oci.auth.signers import (
    InstancePrincipalsSecurityTokenSigner,
    get_oke_workload_identity_resource_principal_signer,
    get_resource_principals_signer,
)
from oci.circuit_breaker import NoCircuitBreakerStrategy
from oci.exceptions import ClientError, ConnectTimeout, InvalidConfig, RequestException
from oci.exceptions import ServiceError as OracleError
from oci.object_storage import ObjectStorageClient
from oci.regions import endpoint_for
from oci.retry import NoneRetryStrategy
from oci.signer import AbstractBaseSigner, Signer

from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Remark
from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, leave_out, new_manifest
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.bounds import check_count, most_store_bytes_of
from services.fetcher.sources.checksums import add_checksums
from services.fetcher.sources.oracle.source import AuthType, OracleSource, UserKey
from services.fetcher.sources.selection import is_folder_marker, select_files
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.passage import Passage
from services.fetcher.transfer.refusals import Said, cleaned, refusal_of
from services.fetcher.transfer.retry import asked_pause_seconds

# Connect and read. A page of a listing is a small answer; what takes longer will not come.
_TIMEOUT_SECONDS = (10.0, 30.0)
# The most that the service gives.
_PAGE_OBJECTS = 1000
# A page without objects counts as so many: none is asked for again and again.
_EMPTY_PAGE_OBJECTS = 100
_FIELDS = "name,size,etag,md5,archivalState"
_ENDPOINT_TEMPLATE = "https://objectstorage.{region}.{secondLevelDomain}"
_MD5_BYTES = 16
# Requests at a time for checksums that no listing has; the SDK keeps ten connections.
_HEADS = 8
# Headers of an object that say what all of its bytes are, and how many bytes the value has; best first.
_CHECKSUMS = (
    ("opc-content-sha256", ChecksumAlgorithm.SHA256, 32),
    ("opc-content-sha384", ChecksumAlgorithm.SHA384, 48),
    ("opc-content-crc32c", ChecksumAlgorithm.CRC32C, 4),
)
# The service accepts a signature for five minutes. A signature costs a millisecond of CPU, as much as receiving a
# megabyte, so that the ranges of a large file share one for a while.
_SIGNATURE_SECONDS = 60.0
_SHARING_BYTES = 4 << 20
# The value of archivalState under which an object can be read; others have none.
_READABLE_STATE = "Restored"


@dataclass(frozen=True)
class OracleListing:
    """What a prefix was when it was listed."""

    manifest: Manifest
    warnings: tuple[Remark, ...]


def list_objects(source: OracleSource) -> OracleListing:
    """List the files to fetch below a prefix. Blocks for seconds.

    Raises Missing NotFound or Forbidden; Unavailable RateLimited or Unavailable, with the pause that the service asks
    for; Invalid InvalidParameter; InvalidValue InvalidListing.
    """
    access = _Access(source)
    if source.passage:
        source.passage.limit(most_store_bytes_of(source.most_files))
    with _listing_errors(source), closing(access.client()) as client:
        objects: dict[str, _Entry] = {}
        for entry in _entries(client, source):
            objects[entry.name.removeprefix(source.folder)] = entry
    selection = select_files(objects.keys(), source.choice)
    if not selection.paths:
        raise _nothing_selected(source, len(objects))
    files = [_manifest_file(path, objects[path]) for path in selection.paths]
    # A prefix has no revision: the digest of the manifest stands for its state.
    place = f"{access.endpoint}/n/{source.namespace}/b/{source.bucket}"
    return OracleListing(new_manifest("", _with_checksums(access, source, files), place), selection.warnings)


def _with_checksums(access: "_Access", source: OracleSource, files: Sequence[ManifestFile]) -> list[ManifestFile]:
    """Ask for the checksum of each file that the listing has none for: objects that were put in parts, so large ones.

    Whether there is one is the uploader's choice. The first request that fails ends the listing.
    """
    unchecked = [file for file in files if file.algorithm is ChecksumAlgorithm.NONE]
    if not unchecked:
        return list(files)
    with _listing_errors(source), closing(access.client()) as client:
        return add_checksums(files, unchecked, lambda file: _checksum_of(client.head(source, file)), _HEADS)


def _checksum_of(headers: Mapping[str, str]) -> tuple[ChecksumAlgorithm, str]:
    """The checksum of an object's whole content in the headers of an answer.

    The SHA-2 sums of an object that was put in parts are sums of the parts' sums, and so is its MD5: how large the
    parts were is not told. Its CRC is of the content.
    """
    for name, algorithm, size in _CHECKSUMS:
        of_parts = "opc-multipart-md5" in headers and algorithm is not ChecksumAlgorithm.CRC32C
        digest = b"" if of_parts else _decoded(headers.get(name, ""))
        if len(digest) == size:
            return algorithm, digest.hex()
    return ChecksumAlgorithm.NONE, ""


class OracleOrigin:
    """The objects of one listing, for the transfer engine. Each request names the version that was listed."""

    def __init__(self, source: OracleSource) -> None:
        """Blocks while the identity is obtained; raises as list_objects does."""
        self.name = source.name
        self._source = source
        self._access = _Access(source)
        self._lock = threading.Lock()
        self._shared: dict[str, tuple[float, Location]] = {}

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The object's URL with a signature that covers the method, the path, the host and the date, but no range."""
        now = time.monotonic()
        with self._lock:
            shared = self._shared.get(file.path)
            if shared and shared[0] > now and not again:
                return shared[1]
            location = self._sign(file, again)
            if file.size_bytes > _SHARING_BYTES:
                self._shared = {path: entry for path, entry in self._shared.items() if entry[0] > now}
                self._shared[file.path] = (now + _SIGNATURE_SECONDS, location)
            return location

    def _sign(self, file: ManifestFile, again: bool) -> Location:
        path = self._source.object_path(file.path)
        request = _Unsent(f"{self._access.endpoint}{path}", path)
        self._access.sign(request, again)
        headers = {name: request.headers[name] for name in ("date", "authorization")}
        # An object that has been replaced since it was listed answers 412, instead of bytes that fit no checksum.
        return Location(request.url, {**headers, "If-Match": file.version} if file.version else headers)


@dataclass
class _Unsent:
    """A request as the SDK's signers look at one: the part of requests.PreparedRequest that they use.

    Remove when the SDK signs addresses or headers without a request of that library.
    """

    url: str
    path_url: str
    method: str = "GET"
    body: None = None
    headers: dict[str, str] = field(default_factory=dict)


class _Access:
    """A signer and the endpoint that it signs for."""

    def __init__(self, source: OracleSource) -> None:
        self._source = source
        self._renewable_at = 0.0
        with _identity_errors(source):
            self._signer = _new_signer(source)
            self.endpoint = source.endpoint or _regional_endpoint(source.region or _region_of(self._signer))

    def client(self) -> "_Client":
        """A client for a few calls."""
        return _Client(_configuration(self._source), self._signer, self.endpoint, self._source.passage)

    def sign(self, request: _Unsent, renew: bool) -> None:
        """Add the headers of a signature to a request; renew says that the last one was refused. Not thread-safe."""
        with _identity_errors(self._source):
            # A token that expires is looked at by some of the SDK's signers only when they are asked for it. Which of
            # them can renew it is in no interface. Remove when the base class of signers has both.
            if hasattr(self._signer, "get_security_token"):
                self._signer.get_security_token()
            # What was refused to several threads at once is renewed once.
            if renew and hasattr(self._signer, "refresh_security_token") and time.monotonic() > self._renewable_at:
                self._signer.refresh_security_token()
                self._renewable_at = time.monotonic() + _SIGNATURE_SECONDS
            self._signer(request)


@contextmanager
def _identity_errors(source: OracleSource) -> Iterator[None]:
    """Turn what the SDK raises while it gets an identity, or signs with it, into what the caller does next."""
    try:
        yield
    except ServiceError:
        raise
    except OracleError as error:
        raise _no_identity(source, error) from error
    except ClientError as error:
        raise Invalid(
            Reason.INVALID_PARAMETER, f"{source.name}: the key of the Secret cannot be used: {error}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        # The SDK's signers raise all of these; where they explain themselves, they do so in the last argument.
        why = error.args[-1] if error.args else type(error).__name__
        raise Unavailable(
            Reason.UNAVAILABLE, f"{source.name}: {source.auth_type.value} does not work on this node: {why}"
        ) from error


@contextmanager
def _listing_errors(source: OracleSource) -> Iterator[None]:
    """Turn what the SDK raises while it lists into what the caller does next."""
    try:
        yield
    except ServiceError:
        raise
    except OracleError as error:
        raise _problem(source) or _list_refused(source, error) from error
    except InvalidConfig as error:
        wrong = ", ".join(sorted(error.errors))
        raise Invalid(Reason.INVALID_PARAMETER, f"{source.name}: the Secret is malformed in: {wrong}") from error
    except (RequestException, ConnectTimeout, OSError) as error:
        raise _problem(source) or Unavailable(
            Reason.UNAVAILABLE,
            f"{source.name}: the service cannot be reached ({type(error).__name__}); {_where(source)}",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        # The SDK takes answers apart without looking.
        raise Unavailable(
            Reason.UNAVAILABLE,
            f"{source.name}: the service does not answer as Oracle's does ({type(error).__name__}); "
            f"{_where(source)}; check proxies on the way",
        ) from error


def _problem(source: OracleSource) -> ServiceError | None:
    return source.passage.problem(source.name) if source.passage else None


def _where(source: OracleSource) -> str:
    place = source.endpoint or (f"region {source.region}" if source.region else "the principal's own region")
    return f"asked at {place} as {source.auth_type.value}"


def _region_of(signer: AbstractBaseSigner) -> str:
    region = getattr(signer, "region", None)
    if not region:
        raise Invalid(Reason.INVALID_PARAMETER, "storage.parameters.region is missing, and the principal has none")
    return str(region)


def _regional_endpoint(region: str) -> str:
    return str(endpoint_for("objectstorage", region, service_endpoint_template=_ENDPOINT_TEMPLATE))


class _Client:
    """One attempt per call, with a timeout. The SDK retries ten minutes long by default and trips circuit breakers."""

    def __init__(
        self, configuration: dict[str, str], signer: AbstractBaseSigner, endpoint: str, passage: Passage | None
    ) -> None:
        self._client = ObjectStorageClient(
            configuration,
            signer=signer,
            service_endpoint=endpoint,
            timeout=_TIMEOUT_SECONDS,
            retry_strategy=NoneRetryStrategy(),
            circuit_breaker_strategy=NoCircuitBreakerStrategy(),
        )
        if passage:
            # Of the SDK's inside. Remove when its clients take proxies.
            session = self._client.base_client.session
            session.proxies = {"http": passage.url, "https": passage.url}
            # Otherwise proxies of the environment come before these. It also names certificates.
            session.trust_env = False
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def list_page(self, source: OracleSource, start: str | None) -> Any:
        """One page of the listing, from an object's name on."""
        answer = self._client.list_objects(
            source.namespace, source.bucket, prefix=source.folder, start=start, limit=_PAGE_OBJECTS, fields=_FIELDS
        )
        return answer.data

    def head(self, source: OracleSource, file: ManifestFile) -> Mapping[str, str]:
        """What the service tells of the version of an object that was listed. From several threads at once."""
        name = source.folder + file.path
        try:
            answer = self._client.head_object(source.namespace, source.bucket, name, if_match=file.version)
        except OracleError as error:
            raise _head_refused(source, file, error) from error
        headers: Mapping[str, str] = answer.headers
        return headers

    def close(self) -> None:
        """Close the connections."""
        # Of the SDK's inside. Remove when its clients can be closed.
        self._client.base_client.session.close()


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is needed of an object in a listing; the SDK's own takes kilobytes, and there may be many thousands."""

    name: str
    size: int | None
    etag: str | None
    md5: str | None
    archival_state: str | None


def _entries(client: _Client, source: OracleSource) -> Iterator[_Entry]:
    start: str | None = None
    # By what the service says and not by what is kept of it: the same names, or none, may come again and again.
    objects = 0
    while True:
        page = client.list_page(source, start)
        objects += max(len(page.objects), _EMPTY_PAGE_OBJECTS)
        check_count(source.name, objects, source.most_files)
        for found in page.objects:
            entry = _Entry(found.name, found.size, found.etag, found.md5, found.archival_state)
            if not is_folder_marker(entry.name, entry.size):
                yield entry
        if not page.next_start_with:
            return
        if start is not None and page.next_start_with <= start:
            raise Unavailable(Reason.UNAVAILABLE, f"the listing of {source.name} goes round in circles")
        start = page.next_start_with


def _new_signer(source: OracleSource) -> AbstractBaseSigner:
    once = NoneRetryStrategy()
    match source.auth_type:
        case AuthType.USER_PRINCIPAL:
            key = _key_of(source)
            return Signer(key.tenancy, key.user, key.fingerprint, None, key.passphrase, key.private_key)
        case AuthType.INSTANCE_PRINCIPAL:
            return InstancePrincipalsSecurityTokenSigner(
                retry_strategy=once,
                federation_client_retry_strategy=once,
                federation_client_circuit_breaker_strategy=NoCircuitBreakerStrategy(),
            )
        case AuthType.RESOURCE_PRINCIPAL:
            return get_resource_principals_signer()
        case AuthType.OKE_WORKLOAD_IDENTITY:
            # The SDK reads from a variable where the cluster's certificate lies, but wants to be told about the token.
            token_path = os.environ.get("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH")
            return get_oke_workload_identity_resource_principal_signer(token_path, retry_strategy=once)


def _configuration(source: OracleSource) -> dict[str, str]:
    """What the client wants to see beside a signer: nothing, but for the one that signs with a user's key."""
    if source.auth_type is not AuthType.USER_PRINCIPAL:
        return {}
    key = _key_of(source)
    return {
        "user": key.user,
        "tenancy": key.tenancy,
        "fingerprint": key.fingerprint,
        "key_content": key.private_key,
        # Checked for its presence only, as the endpoint is given.
        "region": source.region or "unused",
    }


def _key_of(source: OracleSource) -> UserKey:
    if source.key is None:
        raise AssertionError(f"{source.name}: a user principal without a key")
    return source.key


def _no_identity(source: OracleSource, error: OracleError) -> ServiceError:
    message = f"{source.name}: this node gets no {source.auth_type.value} (HTTP {error.status}, {error.code})"
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(Reason.UNAVAILABLE, message, _asked_pause(error))
    return Missing(Reason.FORBIDDEN, f"{message}: check parameters.auth_type, and the group and policies behind it")


def _list_refused(source: OracleSource, error: OracleError) -> ServiceError:
    told = _said(error)
    said = f"{_where(source)}: {told.behind(error.status)}, opc-request-id {error.request_id}"
    known = refusal_of(told.code)
    if known and not known.general:
        return known.error(source.name, said)
    match error.status:
        case HTTPStatus.UNAUTHORIZED:
            return Missing(
                Reason.FORBIDDEN,
                f"{source.name}: the signature is not accepted; the key or its fingerprint is wrong or another "
                f"user's, or the clock of this node is wrong ({said})",
            )
        case HTTPStatus.FORBIDDEN:
            return Missing(Reason.FORBIDDEN, f"{source.name} may not be listed: a policy is missing ({said})")
        case HTTPStatus.NOT_FOUND:
            # The service says the same for all of these, so as not to give away what exists.
            return Missing(
                Reason.NOT_FOUND,
                f"{source.name} does not exist, is in another region, or may not be seen: check storageUri and "
                "parameters.region, and that a policy allows the principal to read objects there "
                f"({said})",
            )
        case HTTPStatus.BAD_REQUEST:
            return Invalid(Reason.INVALID_URI, f"{source.name} is not understood ({said})")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable(Reason.RATE_LIMITED, f"{source.name}: asked to slow down ({said})", _asked_pause(error))
    return Unavailable(Reason.UNAVAILABLE, f"{source.name} cannot be listed now ({said})", _asked_pause(error))


def _said(error: OracleError) -> Said:
    return Said(str(error.code or ""), cleaned(str(error.message or "")))


def _head_refused(source: OracleSource, file: ManifestFile, error: OracleError) -> ServiceError:
    what = f"{source.name}: {file.path}"
    match error.status:
        case HTTPStatus.PRECONDITION_FAILED:
            return Unavailable(Reason.SOURCE_CHANGED, f"{what} has changed while the source was listed")
        case HTTPStatus.NOT_FOUND:
            return Missing(
                Reason.NOT_FOUND,
                f"{what} has been deleted while the source was listed, or a policy allows the principal to list "
                f"objects but not to read them ({_where(source)})",
            )
        case HTTPStatus.FORBIDDEN:
            return Missing(Reason.FORBIDDEN, f"{what} may not be read: a policy is missing ({_where(source)})")
    return _list_refused(source, error)


def _asked_pause(error: OracleError) -> float | None:
    return asked_pause_seconds({name.lower(): value for name, value in error.headers.items()}, datetime.now(UTC))


def _nothing_selected(source: OracleSource, count: int) -> ServiceError:
    if count and source.choice.has_patterns:
        return Invalid(
            Reason.INVALID_PARAMETER,
            f"allowPatterns and ignorePatterns leave none of the {count} objects of {source.name}; "
            "a pattern is matched against the whole name below the prefix, as in '*.safetensors' or 'onnx/*'",
        )
    return Missing(Reason.NOT_FOUND, f"{source.name} holds no objects below it: check the path in storageUri")


def _manifest_file(path: str, entry: _Entry) -> ManifestFile:
    if entry.archival_state and entry.archival_state != _READABLE_STATE:
        state = entry.archival_state.lower()
        raise Missing(Reason.FORBIDDEN, f"{path!r} is {state} in the archive tier: restore it in the bucket first")
    if entry.size is None or not entry.etag:
        what = f"the source lists {path!r} without its size or ETag: {leave_out(path)}"
        raise InvalidValue(Reason.INVALID_LISTING, what)
    md5 = _plain_md5(entry.md5 or "")
    algorithm = ChecksumAlgorithm.MD5 if md5 else ChecksumAlgorithm.NONE
    return ManifestFile(path, entry.size, algorithm, md5, entry.etag)


def _plain_md5(text: str) -> str:
    """The MD5 of an object's bytes in hexadecimal, or nothing.

    An object that was uploaded in parts has an MD5 of the parts' MD5s and their number behind it, as in "...==-12":
    no checksum of its bytes.
    """
    digest = _decoded(text)
    return digest.hex() if len(digest) == _MD5_BYTES else ""


def _decoded(text: str) -> bytes:
    """The bytes of Base64, or none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
