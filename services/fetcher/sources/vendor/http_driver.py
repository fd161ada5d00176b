"""Reads the index of a vendor's model over HTTP and says where its files are. Must not transfer content.

Must not retry either: the controller decides when a listing is tried again, the engine when a file is. An index is not
followed to another host: a driver reaches what the operator has written down, and nothing else.
"""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urljoin

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest, ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.documents import Allowance, Documents
from services.fetcher.sources.vendor.drivers import secret_key, variables_of
from services.fetcher.sources.vendor.index import Index, IndexBuilder, located, manifest_of, read_page
from services.fetcher.sources.vendor.source import HttpSource
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.addresses import Endpoint, split_url
from services.fetcher.transfer.origin import Location, Origin
from services.fetcher.transfer.refusals import Said, refusal_of
from services.fetcher.transfer.retry import asked_pause_seconds
from services.fetcher.transfer.wire import Head

# For a whole index, whatever its pages are; the controller asks another fetcher after two minutes.
_INDEX_SECONDS = 90.0
# 100,000 files with a checksum each; what is read takes several times as much memory.
_INDEX_BYTES = 32 << 20
# What was refused to several threads at once is asked for once.
_RENEWED_SECONDS = 5.0


def list_index(source: HttpSource, stop: StopFlag) -> Manifest:
    """List the files to fetch. Blocks for seconds, at most a minute and a half; raises Stopped when the process ends.

    Raises Missing NotFound or Forbidden; Unavailable RateLimited or Unavailable, with the pause that the vendor asks
    for; Invalid InvalidUri or InvalidParameter; InvalidValue InvalidUri or InvalidListing; Corrupt SourceChanged.
    """
    index = _read_index(source, stop)
    manifest = manifest_of(index, source.name, source.choice)
    # Better to learn here than on every node that a file has no address that can be used.
    for file in manifest.files:
        if source.driver.file:
            source.file_url(file, index.revision)
        else:
            _resolve(source, located(index, file, source.name))
    return manifest


def open_origin(source: HttpSource, revision: str, stop: StopFlag) -> Origin:
    """Where the files of a listed revision are. Blocks as list_index does when the index says it, and raises alike."""
    return TemplateOrigin(source, revision) if source.driver.file else IndexOrigin(source, stop)


class TemplateOrigin:
    """Files under the addresses of the driver's template."""

    def __init__(self, source: HttpSource, revision: str) -> None:
        self.name = source.name
        self._source = source
        self._revision = revision

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The address by the template; there is nothing to renew."""
        return Location(self._source.file_url(file, self._revision), self._source.headers)


class IndexOrigin:
    """Files under the addresses that the index gives, which may expire: then it is read again."""

    def __init__(self, source: HttpSource, stop: StopFlag) -> None:
        self.name = source.name
        self._source = source
        self._stop = stop
        self._lock = threading.Lock()
        self._index = _read_index(source, stop)
        self._read_at = time.monotonic()

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The address that the index gives for exactly this file."""
        with self._lock:
            if again and time.monotonic() - self._read_at > _RENEWED_SECONDS:
                self._index = _read_index(self._source, self._stop)
                self._read_at = time.monotonic()
            index = self._index
        return _resolve(self._source, located(index, file, self.name))


def _read_index(source: HttpSource, stop: StopFlag) -> Index:
    host = split_url(source.index_url)[0]
    documents = Documents(
        source.index_url,
        source.headers,
        source.name,
        "the vendor's index",
        stop,
        Allowance(_INDEX_SECONDS, _INDEX_BYTES),
        lambda head, said: _refused(source, host, head, said),
        source.egress,
    )
    builder = IndexBuilder(source.name)
    url, seen = source.index_url, set[str]()
    while url not in seen:
        seen.add(url)
        page = read_page(documents.read(url), source.name)
        builder.add(page)
        if not page.next:
            return builder.index(source.choice)
        url = _next_url(source, url, page.next)
    raise InvalidValue(Reason.INVALID_LISTING, f"{source.name}: the pages of the vendor's index lead in a circle")


def _next_url(source: HttpSource, url: str, following: str) -> str:
    try:
        found = urljoin(url, following)
        if split_url(found)[0] == split_url(url)[0]:
            return found
        why = "is on another host, which is not asked"
    except ValueError:
        why = "is no URL"
    raise InvalidValue(Reason.INVALID_LISTING, f"{source.name}: the vendor's index cannot be used: 'next' {why}")


def _resolve(source: HttpSource, given: str) -> Location:
    """An address of the index, and what to send there: what is secret goes to the index's own host and no other."""
    index_url = source.index_url
    index = split_url(index_url)[0]
    try:
        url = urljoin(index_url, given)
        endpoint = split_url(url)[0]
    except ValueError:
        raise InvalidValue(
            Reason.INVALID_LISTING, f"{source.name}: the vendor's index cannot be used: a 'url' is no URL"
        ) from None
    if index.scheme == "https" and endpoint.scheme != "https":
        raise InvalidValue(Reason.INVALID_LISTING, f"{source.name}: the vendor's index leads from https to http")
    headers: Mapping[str, str] = source.headers if endpoint == index else {}
    return Location(url, headers)


def _refused(source: HttpSource, host: Endpoint, head: Head, said: Said) -> ServiceError:
    status, told = head.status, said.behind(head.status)
    known = refusal_of(said.code)
    if known and not known.general:
        return known.error(source.name, f"{host}: {told}")
    pause = asked_pause_seconds(head.headers, datetime.now(UTC))
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Missing(Reason.FORBIDDEN, f"{host} refuses to list {source.name} ({told}): {_advice(source)}")
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return Missing(Reason.NOT_FOUND, f"{host} has no {source.name} ({told}): check storageUri")
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Invalid(Reason.INVALID_URI, f"{host} does not understand {source.name} ({told}): check storageUri")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable(
                Reason.RATE_LIMITED, f"{host} asks to slow down ({told}) when listing {source.name}", pause
            )
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Unavailable(
                Reason.UNAVAILABLE,
                f"{host} redirects the index of {source.name} (HTTP {status}), which is not followed: the vendor's "
                "driver must name the address that it leads to",
            )
    return Unavailable(Reason.UNAVAILABLE, f"{host} does not list {source.name} ({told})", pause)


def _advice(source: HttpSource) -> str:
    keys = sorted({secret_key(name) for text in source.driver.headers.values() for name in variables_of(text)})
    if source.has_secret:
        return "check the credentials in the Secret named by storage.storageKey, and what they are allowed"
    if keys:
        return f"name a Secret with {' and '.join(map(repr, keys))} in storage.storageKey"
    return "the vendor's driver sends no credentials: the operator can add headers to it"
