"""Lists a prefix by the raw names of its objects, page by page, where obstore refuses or changes them. Uses no SDK.

obstore ends a listing at a name of which it can make no path, and takes slashes from the ends of others, so that an
object which only marks a folder looks like a file. Both kinds of listings, Amazon's and Azure's, are XML.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, unquote_plus
from xml.parsers import expat

from libs.artifact.reasons import Reason
from libs.chassis.errors import ServiceError, Unavailable
from services.fetcher.sources.bounds import most_bytes_of
from services.fetcher.sources.bucket.source import BucketSource
from services.fetcher.sources.documents import Allowance, Documents
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.refusals import Said
from services.fetcher.transfer.wire import Head

Address = Callable[[Mapping[str, str]], str]
"""The address of a listing with this query, signed where that is needed. It holds a secret."""

# As many pages as a model may have files take no longer; the listing's process has a limit of its own.
_SECONDS = 600.0
_XML = "application/xml"
# Without the encoding there is no way to write some of the names in XML.
_AMAZON = {"list-type": "2", "encoding-type": "url"}
_AZURE = {"restype": "container", "comp": "list"}
_ENTRY = {"Contents", "Blob"}
# The names of both clouds for one thing.
_KEY = ("Key", "Name")
_SIZE = ("Size", "Content-Length")
_TAG = ("ETag", "Etag")
_MODIFIED = ("LastModified", "Last-Modified")
_FOLLOWING = ("NextContinuationToken", "NextMarker")


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as the store lists it. A byte of its key that is no UTF-8 is a lone surrogate."""

    key: str
    size_bytes: int
    tag: str
    modified: datetime


def read_entries(
    source: BucketSource, address: Address, refused: Callable[[Head, Said], ServiceError]
) -> Iterator[Entry]:
    """All objects below the prefix but those that only stand for a folder of Azure's. Blocks for seconds.

    refused makes an error of an answer that is not 200. Raises what it makes; Unavailable; InvalidValue InvalidListing;
    Missing EgressRefused.
    """
    folder = f"{source.prefix}/" if source.prefix else ""
    query = {**(_AZURE if source.scheme == "az" else _AMAZON), "prefix": folder}
    following = "marker" if source.scheme == "az" else "continuation-token"
    allowance = Allowance(_SECONDS, most_bytes_of(source.most_files))
    documents = Documents(
        address(query), {}, source.name, "the listing", StopFlag(), allowance, refused, source.egress,
        source.secret.values(),
    )  # fmt: skip
    token = ""
    while True:
        document = documents.fetch(address({**query, following: token} if token else query), _XML)
        entries, after = _read(source, document)
        yield from entries
        if not after:
            return
        if after == token:
            raise _not_understood(source)
        token = after


class _Page:
    """What a page says, gathered as its elements end."""

    def __init__(self) -> None:
        self._found: list[dict[str, str]] = []
        self._open: dict[str, str] | None = None
        self._of_page: dict[str, str] = {}
        self._text: list[str] = []

    def parse(self, document: bytes) -> None:
        """Raises ExpatError, and ValueError for a document that declares anything, as none of theirs does."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.Parse(document, True)

    @property
    def following(self) -> str:
        """Where the next page begins; empty for the last one."""
        return _one(self._of_page, _FOLLOWING)

    @property
    def entries(self) -> list[Entry]:
        """Raises ValueError and KeyError for what is missing or malformed."""
        encoded = self._of_page.get("EncodingType") == "url"
        files = [fields for fields in self._found if fields.get("ResourceType") != "directory"]
        return [_entry(fields, encoded) for fields in files]

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._text.clear()
        if name in _ENTRY:
            self._open = {}
        elif self._open is not None and attributes.get("Encoded") == "true":
            self._open["Encoded"] = "true"

    def _end(self, name: str) -> None:
        if name in _ENTRY and self._open is not None:
            self._found.append(self._open)
            self._open = None
        else:
            fields = self._of_page if self._open is None else self._open
            fields.setdefault(name, "".join(self._text))
        self._text.clear()


def _read(source: BucketSource, document: bytes) -> tuple[list[Entry], str]:
    page = _Page()
    try:
        page.parse(document)
        return page.entries, page.following
    except (expat.ExpatError, ValueError, KeyError, OverflowError) as error:
        raise _not_understood(source) from error


def _not_understood(source: BucketSource) -> Unavailable:
    where = source.endpoint or "the store"
    return Unavailable(Reason.UNAVAILABLE, f"{source.name}: {where} does not answer a listing as such a store does")


def _entry(fields: Mapping[str, str], encoded: bool) -> Entry:
    key = _one(fields, _KEY)
    if encoded:
        key = unquote_plus(key, errors="surrogateescape")
    elif "Encoded" in fields:
        key = unquote(key, errors="surrogateescape")
    if not key:
        raise KeyError("Key")
    return Entry(key, int(_one(fields, _SIZE)), _one(fields, _TAG), _time(_one(fields, _MODIFIED)))


def _one(fields: Mapping[str, str], names: tuple[str, str]) -> str:
    return next((fields[name] for name in names if name in fields), "")


def _time(text: str) -> datetime:
    moment = parsedate_to_datetime(text) if "," in text else datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
