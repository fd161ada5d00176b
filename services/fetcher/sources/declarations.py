"""Reads of a listed source what its model declares: what the parser is given, of which no more than a plan waits for.

Configurations first, then headers of weights; if not all headers come, none is told, as a part of them would be taken
for the whole. What cannot be read is left out and fails for nobody. Must not retry, and must not interpret.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog

from libs.artifact.completeness import is_index, is_weights
from libs.artifact.manifest import Manifest, ManifestFile
from libs.artifact.metadata_files import (
    BEGINNING_BYTES,
    GGUF_SUFFIX,
    LENGTH_BYTES,
    sent_bytes,
    wanted_bytes,
)
from libs.artifact.model_directory import ModelFile
from services.fetcher.sources.evidence import UNREAD, connect
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.codings import coding_of
from services.fetcher.transfer.egress import Rule
from services.fetcher.transfer.origin import Origin
from services.fetcher.transfer.wire import Watch, WireError

# Of the 20 that a plan waits for the listing and this.
_SECONDS = 8.0
_CONNECT_SECONDS = 5.0
_STALL_SECONDS = 5.0
MOST_BYTES = 32 << 20
# Of a file with a header of weights: most headers are shorter, and need no second request.
_FIRST_BYTES = 32 << 10
# Larger models have their sizes in the configuration.
_MOST_HEADERS = 64
_PARALLEL = 4
_log = structlog.get_logger()


@dataclass
class _Budget:
    """Bytes that may still be read; requests of one source share it, so it may be exceeded by what is under way."""

    left: int = field(default_factory=lambda: MOST_BYTES)

    def take(self, count: int) -> None:
        """Raises WireError when it is spent."""
        self.left -= count
        if self.left < 0:
            raise WireError("it is too much")


def read_declarations(
    manifest: Manifest, origin: Origin, schema_path: str, seconds: float, stop: StopFlag, egress: Rule
) -> list[ModelFile]:
    """Files as the parser takes them, with what was read of each; none if not all configurations come. Blocks.

    seconds are those that whoever asks can wait.
    """
    until, budget = time.monotonic() + min(seconds, _SECONDS), _Budget()

    def check() -> None:
        stop.check()
        if time.monotonic() > until:
            raise WireError("it takes too long")

    watch = Watch(check, _CONNECT_SECONDS, _STALL_SECONDS, stall_bytes=1)

    def read(file: ManifestFile) -> ModelFile:
        return ModelFile(file.path, file.size_bytes, _beginning(origin, file, schema_path, watch, egress, budget))

    files = {file.path: file for file in manifest.files}
    wanted = [file for file in files.values() if wanted_bytes(file.path, schema_path) > BEGINNING_BYTES]
    headers = [file for file in wanted if _tells_of_weights(file.path)]
    documents = [file for file in wanted if not _tells_of_weights(file.path)]
    read_documents = _read_all(read, documents, origin)
    if read_documents is None:
        return []
    read_headers = _read_all(read, headers, origin) if len(headers) <= _MOST_HEADERS else None
    found = {file.path: file for file in read_documents + (read_headers or [])}
    for file in files.values():
        if file.path not in found and (read_headers is not None or not _tells_of_weights(file.path)):
            found[file.path] = ModelFile(file.path, file.size_bytes, b"")
    if read_headers is None:
        found = {path: file for path, file in found.items() if not _tells_of_weights(path)}
    return [found[path] for path in sorted(found)]


def _read_all(
    read: Callable[[ManifestFile], ModelFile], files: Iterable[ManifestFile], origin: Origin
) -> list[ModelFile] | None:
    """All of the files, or None if one cannot be read."""
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="declarations") as executor:
        pending = [executor.submit(read, file) for file in files]
        try:
            return [each.result() for each in pending]
        except UNREAD as error:
            # Not its words, which may quote an address that is signed.
            _log.info("declarations_unread", source=origin.name, error=type(error).__name__)
            for each in pending:
                each.cancel()
            return None


def _beginning(
    origin: Origin, file: ManifestFile, schema_path: str, watch: Watch, egress: Rule, budget: _Budget
) -> bytes:
    """The first bytes of a file, as many as the parser is given of it."""
    first = LENGTH_BYTES if file.path.endswith(GGUF_SUFFIX) else _FIRST_BYTES
    beginning = _range(origin, file, 0, min(first, file.size_bytes), watch, egress, budget)
    count = sent_bytes(file.path, schema_path, file.size_bytes, beginning)
    if count > len(beginning):
        beginning += _range(origin, file, len(beginning), count, watch, egress, budget)
    return beginning[:count]


def _range(
    origin: Origin, file: ManifestFile, start: int, end: int, watch: Watch, egress: Rule, budget: _Budget
) -> bytes:
    """Bytes of a file from start to before end; of a server that does not know ranges, what goes before is read too."""
    if start >= end:
        return b""
    budget.take(end - start)
    asked = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    with connect(origin, file, asked, watch, egress) as (connection, head):
        if head.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) or coding_of(head.headers):
            raise WireError(f"the answer is {head.status}")
        passed_over = start if head.status == HTTPStatus.OK else 0
        budget.take(passed_over)
        body = memoryview(bytearray(passed_over + end - start))
        if connection.receive(body) < len(body):
            raise WireError("it is shorter than was listed")
        return bytes(body[passed_over:])


def _tells_of_weights(path: str) -> bool:
    return is_weights(path) or is_index(path)
