"""What the transfers of a node share: bandwidth by a clock that is counted, connections as origins see them, pauses.

And that a stop is heeded whatever a transfer waits for.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.artifact.manifest import Manifest
from libs.chassis.errors import Unavailable
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.artifacts import Store
from services.fetcher.transfer.addresses import split_url
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.progress import Progress
from services.fetcher.transfer.sharing import Sharing
from tests.support.origin import Fault, OriginServer
from tests.support.transfers import (
    PATIENT,
    QUICK,
    CountedClock,
    UrlOrigin,
    acquire,
    contents_of,
    manifest_of,
    new_store,
    serve,
    small_model,
)

WEIGHTS = "/model/model.safetensors"
MODEL = small_model()
MANIFEST = manifest_of(MODEL)
DEADLINE_SECONDS = 20


class Running:
    """A transfer on a thread of its own, into a store of its own."""

    def __init__(
        self, store: Store, manifest: Manifest, origin: UrlOrigin, sharing: Sharing, limits: Limits = QUICK
    ) -> None:
        self.error: Exception | None = None
        self.stop = StopFlag()
        self.progress: list[Progress] = []
        self._ended = threading.Event()

        def run() -> None:
            try:
                acquire(store, manifest, origin, self.stop, self.progress.append, limits, sharing=sharing)
            except Exception as error:
                self.error = error
            finally:
                self._ended.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    @property
    def runs(self) -> bool:
        return not self._ended.is_set()

    def wait(self) -> Exception | None:
        assert self._ended.wait(DEADLINE_SECONDS)
        return self.error


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "others") as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    # What ends meanwhile may have been left by the tests before.
    eventually(lambda: threading.active_count() <= threads)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_complete(store: Store, contents: dict[str, bytes]) -> None:
    assert contents_of(store.artifact_path(manifest_of(contents).digest)) == contents


MANY_SMALL = {f"part-{number}": os.urandom(7_000) for number in range(100)}


@pytest.mark.parametrize("fault", ["", "whole", "chunked"])
@pytest.mark.parametrize("contents", [MODEL, MANY_SMALL], ids=["ranges", "small files"])
def test_content_comes_at_the_rate_of_the_node(
    contents: dict[str, bytes], fault: str, server: OriginServer, store: Store
) -> None:
    clock, rate = CountedClock(), 200_000
    injected = server.inject(Fault(fault, times=9999))
    manifest = manifest_of(contents)
    acquire(
        store,
        manifest,
        serve(server, contents),
        StopFlag(),
        limits=PATIENT,
        sharing=Sharing(bytes_per_second=rate, clock=clock),
    )
    assert injected.fired or not fault
    assert_complete(store, contents)
    # An eighth of a second may come at once, and each connection may be allowed a little that it does not need.
    assert manifest.size_bytes / rate - 0.125 <= clock.seconds <= manifest.size_bytes / rate + 0.1


def test_two_transfers_have_one_rate_together(server: OriginServer, store: Store, other_store: Store) -> None:
    clock, rate = CountedClock(), 200_000
    sharing = Sharing(bytes_per_second=rate, clock=clock)
    origin = serve(server, MODEL)
    with Running(store, MANIFEST, origin, sharing) as one, Running(other_store, MANIFEST, origin, sharing) as other:
        assert (one.wait(), other.wait()) == (None, None)
    assert clock.seconds >= 2 * MANIFEST.size_bytes / rate - 0.125


def test_what_we_throttle_ourselves_is_no_stall_of_the_origin(server: OriginServer, store: Store) -> None:
    contents = {"model.safetensors": os.urandom(64_000)}
    impatient = replace(QUICK, stall_seconds=4.0, stall_bytes=60_000, attempts=1)
    acquire(
        store,
        manifest_of(contents),
        serve(server, contents),
        StopFlag(),
        limits=impatient,
        sharing=Sharing(bytes_per_second=8_000),
    )
    assert_complete(store, contents)
    # Nothing was asked for again.
    assert server.bytes_sent == 64_000


def test_a_trickle_is_given_up_under_a_bandwidth_limit_too(server: OriginServer, store: Store) -> None:
    fault = server.inject(Fault("trickle", WEIGHTS, skip=2, after_bytes=10_000))
    acquire(
        store,
        MANIFEST,
        serve(server, MODEL),
        StopFlag(),
        limits=QUICK,
        sharing=Sharing(bytes_per_second=200_000, clock=CountedClock()),
    )
    assert fault.fired == 1
    assert_complete(store, MODEL)


def test_a_throttled_transfer_stops_at_once(server: OriginServer, store: Store) -> None:
    with Running(store, MANIFEST, serve(server, MODEL), Sharing(bytes_per_second=1)) as running:
        eventually(lambda: len(server.requests) >= QUICK.connections)
        running.stop.set()
        assert isinstance(running.wait(), Stopped)


def test_transfers_together_stay_below_the_connections_of_an_origin(
    server: OriginServer, store: Store, other_store: Store
) -> None:
    sharing = Sharing(connections_per_origin=2)
    origin = serve(server, MODEL)
    with Running(store, MANIFEST, origin, sharing) as one, Running(other_store, MANIFEST, origin, sharing) as other:
        assert (one.wait(), other.wait()) == (None, None)
    assert server.most_connections == 2
    assert_complete(store, MODEL)
    assert_complete(other_store, MODEL)


def test_transfers_take_turns_with_the_only_connection(server: OriginServer, store: Store, other_store: Store) -> None:
    sharing = Sharing(connections_per_origin=1)
    origin = serve(server, MODEL)
    with Running(store, MANIFEST, origin, sharing) as one, Running(other_store, MANIFEST, origin, sharing) as other:
        assert (one.wait(), other.wait()) == (None, None)
    assert server.most_connections == 1
    assert_complete(store, MODEL)
    assert_complete(other_store, MODEL)


def test_the_host_behind_a_redirect_counts_for_itself(server: OriginServer, store: Store, other_store: Store) -> None:
    sharing = Sharing(connections_per_origin=1)
    origin = serve(server, MODEL)
    with OriginServer() as content:
        content.add("/blob", MODEL["model.safetensors"])
        server.redirect(WEIGHTS, f"{content.url}/blob")
        with Running(store, MANIFEST, origin, sharing) as one, Running(other_store, MANIFEST, origin, sharing) as other:
            assert (one.wait(), other.wait()) == (None, None)
        assert (server.most_connections, content.most_connections) == (1, 1)
    assert_complete(store, MODEL)
    assert_complete(other_store, MODEL)


@pytest.mark.parametrize("after_bytes", [0, 30_000], ids=["before its head", "in its body"])
def test_an_answer_that_stalls_holds_up_no_other_file(server: OriginServer, store: Store, after_bytes: int) -> None:
    weights = [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    files = {name: small_model(seed)["model.safetensors"] for seed, name in enumerate(weights)}
    patient = replace(QUICK, connections=2, stall_seconds=60, overtake_seconds=0.3)
    stalled = server.inject(Fault("stall", f"/model/{weights[1]}", skip=4, after_bytes=after_bytes))
    with Running(store, manifest_of(files), serve(server, files), Sharing(), patient) as running:
        eventually(lambda: bool(stalled.fired) and running.progress[-1].files_done == len(files) - 1)


@pytest.mark.parametrize("after_bytes", [0, 20_000], ids=["before the first byte", "in the middle of a range"])
def test_a_transfer_without_a_connection_is_given_one_of_those_that_stall(
    after_bytes: int, server: OriginServer, store: Store, other_store: Store
) -> None:
    sharing = Sharing(connections_per_origin=2)
    patient = replace(QUICK, stall_seconds=60)
    stalled = server.inject(Fault("stall", WEIGHTS, times=9999, skip=4, after_bytes=after_bytes))
    contents = {"config.json": b"{}" * 200}
    small = serve(server, contents, prefix="/small")
    with Running(store, MANIFEST, serve(server, MODEL), sharing, patient) as big:
        eventually(lambda: stalled.fired >= 2)
        with Running(other_store, manifest_of(contents), small, sharing, patient) as other:
            assert other.wait() is None
        assert big.runs
        server.heal()
    assert server.most_connections == 2
    assert_complete(other_store, contents)


def test_a_pause_that_an_origin_asks_one_transfer_for_holds_for_all(
    server: OriginServer, store: Store, other_store: Store
) -> None:
    sharing = Sharing()
    asked = server.inject(Fault("status", status=429, headers={"Retry-After": "30"}))
    endpoint, _ = split_url(server.url)
    elsewhere = serve(server, MODEL, prefix="/elsewhere")
    with OriginServer() as another, Running(store, MANIFEST, serve(server, MODEL), sharing):
        eventually(lambda: sharing.pause_of(endpoint).until > 0)
        # An origin that wants to be left alone for longer than is worth a slot gives the slot to another transfer.
        brief = replace(QUICK, longest_wait_seconds=5)
        with Running(other_store, MANIFEST, elsewhere, sharing, brief) as other:
            error = other.wait()
        assert isinstance(error, Unavailable)
        assert error.reason == "RateLimited"
        assert error.retry_after_seconds
        assert not [request for request in server.requests if request.target.startswith("/elsewhere")]
        with Running(other_store, MANIFEST, serve(another, MODEL), sharing, brief) as other:
            assert other.wait() is None
    assert asked.fired == 1
    assert_complete(other_store, MODEL)


def test_a_pause_is_waited_for_by_all_and_ends(server: OriginServer, store: Store, other_store: Store) -> None:
    sharing = Sharing()
    asked = server.inject(Fault("status", status=503, headers={"Retry-After": "1"}))
    origin = serve(server, MODEL)
    with Running(store, MANIFEST, origin, sharing) as one:
        eventually(lambda: asked.fired == 1)
        with Running(other_store, MANIFEST, origin, sharing) as other:
            assert (one.wait(), other.wait()) == (None, None)
    assert_complete(store, MODEL)
    assert_complete(other_store, MODEL)


def test_a_stop_does_not_wait_for_the_lookup_of_a_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def silent(*_: object, **__: object) -> None:
        asked.set()
        answer.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    origin = UrlOrigin("test://model", "http://silent.invalid/model")
    try:
        with Running(store, MANIFEST, origin, Sharing()) as running:
            assert asked.wait(DEADLINE_SECONDS)
            running.stop.set()
            assert isinstance(running.wait(), Stopped)
            assert not answer.is_set()
    finally:
        answer.set()


def test_a_stop_does_not_wait_for_a_handshake(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = UrlOrigin("test://model", f"https://127.0.0.1:{silent.getsockname()[1]}/model")
        patient = replace(QUICK, connect_seconds=600)
        with Running(store, MANIFEST, origin, Sharing(), patient) as running:
            peer, _ = silent.accept()
            with peer:
                assert peer.recv(1)
                running.stop.set()
                assert isinstance(running.wait(), Stopped)


def test_the_rate_counts_what_came_from_the_origin_alone(server: OriginServer, store: Store) -> None:
    contents = {"model.safetensors": MODEL["model.safetensors"]}
    manifest, origin = manifest_of(contents), serve(server, contents)
    stalled = server.inject(Fault("stall", WEIGHTS, times=9999, skip=16))
    patient = replace(QUICK, stall_seconds=60)
    with Running(store, manifest, origin, Sharing(), patient) as first:
        eventually(lambda: stalled.fired >= 1)
        eventually(lambda: any(path.stat().st_size for path in store.directory.rglob("journal")))
        first.stop.set()
        assert isinstance(first.wait(), Stopped)
    with Running(store, manifest, origin, Sharing(), patient) as second:
        eventually(lambda: any(progress.bytes_done > 0 for progress in second.progress))
        # All that the progress shows lay on the disk, and nothing comes: that is no speed to reckon with.
        assert {(progress.bytes_per_second, progress.eta_seconds) for progress in second.progress} == {(0, 0)}
