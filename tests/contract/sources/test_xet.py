"""Files from Xet storage: the real hf_xet against a storage that speaks its protocol, and the way back to HTTP."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libs.artifact.manifest import Manifest
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.sources.hub.huggingface import list_revision
from services.fetcher.sources.hub.source import HubOrigin, HubSource, Transport
from services.fetcher.sources.hub.xet_streams import XetStreams
from services.fetcher.stop import StopFlag, Stopped
from services.fetcher.store.artifacts import Store
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.progress import Progress
from tests.support.child_processes import child_processes
from tests.support.hub import Fault, GeneratedFile, Hub
from tests.support.hub.xet import XORB_BYTES, xet_hash, xorb_name
from tests.support.transfers import PATIENT, acquire, contents_of, leftovers, new_store
from tools.localcluster.certificates import Authority

MODEL = "acme/model"
TOKEN = "hf_secret_of_the_user"
WEIGHTS = random.Random(1).randbytes(9_500_123)
FILES: dict[str, bytes | str] = {
    "config.json": b"{}",
    "model-1.safetensors": WEIGHTS,
    "model-2.safetensors": random.Random(2).randbytes(1_234_567),
}
CONTENTS = {path: content.encode() if isinstance(content, str) else content for path, content in FILES.items()}
SECOND_XORB = xorb_name(xet_hash(hashlib.sha256(WEIGHTS).hexdigest()), 1)
# More than a process takes to start on a busy machine.
STARTED_SECONDS = 15.0
STALL = Fault("stall", path="/xorbs/*", port="cas", after_bytes=70_000)
LIMITS = replace(PATIENT, attempts=2, range_bytes=256 << 10)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(cache_dir=tmp_path / "cache") as hub:
        hub.configure(xet=True)
        hub.add_model(MODEL, FILES, private=True)
        hub.add_token(TOKEN, [MODEL])
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "models") as store:
        yield store


def source(hub: Hub, transport: Transport) -> HubSource:
    return HubSource(MODEL, "", hub.endpoint, TOKEN, transport=transport)


def fetch(
    hub: Hub,
    store: Store,
    transport: Transport,
    stop: StopFlag | None = None,
    limits: Limits = LIMITS,
    patience_seconds: float = 30.0,
) -> Manifest:
    of = source(hub, transport)
    listing = list_revision(of)
    streams = XetStreams(of, listing.commit, patience_seconds=patience_seconds, attempts=1, backoff=0.01)
    origin = HubOrigin(of, listing.commit)
    acquire(store, listing.manifest, origin, stop or StopFlag(), limits=limits, streams=streams)
    return listing.manifest


def assert_held(store: Store, manifest: Manifest) -> None:
    assert contents_of(store.artifact_path(manifest.digest)) == CONTENTS
    assert leftovers(store) == []


def test_large_files_come_over_xet_when_that_is_preferred_and_small_ones_over_http(hub: Hub, store: Store) -> None:
    assert_held(store, fetch(hub, store, Transport.XET))
    assert hub.sent_bytes("*/model-*") == 0
    assert hub.sent_bytes("/xorbs/*") > len(WEIGHTS)
    assert hub.requests("*/resolve/*/config.json")
    assert not hub.requests("*/telemetry")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path="/v1/*", port="cas", status=503),
        Fault("status", path="/v1/*", port="cas", status=401),
        Fault("status", path="/v1/*", port="cas", status=404),
        Fault("reset", port="cas"),
        Fault("status", path="*/xet-read-token/*", status=403),
        Fault("status", path="*/xet-read-token/*", status=500),
        Fault("corrupt", path="/v1/*", port="cas", offset=3),
        Fault("corrupt", path="/xorbs/*", port="cas", offset=0),
        Fault("corrupt", path="/xorbs/*", port="cas", offset=1000),
        Fault("cut", path="/xorbs/*", port="cas", after_bytes=70_000),
        Fault("short", path="/xorbs/*", port="cas", after_bytes=70_000),
        STALL,
        Fault("status", path="/xorbs/*", port="cas", status=403),
    ],
    ids=lambda fault: f"{fault.kind} {fault.path} {fault.status if fault.kind == 'status' else fault.offset}",
)
def test_what_xet_cannot_bring_comes_over_http(fault: Fault, hub: Hub, store: Store) -> None:
    injected = hub.inject(fault)
    assert_held(store, fetch(hub, store, Transport.XET, patience_seconds=STARTED_SECONDS))
    assert injected.fired
    assert hub.requests("/repos/*", port="cdn")


def test_parts_of_a_file_in_the_wrong_order_are_noticed(hub: Hub, store: Store) -> None:
    hub.configure(xet_swapped_terms=True)
    assert_held(store, fetch(hub, store, Transport.XET))
    assert {request.status for request in hub.requests("/v1/reconstructions/*")} == {200}
    assert hub.sent_bytes("/repos/*/model-1.safetensors") == len(WEIGHTS)
    # The smaller one has one part, which cannot be in the wrong place.
    assert hub.sent_bytes("/repos/*/model-2.safetensors") == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", port="cdn", status=403),
        Fault("status", port="cdn", status=404),
        Fault("status", port="cdn", status=503),
        Fault("reset", port="cdn"),
        Fault("corrupt", path="*/model-1.safetensors", port="cdn", offset=5000),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status if fault.kind == 'status' else ''}",
)
def test_what_http_cannot_bring_comes_over_xet(fault: Fault, hub: Hub, store: Store) -> None:
    injected = hub.inject(fault)
    assert_held(store, fetch(hub, store, Transport.AUTO))
    assert injected.fired
    assert hub.sent_bytes("/xorbs/*") > 0


def test_http_comes_first_and_alone_while_it_works(hub: Hub, store: Store) -> None:
    assert_held(store, fetch(hub, store, Transport.AUTO))
    assert not hub.requests("*/xet-read-token/*")
    assert not hub.requests(port="cas")


def test_when_both_ways_fail_the_error_is_that_of_http_and_nothing_is_left_but_what_resumes(
    hub: Hub, store: Store
) -> None:
    faults = [hub.inject(Fault("status", port="cdn", status=403)), hub.inject(Fault("reset", port="cas"))]
    with pytest.raises(Missing, match=r"model-.\.safetensors may not be read") as raised:
        fetch(hub, store, Transport.AUTO)
    assert raised.value.reason == "Forbidden"
    assert all(fault.fired for fault in faults)
    assert not any("scratch" in path for path in leftovers(store))
    hub.clear_faults()
    assert_held(store, fetch(hub, store, Transport.AUTO))


def test_a_hub_that_asks_to_slow_down_is_not_asked_at_another_door(hub: Hub, store: Store) -> None:
    fault = hub.inject(Fault("status", port="cdn", status=429, retry_after="1000"))
    with pytest.raises(Unavailable) as raised:
        fetch(hub, store, Transport.AUTO)
    assert raised.value.reason == "RateLimited"
    assert fault.fired
    assert not hub.requests(port="cas")


def test_a_repository_that_is_not_in_xet_storage_comes_over_http(hub: Hub, store: Store) -> None:
    hub.configure(xet=False)
    assert_held(store, fetch(hub, store, Transport.XET))
    assert not hub.requests("*/xet-read-token/*")


def test_xet_goes_on_where_http_was_cut(hub: Hub, store: Store) -> None:
    hub.add_model(MODEL, {"model-1.safetensors": WEIGHTS}, private=True)
    # One range at a time, so that no later one is there before an earlier one.
    limits = replace(LIMITS, connections=1, pipelined_ranges=1)
    hub.inject(Fault("status", port="cdn", status=503, skip=8))
    manifest = fetch(hub, store, Transport.AUTO, limits=limits)
    assert contents_of(store.artifact_path(manifest.digest)) == {"model-1.safetensors": WEIGHTS}
    (asked,) = {request.range for request in hub.requests("/v1/reconstructions/*")}
    assert asked == f"bytes={8 * LIMITS.range_bytes}-{len(WEIGHTS) - 1}"


def test_http_goes_on_where_xet_was_cut(hub: Hub, store: Store) -> None:
    fault = hub.inject(replace(STALL, path=f"/xorbs/{SECOND_XORB}"))
    assert_held(store, fetch(hub, store, Transport.XET, patience_seconds=STARTED_SECONDS))
    assert fault.fired
    assert hub.sent_bytes("/repos/*/model-1.safetensors") == len(WEIGHTS) - XORB_BYTES


def test_a_stop_ends_the_process_and_leaves_only_what_resumes(hub: Hub, store: Store) -> None:
    fault, stop = hub.inject(STALL), StopFlag()
    watched: list[dict[str, str]] = []

    def end() -> None:
        fault.wait_fired()
        watched.extend(
            {"command": _read(pid, "cmdline"), "environment": _read(pid, "environ")} for pid in child_processes()
        )
        stop.set()

    watcher = threading.Thread(target=end)
    watcher.start()
    with pytest.raises(Stopped):
        fetch(hub, store, Transport.XET, stop)
    watcher.join()
    assert child_processes() == []
    assert not any("scratch" in path for path in leftovers(store))
    (process,) = watched
    assert "services.fetcher.sources.hub.xet" in process["command"]
    assert TOKEN not in process["command"] + process["environment"]
    fault.release()
    assert_held(store, fetch(hub, store, Transport.XET))


def test_a_killed_fetcher_takes_the_process_with_it_and_the_next_one_goes_on(hub: Hub, tmp_path: Path) -> None:
    fault = hub.inject(replace(STALL, path=f"/xorbs/{SECOND_XORB}"))
    with _fetcher(tmp_path / "models", hub.endpoint) as fetcher:
        fault.wait_fired()
        journal = tmp_path / "models" / ".ome" / "staging"
        until(lambda: _recorded(journal) == XORB_BYTES, "the first part to be recorded")
        (process,) = child_processes(fetcher.pid)
        fetcher.kill()
        fetcher.wait()
        until(lambda: not Path(f"/proc/{process}").exists(), "the process that reads Xet to end")
    assert list((tmp_path / "models").rglob("scratch"))
    fault.release()
    hub.forget_requests()
    with new_store(tmp_path / "models") as store:
        assert_held(store, fetch(hub, store, Transport.XET))
    assert f"bytes={XORB_BYTES}-{len(WEIGHTS) - 1}" in {each.range for each in hub.requests("/v1/reconstructions/*")}


def test_memory_of_the_fetcher_does_not_grow_with_the_file(hub: Hub, tmp_path: Path) -> None:
    hub.add_model("acme/small", generated=[GeneratedFile("model.safetensors", 1 << 20)])
    hub.add_model("acme/large", generated=[GeneratedFile("model.safetensors", 200 << 20, sparse=True)])
    peaks = {}
    for model in ("acme/small", "acme/large"):
        with _fetcher(tmp_path / model, hub.endpoint, model) as fetcher:
            peaks[model] = int(fetcher.communicate(timeout=60)[0].split()[-1]) << 10
        assert fetcher.returncode == 0
    assert hub.sent_bytes("/xorbs/*") > 200 << 20
    assert peaks["acme/large"] - peaks["acme/small"] < 20 << 20


def test_neither_tokens_nor_signed_addresses_are_logged(
    hub: Hub, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = hub.inject(Fault("reset", path="/xorbs/*", port="cas"))
    fetch(hub, store, Transport.XET)
    assert fault.fired
    said = "".join(capfd.readouterr())
    assert "streams_failed" in said
    assert "acme/model over Xet" in said
    assert not any(secret in said for secret in (TOKEN, "xet_", "signature"))


def test_a_certificate_that_the_environment_names_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue_server("hub", ("localhost",), ("127.0.0.1",))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pair.certificate.read_bytes() + authority.certificate.read_bytes())
    with Hub(cache_dir=tmp_path / "cache", certificate=(str(chain), str(pair.key))) as hub:
        hub.configure(xet=True)
        hub.add_model(MODEL, FILES)
        hub.add_token(TOKEN)
        with _fetcher(tmp_path / "models", hub.endpoint, SSL_CERT_FILE=str(authority.certificate)) as fetcher:
            output = fetcher.communicate(timeout=60)
        assert fetcher.returncode == 0, output
        assert hub.sent_bytes("/xorbs/*") > len(WEIGHTS)
        assert hub.sent_bytes("*/model-*") == 0


def test_progress_is_told_while_xet_brings_bytes(hub: Hub, store: Store) -> None:
    seen: list[Progress] = []
    of = source(hub, Transport.XET)
    listing = list_revision(of)
    acquire(
        store,
        listing.manifest,
        HubOrigin(of, listing.commit),
        StopFlag(),
        seen.append,
        replace(LIMITS, progress_seconds=0.0),
        streams=XetStreams(of, listing.commit),
    )
    done = [progress.bytes_done for progress in seen]
    assert done == sorted(done)
    assert done[-1] == listing.manifest.size_bytes
    assert len(set(done)) > len(WEIGHTS) // LIMITS.range_bytes


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def _recorded(staging: Path) -> int:
    """How much of the first large file the journal of the only download calls verified."""
    lines = [line.split() for path in staging.glob("*/journal") for line in path.read_text().splitlines()]
    return max((int(length) for index, length, _ in lines if index == "1"), default=0)


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


@contextmanager
def _fetcher(root: Path, endpoint: str, model: str = MODEL, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.xet_fetcher", str(root), endpoint, model],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        process.stdin.write(f"{TOKEN}\n".encode())
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()
