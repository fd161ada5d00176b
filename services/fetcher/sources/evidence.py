"""Reads the few small files of a listing that decide whether it is whole: indexes, and what describes a pipeline.

Reads them only where the names alone are suspicious. What cannot be read is no evidence, and is left to those who fetch
it: must not retry, and fails for nobody.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urljoin

import structlog

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ManifestFile
from libs.chassis.errors import ServiceError
from services.fetcher.stop import StopFlag
from services.fetcher.store.checksums import matches, new_checksum
from services.fetcher.transfer.addresses import AddressError, split_url
from services.fetcher.transfer.codings import CodingError, Decoded, coding_of
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.origin import Origin
from services.fetcher.transfer.wire import Connection, Head, RefusedError, TrustError, Watch, WireError

# All of them together: what they save is a download, so they may take a while.
_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_STALL_SECONDS = 20.0
_MOST_FILES = 16
_MOST_REDIRECTS = 5
_REDIRECTS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)
# What reading a file of a source may fail with.
UNREAD = (ServiceError, InvalidValue, RefusedError, WireError, TrustError, CodingError, AddressError)
_log = structlog.get_logger()


def read_files(
    origin: Origin, files: Mapping[str, ManifestFile], most_bytes: int, stop: StopFlag, egress: Rule
) -> dict[str, bytes] | None:
    """The whole files, or None when one cannot be read, is too long or is not what was listed. Blocks."""
    if len(files) > _MOST_FILES or sum(file.size_bytes for file in files.values()) > most_bytes:
        return None
    until = time.monotonic() + _SECONDS

    def check() -> None:
        stop.check()
        if time.monotonic() > until:
            raise WireError("it takes too long")

    watch = Watch(check, _CONNECT_SECONDS, _STALL_SECONDS, stall_bytes=1)
    try:
        return {path: _read(origin, file, watch, egress) for path, file in files.items()}
    except UNREAD as error:
        # Not its words, which may quote an address that is signed.
        _log.info("evidence_unread", source=origin.name, error=type(error).__name__)
        return None


def _read(origin: Origin, file: ManifestFile, watch: Watch, egress: Rule) -> bytes:
    with connect(origin, file, {}, watch, egress) as (connection, head):
        if head.status != HTTPStatus.OK:
            raise WireError(f"the answer is {head.status}")
        coding, receive = coding_of(head.headers), connection.receive
        if coding:
            receive = Decoded(coding, receive, file.size_bytes).receive
        return _body(receive, file)


@contextmanager
def connect(
    origin: Origin, file: ManifestFile, asked: Mapping[str, str], watch: Watch, egress: Rule
) -> Iterator[tuple[Connection, Head]]:
    """The answer to a request for a file, redirects followed, before its body. asked are headers for whoever answers.

    Raises what UNREAD names.
    """
    location = origin.locate(file, again=False)
    url, headers = location.url, location.headers
    for _ in range(_MOST_REDIRECTS + 1):
        endpoint, target = split_url(url)
        connection = Connection(endpoint, watch, egress)
        try:
            connection.request(target, {**headers, **asked})
            connection.flush()
            head = connection.head()
            if head.status in _REDIRECTS:
                url = urljoin(url, head.headers.get("location", ""))
                # What is secret among the headers is meant for the origin alone.
                headers = headers if split_url(url)[0] == endpoint else {}
                continue
            yield connection, head
            return
        finally:
            connection.close()
    raise WireError("the redirects do not end")


def _body(receive: Callable[[memoryview], int], file: ManifestFile) -> bytes:
    body = bytearray(file.size_bytes + 1)
    filled = 0
    while count := receive(memoryview(body)[filled:]):
        filled += count
        if filled > file.size_bytes:
            break
    checksum = new_checksum(file)
    checksum.update(memoryview(body)[:filled])
    if filled != file.size_bytes or not matches(file, checksum.hexdigest()):
        raise WireError("it is not what was listed")
    return bytes(body[:filled])
