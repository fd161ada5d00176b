"""The transfer engine against everything that a network and an origin can do. Each case proves that its fault fired."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.artifacts import Store
from services.fetcher.store.ingest import Ingest
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.progress import Progress
from tests.support.origin import Fault, OriginServer
from tests.support.transfers import (
    PATIENT,
    QUICK,
    UrlOrigin,
    acquire,
    contents_of,
    leftovers,
    manifest_of,
    new_store,
    serve,
    small_model,
)

WEIGHTS = "/model/model.safetensors"
CONFIG = "/model/config.json"
MODEL = small_model()
MANIFEST = manifest_of(MODEL)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    # What ends meanwhile may have been left by the tests before.
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def fetch(store: Store, origin: UrlOrigin, **changes: object) -> None:
    acquire(store, MANIFEST, origin, StopFlag(), limits=replace(QUICK, **changes))  # type: ignore[arg-type]


def assert_complete(store: Store) -> None:
    assert contents_of(store.artifact_path(MANIFEST.digest)) == MODEL
    assert store.scrub(MANIFEST.digest, StopFlag()) == ()
    assert leftovers(store) == []


def assert_nothing_visible(store: Store) -> None:
    assert not store.holds(MANIFEST.digest)
    assert [path for path in store.directory.iterdir() if path.name != ".ome"] == []


PASSING = {
    "weights cut before the first byte": Fault("cut", WEIGHTS),
    "weights cut in the middle of a range": Fault("cut", WEIGHTS, times=3, skip=2, after_bytes=20_000),
    "small file cut": Fault("cut", CONFIG, after_bytes=300),
    "connection reset": Fault("reset", WEIGHTS, times=2, skip=1, after_bytes=50_000),
    "connection closed without an answer": Fault("close", times=4, skip=2),
    "something that is no HTTP": Fault("garbage", WEIGHTS, times=2),
    "silence in the middle of a range": Fault("stall", WEIGHTS, skip=3, after_bytes=30_000),
    "silence before a small file": Fault("stall", CONFIG),
    "a byte now and then": Fault("trickle", WEIGHTS, skip=2, after_bytes=10_000),
    "a range that is shorter than asked for": Fault("short", WEIGHTS, times=3, skip=1),
    "a range that is longer than asked for": Fault("long", WEIGHTS, times=2, skip=1),
    "a body behind the body": Fault("overlong", WEIGHTS, times=2, skip=1),
    "a small body behind the body": Fault("overlong", CONFIG),
    "the whole file instead of a range, once": Fault("whole", WEIGHTS, skip=4),
    "another range than asked for": Fault("other_range", WEIGHTS, times=2, skip=1),
    "another size once": Fault("other_total", WEIGHTS, skip=5),
    "another entity tag once": Fault("new_tag", WEIGHTS, skip=7),
    "a flipped bit in a range": Fault("corrupt", WEIGHTS, skip=4, after_bytes=1000),
    "a flipped bit in a small file": Fault("corrupt", CONFIG, after_bytes=10),
    "416 once": Fault("status", WEIGHTS, skip=2, status=416),
    "429 without Retry-After": Fault("status", times=3, status=429),
    "429 with Retry-After": Fault("status", WEIGHTS, status=429, headers={"Retry-After": "1"}),
    "429 with an exhausted RateLimit": Fault("status", status=429, headers={"RateLimit": '"api";r=0;t=1'}),
    "500": Fault("status", times=3, status=500),
    "502": Fault("status", WEIGHTS, times=2, skip=3, status=502),
    "503 with a date": Fault("status", status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "504": Fault("status", CONFIG, times=2, status=504),
    "401 once": Fault("status", CONFIG, status=401),
    "chunked coding": Fault("chunked", times=3),
    "a small file compressed by a proxy": Fault("coded", CONFIG, headers={"Content-Encoding": "gzip"}),
    "a small file compressed in chunks": Fault("coded", CONFIG, headers={"Content-Encoding": "deflate"}, after_bytes=1),
    "weights compressed by a proxy": Fault("coded", WEIGHTS, times=2, headers={"Content-Encoding": "gzip"}),
    "weights compressed in chunks": Fault(
        "coded", WEIGHTS, times=2, headers={"Content-Encoding": "x-gzip"}, after_bytes=1
    ),
    "a range in the middle compressed by a proxy": Fault(
        "coded", WEIGHTS, skip=4, times=2, headers={"Content-Encoding": "gzip"}
    ),
    "slow down by a code": Fault("status", WEIGHTS, status=403, body=b"<Error><Code>SlowDown</Code></Error>"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_passing_fault_ends_in_the_right_bytes(fault: Fault, server: OriginServer, store: Store) -> None:
    fault = server.inject(replace(fault))
    fetch(store, serve(server, MODEL))
    assert fault.fired == fault.times
    assert_complete(store)


LASTING = {
    "not found": (Fault("status", CONFIG, times=99, status=404), Missing, "NotFound"),
    "no token": (Fault("status", WEIGHTS, times=99, status=401), Missing, "Forbidden"),
    "forbidden": (Fault("status", WEIGHTS, times=99, status=403), Missing, "Forbidden"),
    "gated": (
        Fault("status", WEIGHTS, times=99, status=403, headers={"X-Error-Code": "GatedRepo"}),
        Missing,
        "Gated",
    ),
    "repository gone": (
        Fault("status", times=99, status=401, headers={"X-Error-Code": "RepoNotFound"}),
        Missing,
        "NotFound",
    ),
    "corrupt weights": (Fault("corrupt", WEIGHTS, times=9999, after_bytes=5), Corrupt, "ChecksumMismatch"),
    "corrupt small file": (Fault("corrupt", CONFIG, times=99, after_bytes=5), Corrupt, "ChecksumMismatch"),
    "another size": (Fault("other_total", WEIGHTS, times=9999), Corrupt, "SourceChanged"),
    "small file longer": (Fault("long", CONFIG, times=99), Corrupt, "SourceChanged"),
    "small file shorter": (Fault("short", CONFIG, times=99), Corrupt, "SourceChanged"),
    "a condition that fails": (Fault("status", WEIGHTS, skip=2, status=412), Corrupt, "SourceChanged"),
    "always 416": (Fault("status", WEIGHTS, times=99, status=416), Corrupt, "SourceChanged"),
    "always 429": (Fault("status", times=9999, status=429), Unavailable, "RateLimited"),
    "always 503": (Fault("status", times=9999, status=503), Unavailable, "Unavailable"),
    "always silent": (Fault("stall", WEIGHTS, times=9999), Unavailable, "Unavailable"),
    "always cut": (Fault("cut", WEIGHTS, times=9999), Unavailable, "Unavailable"),
    "a status that nobody knows": (Fault("status", CONFIG, times=99, status=418), Unavailable, "Unavailable"),
    "a coding that cannot be undone": (
        Fault("coded", CONFIG, times=99, headers={"Content-Encoding": "br, gzip"}, after_bytes=1),
        Unavailable,
        "Unavailable",
    ),
    "ranges in a coding that is none": (
        Fault("coded", WEIGHTS, times=99, headers={"Content-Encoding": "zstd"}),
        Unavailable,
        "Unavailable",
    ),
    "an archived object": (
        Fault("status", WEIGHTS, times=99, status=403, body=b"<Error><Code>InvalidObjectState</Code></Error>"),
        Missing,
        "Forbidden",
    ),
    "a redirect to nowhere": (Fault("status", CONFIG, times=99, status=302), Unavailable, "Unavailable"),
    "a redirect to no address": (
        Fault("status", CONFIG, times=99, status=302, headers={"Location": "http://[::1/x"}),
        Unavailable,
        "Unavailable",
    ),
}


@pytest.mark.parametrize(("fault", "kind", "reason"), LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_ends_with_a_reason_and_heals_by_itself(
    fault: Fault, kind: type[ServiceError], reason: str, server: OriginServer, store: Store
) -> None:
    fault = server.inject(replace(fault))
    origin = serve(server, MODEL)
    with pytest.raises(kind) as raised:
        fetch(store, origin, attempts=3)
    assert fault.fired >= 1
    assert raised.value.reason == reason
    assert "test://model" in raised.value.message
    assert_nothing_visible(store)
    server.heal()
    fetch(store, origin)
    assert_complete(store)


def test_a_long_retry_after_is_handed_to_the_caller_at_once(server: OriginServer, store: Store) -> None:
    fault = server.inject(Fault("status", times=9999, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(Unavailable) as raised:
        fetch(store, serve(server, MODEL))
    assert fault.fired <= QUICK.connections * QUICK.pipelined_files
    assert (raised.value.reason, raised.value.retry_after_seconds) == ("RateLimited", 3600.0)


def test_pauses_that_are_asked_for_are_no_silence(server: OriginServer, store: Store) -> None:
    fault = server.inject(Fault("status", times=9999, status=429, headers={"Retry-After": "2"}))
    with pytest.raises(Unavailable) as raised:
        fetch(store, serve(server, MODEL), attempts=3, patience_seconds=1.5)
    assert fault.fired >= 3
    assert raised.value.reason == "RateLimited"


def test_reading_what_is_on_the_node_already_is_no_silence_of_the_origin(
    server: OriginServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, serve(server, MODEL))
    adopt = Ingest.adopt_verified

    def slowly(ingest: Ingest, index: int, source: Path, scratch: memoryview, check: Callable[[], None]) -> bool:
        for _ in range(40):
            time.sleep(0.1)
            check()
        return adopt(ingest, index, source, scratch, check)

    monkeypatch.setattr(Ingest, "adopt_verified", slowly)
    revised = MODEL | {"config.json": b"{}"}
    origin, sent = serve(server, revised), server.bytes_sent
    acquire(store, manifest_of(revised), origin, StopFlag(), limits=replace(QUICK, patience_seconds=3.0))
    assert contents_of(store.artifact_path(manifest_of(revised).digest)) == revised
    assert server.bytes_sent - sent < 1000


def test_a_redirect_loop_ends(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    server.redirect(WEIGHTS, "/model/elsewhere")
    server.redirect("/model/elsewhere", WEIGHTS)
    with pytest.raises(Unavailable, match="in circles"):
        fetch(store, origin)
    assert len(server.requested("/model/elsewhere")) <= QUICK.redirects


def test_a_token_is_not_sent_to_the_host_that_it_is_redirected_to(server: OriginServer, store: Store) -> None:
    origin = replace(serve(server, MODEL), headers={"Authorization": "Bearer secret"})
    with OriginServer() as content:
        content.add("/blob", MODEL["model.safetensors"])
        server.require(WEIGHTS, "Authorization", "Bearer secret")
        server.redirect(WEIGHTS, f"{content.url}/blob?signature=1")
        fetch(store, origin, stall_seconds=PATIENT.stall_seconds)
        assert content.requested("/blob")
        assert all("authorization" not in request.headers for request in content.requests)
    # The redirect is remembered: the hub counts each request against a limit.
    assert len(server.requested(WEIGHTS)) == 1
    assert_complete(store)


def test_a_token_is_sent_again_to_the_same_host(server: OriginServer, store: Store) -> None:
    origin = replace(serve(server, MODEL), headers={"Authorization": "Bearer secret"})
    server.add("/cache/weights", MODEL["model.safetensors"])
    server.require("/cache/weights", "Authorization", "Bearer secret")
    server.redirect(WEIGHTS, "../cache/weights")
    fetch(store, origin)
    assert_complete(store)


def test_a_signed_address_that_expires_in_the_middle_is_renewed(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    with OriginServer() as content:
        content.add("/old", MODEL["model.safetensors"])
        content.add("/new", MODEL["model.safetensors"])
        server.redirect(WEIGHTS, f"{content.url}/old?signature=1")
        expired = content.inject(Fault("status", "/old", skip=6, times=9999, status=403))

        class Renewed(UrlOrigin):
            def locate(self, file: ManifestFile, again: bool) -> Location:
                if expired.fired:
                    server.redirect(WEIGHTS, f"{content.url}/new?signature=2")
                return super().locate(file, again)

        fetch(store, Renewed(origin.name, origin.base_url), stall_seconds=PATIENT.stall_seconds)
        assert expired.fired >= 1
        assert content.requested("/new")
        # What the first address had given was kept.
        assert content.bytes_sent == len(MODEL["model.safetensors"])
    assert_complete(store)


def test_a_token_that_has_expired_is_asked_for_again(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    server.require(CONFIG, "Authorization", "Bearer new")
    asked = []

    class Renewing(UrlOrigin):
        def locate(self, file: ManifestFile, again: bool) -> Location:
            asked.append(again)
            return replace(
                super().locate(file, again), headers={"Authorization": "Bearer new" if again else "Bearer old"}
            )

    fetch(store, Renewing(origin.name, origin.base_url))
    assert True in asked
    shown = [request.headers["authorization"] for request in server.requested(CONFIG)]
    assert shown[:2] == ["Bearer old", "Bearer new"]
    assert_complete(store)


def test_an_object_that_changes_while_it_is_read_is_read_anew_even_without_a_checksum(
    server: OriginServer, store: Store
) -> None:
    origin = serve(server, MODEL)
    files = (replace(file, algorithm=ChecksumAlgorithm.NONE, checksum="") for file in MANIFEST.files)
    manifest = new_manifest("r", files)
    changed = MODEL | {"model.safetensors": MODEL["model.safetensors"][::-1]}
    asked = []

    class Changing(UrlOrigin):
        def locate(self, file: ManifestFile, again: bool) -> Location:
            asked.append(file.path)
            if asked.count("model.safetensors") >= 8:
                server.add(WEIGHTS, changed["model.safetensors"])
            return super().locate(file, again)

    acquire(store, manifest, Changing(origin.name, origin.base_url), StopFlag(), limits=QUICK)
    assert server.bytes_sent > manifest.size_bytes
    assert contents_of(store.artifact_path(manifest.digest)) == changed


def test_an_origin_without_ranges_is_read_in_one_go(server: OriginServer, store: Store) -> None:
    fault = server.inject(Fault("whole", times=9999))
    fetch(store, serve(server, MODEL), stall_seconds=PATIENT.stall_seconds)
    assert fault.fired >= len(MODEL) - 1
    assert server.bytes_sent == MANIFEST.size_bytes
    assert_complete(store)


def test_an_origin_without_ranges_that_breaks_off_is_resumed(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    cut = server.inject(Fault("whole_cut", WEIGHTS, after_bytes=700_000))
    server.inject(Fault("whole", times=9999))
    fetch(store, origin)
    assert cut.fired == 1
    assert_complete(store)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "hub..example", f"{'a' * 64}.example"])
def test_an_unknown_host_is_unavailable(host: str, store: Store) -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        fetch(store, UrlOrigin("test://model", f"http://{host}/model"), attempts=2)


def test_a_closed_port_is_unavailable(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    server.close()
    with pytest.raises(Unavailable, match="refused"):
        fetch(store, origin, attempts=2)


def test_an_address_of_another_scheme_is_not_followed(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    server.redirect(CONFIG, "file:///etc/passwd")
    with pytest.raises(Unavailable, match="neither http nor https"):
        fetch(store, origin, attempts=2)


def test_a_stop_ends_a_silent_transfer_within_a_moment_and_keeps_what_is_verified(
    server: OriginServer, store: Store
) -> None:
    origin = serve(server, MODEL)
    fault = server.inject(Fault("stall", WEIGHTS, times=9999, skip=10))
    stop, ended = StopFlag(), threading.Event()
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            acquire(store, MANIFEST, origin, stop, limits=replace(QUICK, stall_seconds=60))
        except Stopped as stopped:
            outcome.append(stopped)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not fault.fired and time.monotonic() < deadline:
            time.sleep(0.01)
        assert fault.fired
        stop.set()
        assert ended.wait(5)
    finally:
        stop.set()
        thread.join()
    assert outcome
    server.heal()
    fetch(store, origin)
    assert_complete(store)
    # What was in buffers may have arrived without having been hashed, as it was not its turn.
    assert server.bytes_sent <= MANIFEST.size_bytes + QUICK.buffers * QUICK.range_bytes


def test_progress_grows_to_the_whole(server: OriginServer, store: Store) -> None:
    seen: list[Progress] = []
    acquire(store, MANIFEST, serve(server, MODEL), StopFlag(), seen.append, QUICK)
    assert [progress.bytes_done for progress in seen] == sorted(progress.bytes_done for progress in seen)
    assert (seen[0].bytes_done, seen[-1].bytes_done) == (0, MANIFEST.size_bytes)
    assert (seen[-1].files_done, seen[-1].files_total) == (len(MODEL), len(MODEL))


def test_the_proxy_of_the_environment_is_asked(
    server: OriginServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, MODEL)
    monkeypatch.setenv("http_proxy", server.url)
    fetch(store, UrlOrigin("test://model", "http://hub.invalid/model"))
    assert all(request.target.startswith("http://hub.invalid:80/model/") for request in server.requests)
    assert_complete(store)


def test_the_proxy_is_not_asked_for_hosts_in_no_proxy(
    server: OriginServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.org, 127.0.0.1")
    fetch(store, serve(server, MODEL))
    assert_complete(store)


def test_many_faults_at_random_still_end_in_the_right_bytes(server: OriginServer, tmp_path: Path) -> None:
    import random

    origin = serve(server, MODEL)
    kinds = ("cut", "reset", "close", "short", "long", "other_range", "chunked", "whole", "corrupt")
    for seed in range(12):
        source = random.Random(seed)
        faults = [
            server.inject(
                Fault(source.choice(kinds), WEIGHTS, skip=source.randrange(12), after_bytes=source.randrange(30_000))
            )
            for _ in range(5)
        ]
        with new_store(tmp_path / str(seed)) as store:
            fetch(store, origin, attempts=12, corrupt_attempts=6)
            assert_complete(store)
        assert sum(fault.fired for fault in faults) >= 1
        server.heal()


def test_every_request_asks_for_content_without_a_coding(server: OriginServer, store: Store) -> None:
    fetch(store, serve(server, MODEL))
    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}


def test_an_object_that_was_stored_compressed_is_what_was_listed(server: OriginServer, store: Store) -> None:
    # As long as it says it is, and as the listing says: what is named in the header happened before it was stored.
    fault = server.inject(Fault("coded", CONFIG, headers={"Content-Encoding": "zstd"}))
    fetch(store, serve(server, MODEL))
    assert fault.fired == 1
    assert_complete(store)


def test_what_decodes_to_more_than_was_listed_has_changed(server: OriginServer, store: Store) -> None:
    origin = serve(server, MODEL)
    server.add(CONFIG, bytes(1 << 20))
    fault = server.inject(Fault("coded", CONFIG, times=99, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(Corrupt) as raised:
        fetch(store, origin)
    assert fault.fired >= 1
    assert raised.value.reason == "SourceChanged"


def test_what_a_store_says_reaches_the_person_without_what_was_sent_to_it(server: OriginServer, store: Store) -> None:
    origin = replace(serve(server, MODEL), headers={"Authorization": "Bearer hush-hush-token"})
    body = (
        b'<?xml version="1.0"?>\n<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for\n'
        b"the object's\x1b[31m storage class; you sent hush-hush-token</Message></Error>"
    )
    fault = server.inject(Fault("status", WEIGHTS, times=99, status=403, body=body))
    with pytest.raises(Missing) as raised:
        fetch(store, origin)
    assert fault.fired == 2
    assert raised.value.reason == "Forbidden"
    assert raised.value.message == (
        "test://model: model.safetensors is in an archive tier and cannot be read from there: restore it in the bucket "
        "first (HTTP 403, InvalidObjectState: The operation is not valid for the object's [31m storage class; you sent "
        "...)"
    )
