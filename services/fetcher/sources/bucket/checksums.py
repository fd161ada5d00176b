"""Asks Google's and Azure's stores for the checksums of large objects, which their listings lack.

Both tell them with any answer about an object. Must not retry: the controller decides when a source is listed again.
Amazon's tell them to requests with a signed header of its own only, which obstore does not sign.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, ServiceError, Unavailable
from services.fetcher.sources.bucket.source import BucketSource
from services.fetcher.sources.checksums import add_checksums
from services.fetcher.transfer.addresses import AddressError, split_url
from services.fetcher.transfer.origin import Location, Origin
from services.fetcher.transfer.refusals import BODY_BYTES, RATE_LIMITED, Said, refusal_of, said_by
from services.fetcher.transfer.retry import asked_pause_seconds
from services.fetcher.transfer.wire import Connection, Head, RefusedError, TrustError, Watch, WireError

# Smaller objects are many, and a request for each would take longer than the listing.
_LEAST_BYTES = 1 << 20
_REQUESTS = 8
_CONNECT_SECONDS = 10.0
_STALL_SECONDS = 30.0
# Both clouds have others too. A CRC is all that Google has for a composite object, and costs less than the disk.
_CRC32C_BYTES = 4
_MD5_BYTES = 16


def with_checksums(source: BucketSource, origin: Origin, files: Sequence[ManifestFile]) -> list[ManifestFile]:
    """The files, the large ones with the checksum that the store has. Blocks for a request per large file.

    The first request that fails ends it. Raises Missing Forbidden; Unavailable SourceChanged, RateLimited or
    Unavailable; as origin.locate does.
    """
    if source.scheme not in ("gs", "az"):
        return list(files)
    large = [file for file in files if file.size_bytes >= _LEAST_BYTES]

    def ask(file: ManifestFile) -> tuple[ChecksumAlgorithm, str]:
        return _checksum_of(_ask(source, file, origin.locate(file, again=False)))

    return add_checksums(files, large, ask, _REQUESTS)


def _ask(source: BucketSource, file: ManifestFile, location: Location) -> Mapping[str, str]:
    """The headers that the store sends with the first byte of an object: by GET, as the address is signed for it."""
    connection = None
    try:
        endpoint, target = split_url(location.url)
        watch = Watch(lambda: None, _CONNECT_SECONDS, _STALL_SECONDS, stall_bytes=1)
        connection = Connection(endpoint, watch, source.egress)
        connection.request(target, {**location.headers, "Range": "bytes=0-0"})
        connection.flush()
        head = connection.head()
        if head.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return head.headers
        raise _refused(source, file, head, said_by(head.headers, connection.excerpt(BODY_BYTES), location.secrets()))
    except RefusedError as error:
        raise Missing(Reason.EGRESS_REFUSED, f"{source.name}: {error}") from error
    except (WireError, TrustError, AddressError) as error:
        raise Unavailable(
            Reason.UNAVAILABLE, f"{source.name}: the store cannot be asked for {file.path} ({type(error).__name__})"
        ) from None
    finally:
        if connection:
            connection.close()


def _refused(source: BucketSource, file: ManifestFile, head: Head, said: Said) -> ServiceError:
    status = head.status
    what, known = f"{source.name}: {file.path}", refusal_of(said.code)
    if known and not known.general:
        return known.error(what, said.behind(status))
    match status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.PRECONDITION_FAILED:
            return Unavailable(Reason.SOURCE_CHANGED, f"{what} has changed while the source was listed")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Missing(
                Reason.FORBIDDEN,
                f"{what} may not be read, only listed ({said.behind(status)}): check what the credentials allow",
            )
    slow_down = status == HTTPStatus.TOO_MANY_REQUESTS or known is RATE_LIMITED
    pause = asked_pause_seconds(head.headers, datetime.now(UTC))
    reason = Reason.RATE_LIMITED if slow_down else Reason.UNAVAILABLE
    return Unavailable(reason, f"{what}: the store answers {said.behind(status)}", pause)


def _checksum_of(headers: Mapping[str, str]) -> tuple[ChecksumAlgorithm, str]:
    """The checksum of an object's whole content, or none.

    https://cloud.google.com/storage/docs/xml-api/reference-headers and
    https://learn.microsoft.com/en-us/rest/api/storageservices/get-blob, which calls the range's own Content-MD5.
    """
    google = [part.strip() for part in headers.get("x-goog-hash", "").split(",")]
    crc = next((_decoded(part.removeprefix("crc32c=")) for part in google if part.startswith("crc32c=")), b"")
    if len(crc) == _CRC32C_BYTES:
        return ChecksumAlgorithm.CRC32C, crc.hex()
    md5 = _decoded(headers.get("x-ms-blob-content-md5", ""))
    if len(md5) == _MD5_BYTES:
        return ChecksumAlgorithm.MD5, md5.hex()
    return ChecksumAlgorithm.NONE, ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
