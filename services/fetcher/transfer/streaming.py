"""The transfer of files that a source sends as streams: written, hashed and recorded in order, as the engine does it.

Must not retry: what a stream does not bring is left to the engine, or to the next attempt at the artifact.
"""

import shutil
import time
from collections.abc import Collection, Iterator

from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Unavailable
from services.fetcher.stop import StopFlag
from services.fetcher.store.checksums import matches
from services.fetcher.store.ingest import Ingest
from services.fetcher.transfer.buffers import aligned_buffer
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Stream, Streams
from services.fetcher.transfer.progress import (
    FileMeters,
    OpenFile,
    Progress,
    ProgressCallback,
    RateMeter,
    remaining_seconds,
)
from services.fetcher.transfer.sharing import Sharing


def stream(
    ingest: Ingest,
    streams: Streams,
    stop: StopFlag,
    progress: ProgressCallback,
    limits: Limits,
    others: Collection[int],
    sharing: Sharing,
) -> tuple[str, ...]:
    """Bring the files that streams offer into staging, verified, from where an earlier attempt ended.

    others are indexes of files that come from elsewhere. Of what the node's transfers share, bandwidth is heeded:
    connections are the source's own. Returns the paths of files that came with wrong content and
    were thrown away. Blocks; progress is called in this thread. Raises Stopped; Unavailable (InsufficientDisk,
    DiskError, and Unavailable when a stream ends early); Corrupt (SourceChanged); what the streams raise. What came so
    far stays for whoever goes on.
    """
    directory = ingest.scratch
    shutil.rmtree(directory, ignore_errors=True)
    with ingest.file_system.errors(directory):
        directory.mkdir()
    try:
        with streams.open(directory, stop.check) as source:
            return _Streaming(ingest, streams.name, source, stop, progress, limits, sharing).run(others)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Streaming:
    def __init__(
        self,
        ingest: Ingest,
        name: str,
        source: Stream,
        stop: StopFlag,
        progress: ProgressCallback,
        limits: Limits,
        sharing: Sharing,
    ) -> None:
        self._ingest = ingest
        self._name = name
        self._source = source
        self._stop = stop
        self._report = progress
        self._limits = limits
        self._sharing = sharing
        self._buffer = aligned_buffer(limits.range_bytes)
        ingest.finish_synced()
        self._bytes_done = sum(ingest.manifest.files[index].size_bytes for index in ingest.done)
        # Of those, what came from the source: what lay on the node says nothing about how fast that is.
        self._bytes_fetched = 0
        self._meter = RateMeter(time.monotonic())
        self._file_meters = FileMeters()
        self._file: OpenFile | None = None
        self._reported_at = time.monotonic()

    def run(self, others: Collection[int]) -> tuple[str, ...]:
        try:
            return self._read(others)
        finally:
            self._sharing.forget(self)

    def _read(self, others: Collection[int]) -> tuple[str, ...]:
        wrong = []
        self._tell()
        for index, file in enumerate(self._ingest.manifest.files):
            wanted = file.size_bytes > 0 and not self._ingest.is_done(index) and index not in others
            if wanted and self._source.offers(file) and not self._fetch(index, file):
                wrong.append(file.path)
        self._tell()
        return tuple(wrong)

    def _fetch(self, index: int, file: ManifestFile) -> bool:
        """Bring one file; False when its content was wrong."""
        before = self._bytes_done
        position, running = self._ingest.rehash(index, self._buffer, self._stop.check, _nothing)
        self._bytes_done += position
        incoming = self._ingest.open(index)
        try:
            over = 0
            if position < file.size_bytes:
                self._source.begin(file, position)
                for start, count in self._blocks(file, position):
                    incoming.write(start, self._buffer, count)
                    running.update(self._buffer[:count])
                    incoming.record(start + count, running.hexdigest())
                    self._file = OpenFile(file.path, file.size_bytes, start + count, position)
                    self._arrived(count)
                over = self._source.receive(self._buffer[:1])
            if not over and matches(file, running.hexdigest()):
                incoming.finish()
                return True
            incoming.restart()
            self._bytes_done = before
            if over:
                raise Corrupt(
                    Reason.SOURCE_CHANGED, f"{self._name}: {file.path} is longer than it was when it was listed"
                )
            return False
        finally:
            self._file = None
            incoming.close()

    def _blocks(self, file: ManifestFile, position: int) -> Iterator[tuple[int, int]]:
        """Receive what is left of a file, block by block; yield where each belongs and its length."""
        while position < file.size_bytes:
            wanted = min(self._limits.range_bytes, file.size_bytes - position)
            if self._receive(self._buffer[:wanted]) < wanted:
                raise Unavailable(Reason.UNAVAILABLE, f"{self._name}: {file.path}: the stream ended early")
            yield position, wanted
            position += wanted

    def _receive(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            allowed = self._sharing.allow(self, len(view) - done, self._stop.check)
            count = self._source.receive(view[done : done + allowed])
            done += count
            if count < allowed:
                break
        return done

    def _arrived(self, count: int) -> None:
        self._bytes_done += count
        self._bytes_fetched += count
        self._stop.check()
        if time.monotonic() - self._reported_at > self._limits.progress_seconds:
            self._tell()

    def _tell(self) -> None:
        self._reported_at = now = time.monotonic()
        manifest, done = self._ingest.manifest, self._bytes_done
        rate = self._meter.sample(now, self._bytes_fetched)
        left = remaining_seconds(manifest.size_bytes - done, rate)
        files = len(self._ingest.done)
        on_its_way = self._file_meters.measure(now, [self._file] if self._file else [])
        self._report(Progress(done, manifest.size_bytes, files, len(manifest.files), rate, left, on_its_way))


def _nothing(_: int) -> None:
    return None
