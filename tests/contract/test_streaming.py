"""Files that a source sends as a stream: what becomes of them when the stream is right, short, long or wrong."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from libs.artifact.manifest import ManifestFile
from libs.chassis.errors import Missing
from services.fetcher.stop import StopFlag
from services.fetcher.store.artifacts import Store
from services.fetcher.transfer.sharing import Sharing
from tests.support.origin import OriginServer
from tests.support.transfers import QUICK, CountedClock, acquire, contents_of, leftovers, manifest_of, new_store, serve

MODEL = {"config.json": b"{}", "a.safetensors": random.Random(1).randbytes(900_001), "b.safetensors": b"b" * 300_000}
MANIFEST = manifest_of(MODEL)
LIMITS = replace(QUICK, range_bytes=64 << 10)


@dataclass
class Bytes:
    """Streams contents from memory, with whatever changes them on the way; the other files it does not have."""

    contents: dict[str, bytes]
    preferred: bool = True
    name: str = "test://model as streams"
    begun: list[tuple[str, int]] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)

    @contextmanager
    def open(self, directory: Path, check: Callable[[], None]) -> Iterator["Bytes"]:
        (directory / "log").write_bytes(b"what a library leaves behind")
        self.directories.append(directory)
        yield self

    def offers(self, file: ManifestFile) -> bool:
        return file.path in self.contents

    def begin(self, file: ManifestFile, offset: int) -> None:
        self.begun.append((file.path, offset))
        self._left = memoryview(self.contents[file.path])[offset:]

    def receive(self, view: memoryview) -> int:
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


@pytest.fixture
def server() -> Iterator[OriginServer]:
    with OriginServer() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "models") as store:
        yield store


def fetch(store: Store, server: OriginServer, streams: Bytes) -> None:
    origin = serve(server, MODEL)
    acquire(store, MANIFEST, origin, StopFlag(), limits=LIMITS, streams=streams)
    assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL
    assert leftovers(store) == []
    assert not any(directory.exists() for directory in streams.directories)


def asked(server: OriginServer) -> set[str]:
    return {request.target.rpartition("/")[2] for request in server.requests}


def test_what_streams_offer_is_not_asked_for_over_http(store: Store, server: OriginServer) -> None:
    fetch(store, server, Bytes({"a.safetensors": MODEL["a.safetensors"]}))
    assert asked(server) == {"config.json", "b.safetensors"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-1] + b"x", id="wrong at the end"),
        pytest.param(lambda content: b"x" + content[1:], id="wrong at the start"),
        pytest.param(lambda content: content + b"x", id="one byte too long"),
        pytest.param(lambda content: content[:-1], id="one byte too short"),
        pytest.param(lambda content: b"", id="nothing at all"),
    ],
)
def test_a_stream_that_is_wrong_is_made_good_over_http(
    change: Callable[[bytes], bytes], store: Store, server: OriginServer
) -> None:
    fetch(store, server, Bytes({"a.safetensors": change(MODEL["a.safetensors"])}))
    assert "a.safetensors" in asked(server)


def test_streams_that_come_second_are_not_opened_when_http_suffices(store: Store, server: OriginServer) -> None:
    streams = Bytes(dict(MODEL), preferred=False)
    fetch(store, server, streams)
    assert streams.directories == []


def test_what_neither_way_can_bring_is_an_error_and_is_continued_later(store: Store, server: OriginServer) -> None:
    short = Bytes({"a.safetensors": MODEL["a.safetensors"][:200_000]})
    origin = serve(server, {path: content for path, content in MODEL.items() if path != "a.safetensors"})
    with pytest.raises(Missing):
        acquire(store, MANIFEST, origin, StopFlag(), limits=LIMITS, streams=short)
    whole = Bytes({"a.safetensors": MODEL["a.safetensors"]})
    fetch(store, server, whole)
    assert whole.begun == [("a.safetensors", 3 * LIMITS.range_bytes)]


def test_streams_come_at_the_rate_of_the_node(store: Store, server: OriginServer) -> None:
    clock, rate = CountedClock(), 200_000
    sharing = Sharing(bytes_per_second=rate, clock=clock)
    acquire(store, MANIFEST, serve(server, {}), StopFlag(), limits=LIMITS, streams=Bytes(dict(MODEL)), sharing=sharing)
    assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL
    assert MANIFEST.size_bytes / rate - 0.125 <= clock.seconds <= MANIFEST.size_bytes / rate


def test_a_throttled_stream_is_continued_where_it_ended(store: Store, server: OriginServer) -> None:
    # A rate whose portions fit no block of the disk.
    sharing = Sharing(bytes_per_second=123_456, clock=CountedClock())
    short = Bytes({"a.safetensors": MODEL["a.safetensors"][:200_000]})
    origin = serve(server, {path: content for path, content in MODEL.items() if path != "a.safetensors"})
    with pytest.raises(Missing):
        acquire(store, MANIFEST, origin, StopFlag(), limits=LIMITS, streams=short, sharing=sharing)
    whole = Bytes({"a.safetensors": MODEL["a.safetensors"]})
    fetch(store, server, whole)
    assert whole.begun == [("a.safetensors", 3 * LIMITS.range_bytes)]
