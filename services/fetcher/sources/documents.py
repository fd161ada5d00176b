"""Reads documents of one host over HTTP, most of them JSON, within what all together may take of time and memory.

Must not retry: the controller decides when a listing is tried again. Must not follow redirects either: what is secret
among the headers is meant for this host alone.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, ServiceError, Unavailable
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.addresses import split_url
from services.fetcher.transfer.codings import CodingError, Decoded, coding_of, decoded_excerpt
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.refusals import BODY_BYTES, Said, said_by
from services.fetcher.transfer.wire import Connection, Head, RefusedError, TrustError, Watch, WireError

_CONNECT_SECONDS = 10.0
_STALL_SECONDS = 30.0
_READ_BYTES = 256 << 10


@dataclass(frozen=True)
class Allowance:
    """What all documents of one listing may take together."""

    seconds: float
    most_bytes: int


class Documents:
    """The documents of one listing. source and what are words for people: the model's URI, and what is read of it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        source: str,
        what: str,
        stop: StopFlag,
        allowance: Allowance,
        refused: Callable[[Head, Said], ServiceError],
        egress: Rule,
        secrets: Iterable[str] = (),
    ) -> None:
        """url is any of the host's. refused makes an error of an answer that is not 200, and of what it says besides.

        secrets are what must not come back in words, as the headers must not. Raises WireError.
        """
        self.host = split_url(url)[0]
        self._headers = headers
        self._source = source
        self._what = what
        self._stop = stop
        self._allowance = allowance
        self._refused = refused
        self._egress = egress
        self._secrets = (*headers.values(), *secrets)
        self._until = time.monotonic() + allowance.seconds
        self._bytes_left = allowance.most_bytes

    def read(self, url: str) -> dict[str, Any]:
        """The JSON object at a URL of the host. Blocks; raises as fetch does."""
        return read_object(self.fetch(url, "application/json"), self._source, str(self.host))

    def fetch(self, url: str, media_type: str) -> bytes:
        """The document at a URL of the host. Blocks; raises Stopped when the process ends.

        Raises what refused makes, Missing EgressRefused, Unavailable, InvalidValue InvalidListing.
        """
        connection = None
        try:
            watch = Watch(self._check, _CONNECT_SECONDS, _STALL_SECONDS, stall_bytes=1)
            connection = Connection(self.host, watch, self._egress)
            connection.request(split_url(url)[1], {**self._headers, "Accept": media_type})
            connection.flush()
            head = connection.head()
            if head.status != HTTPStatus.OK:
                body = decoded_excerpt(head.headers, connection.excerpt(BODY_BYTES), BODY_BYTES)
                raise self._refused(head, said_by(head.headers, body, self._secrets))
            return self._body(connection, head)
        except CodingError as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._source}: {self._what}: {error}") from error
        except RefusedError as error:
            raise Missing(Reason.EGRESS_REFUSED, f"{self._source}: {error}") from error
        except (WireError, TrustError) as error:
            raise Unavailable(Reason.UNAVAILABLE, f"{self._source}: {self._what} cannot be read: {error}") from error
        finally:
            if connection:
                connection.close()

    def _body(self, connection: Connection, head: Head) -> bytes:
        body = bytearray()
        buffer = memoryview(bytearray(_READ_BYTES))
        receive, coding = connection.receive, coding_of(head.headers)
        if coding:
            receive = Decoded(coding, receive, self._bytes_left).receive
        while count := receive(buffer):
            body += buffer[:count]
            self._bytes_left -= count
            if self._bytes_left < 0:
                most = self._allowance.most_bytes >> 20
                raise InvalidValue(Reason.INVALID_LISTING, f"{self._source}: {self._what} is larger than {most} MiB")
        return bytes(body)

    def _check(self) -> None:
        self._stop.check()
        if time.monotonic() > self._until:
            raise Unavailable(
                Reason.UNAVAILABLE,
                f"{self._source}: {self.host} took longer than {self._allowance.seconds:.0f} seconds for {self._what}",
            )


def read_object(data: bytes, source: str, speaker: str) -> dict[str, Any]:
    """The JSON object that bytes are. Raises Unavailable for anything else, as it is what a broken proxy answers."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unavailable(Reason.UNAVAILABLE, f"{source}: {speaker} answers with something that is no JSON object")
    return document
