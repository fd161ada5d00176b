"""A vendor's driver program: asked by way of a real process, and files fetched by the engine from where it says."""

import ctypes
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.uri import VendorUri
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.vendor.drivers import ExecDriver
from services.fetcher.sources.vendor.exec_driver import ExecOrigin, list_index
from services.fetcher.sources.vendor.source import ExecSource, exec_source
from services.fetcher.stop import StopFlag, Stopped
from tests.contract.sources.suite import MODEL as MODEL_OF_THE_SUITE
from tests.contract.sources.suite import Access, Ground, SourceSuite, Trouble
from tests.support import vendor_driver
from tests.support.origin import Fault, OriginServer
from tests.support.transfers import PATIENT, QUICK, acquire, contents_of, leftovers, new_store, small_model

MODEL = small_model()
SECRET = {"token": b"s3cret-token"}
FILE = ManifestFile("config.json", 2, ChecksumAlgorithm.NONE, "")


# The number of an option of prctl(2).
_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def _first_process() -> Iterator[None]:
    """Orphans become children of this process, as they become the fetcher's in a container."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_SET_CHILD_SUBREAPER, 1) == 0
    yield
    libc.prctl(_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def server() -> Iterator[OriginServer]:
    with OriginServer() as server:
        yield server


@pytest.fixture
def vendor(tmp_path: Path, server: OriginServer) -> Path:
    """The directory with a vendor's model, which a server serves."""
    directory = tmp_path / "llama"
    for path, content in MODEL.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        server.add(f"/{path}", content)
    return directory


class ProgramGround:
    """A vendor with a program, which lists a directory and leads to a server that wants a token."""

    tells_pauses = True
    takes_any_parameter = True
    secrets = ("s3cret-token", "wr0ng-token")

    def __init__(self, server: OriginServer, folder: Path) -> None:
        self._server = server
        self._directory = folder / "tiny"
        self._drivers = folder / "drivers.json"
        command = [sys.executable, vendor_driver.__file__, str(self._directory), server.url]
        self._drivers.write_text(json.dumps({"acme": {"driver": "exec", "command": command}}))

    @property
    def access(self) -> Access:
        return Access(credentials={"token": b"s3cret-token"}, settings={"vendor_drivers_file": self._drivers})

    @property
    def wrong_access(self) -> Access:
        return replace(self.access, credentials={"token": b"wr0ng-token"})

    @property
    def away(self) -> Access:
        return replace(self.access, parameters={"fail": f"silent:{os.EX_UNAVAILABLE}"})

    def uri(self, name: str) -> str:
        # The program knows models by the last part of their names.
        return f"vendor://acme/{name}"

    def publish(self, name: str, contents: Mapping[str, bytes]) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        for path in list(MODEL_OF_THE_SUITE):
            self._server.remove(f"/{path}")
        for path, content in contents.items():
            file = self._directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            self._server.add(f"/{path}", content)
            self._server.require(f"/{path}", "Authorization", "Bearer s3cret-token")

    @contextmanager
    def in_trouble(self, status: int) -> Iterator[Trouble]:
        exit_status = os.EX_TEMPFAIL if status == 429 else os.EX_UNAVAILABLE
        access = replace(self.access, parameters={"fail": f"status:{exit_status}"})
        before = self._runs()
        yield Trouble(access, lambda: self._runs() - before)

    def _runs(self) -> int:
        log = Path(f"{self._directory}.requests")
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def ground(server: OriginServer, tmp_path: Path) -> Ground:
    return ProgramGround(server, tmp_path)


class TestVendorProgram(SourceSuite):
    """vendor:// with a program is a source like every other."""


def source_of(
    vendor: Path,
    server: OriginServer,
    secret: Mapping[str, bytes] | None = None,
    path: str = "llama",
    timeout_seconds: float = 30.0,
    environment: tuple[str, ...] = (),
    **parameters: str,
) -> ExecSource:
    command = (sys.executable, vendor_driver.__file__, str(vendor), server.url)
    driver = ExecDriver(command, environment, timeout_seconds)
    return exec_source(VendorUri("acme", "models", path), parameters, secret or {}, driver)


def requests_of(vendor: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{vendor}.requests").read_text().splitlines()]


def refusal(source: ExecSource) -> ServiceError | InvalidValue:
    with pytest.raises((ServiceError, InvalidValue)) as raised:
        list_index(source, StopFlag())
    assert isinstance(raised.value, ServiceError | InvalidValue)
    assert "s3cret" not in raised.value.message
    return raised.value


def assert_no_process_is_left(vendor: Path) -> None:
    group = requests_of(vendor)[-1]["pid"]
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_model_is_listed_and_fetched_from_where_the_program_says(
    vendor: Path, server: OriginServer, tmp_path: Path
) -> None:
    for path in MODEL:
        server.require(f"/{path}", "Authorization", "Bearer s3cret-token")
    source = source_of(vendor, server, SECRET, flavour="int4")
    manifest = list_index(source, StopFlag())
    assert manifest.source_revision == "r1"
    with new_store(tmp_path / "root") as store:
        acquire(store, manifest, ExecOrigin(source, "r1", StopFlag()), StopFlag(), limits=QUICK)
        assert leftovers(store) == []
        assert contents_of(store.artifact_path(manifest.digest)) == MODEL
    assert len([request for request in requests_of(vendor) if request.get("file") == "model.safetensors"]) == 1
    assert requests_of(vendor)[0]["parameters"] == {"flavour": "int4"}
    assert requests_of(vendor)[-1]["revision"] == "r1"


def test_the_program_gets_the_named_variables_and_no_others(
    vendor: Path, server: OriginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_REGION", "eu")
    monkeypatch.setenv("OME_NATS_TOKEN_FILE", "/var/run/secrets/nats/token")
    list_index(source_of(vendor, server, environment=("ACME_REGION", "ACME_UNSET")), StopFlag())
    assert requests_of(vendor)[0]["environ"] == {"ACME_REGION": "eu"}


def test_patterns_are_ours_and_not_the_programs(vendor: Path, server: OriginServer) -> None:
    source = source_of(vendor, server, allowPatterns="*.json", ignorePatterns="tokenizer/")
    assert [file.path for file in list_index(source, StopFlag()).files] == ["config.json"]
    assert requests_of(vendor)[0]["parameters"] == {}


def test_an_address_that_is_refused_is_asked_for_again(
    vendor: Path, server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.fetcher.sources.vendor.exec_driver._RENEWED_SECONDS", 0.0)
    source = source_of(vendor, server, allowPatterns="config.json")
    manifest = list_index(source, StopFlag())
    fault = server.inject(Fault("status", "/config.json", status=403))
    with new_store(tmp_path / "root") as store:
        acquire(store, manifest, ExecOrigin(source, "r1", StopFlag()), StopFlag(), limits=PATIENT)
    assert fault.fired == 1
    assert [request["again"] for request in requests_of(vendor) if request["verb"] == "locate"] == [False, True]


def test_an_answer_is_used_again_unless_it_has_expired(vendor: Path, server: OriginServer) -> None:
    for source, runs in ((source_of(vendor, server), 1), (source_of(vendor, server, expires="at once"), 3)):
        Path(f"{vendor}.requests").unlink(missing_ok=True)
        origin = ExecOrigin(source, "", StopFlag())
        assert len({origin.locate(FILE, again=False).url for _ in range(3)}) == 1
        assert len(requests_of(vendor)) == runs


def test_threads_that_want_one_file_share_one_run(vendor: Path, server: OriginServer) -> None:
    origin = ExecOrigin(source_of(vendor, server), "", StopFlag())
    threads = [threading.Thread(target=origin.locate, args=(FILE, False)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(requests_of(vendor)) == 1


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (os.EX_NOINPUT, Missing, "NotFound"),
        (os.EX_NOPERM, Missing, "Forbidden"),
        (os.EX_USAGE, Invalid, "InvalidParameter"),
        (os.EX_UNAVAILABLE, Unavailable, "Unavailable"),
        (os.EX_TEMPFAIL, Unavailable, "RateLimited"),
        (1, Unavailable, "Unavailable"),
        (2, Unavailable, "Unavailable"),
    ],
)
def test_an_exit_status_becomes_a_reason_and_its_words_lose_the_secret(
    vendor: Path, server: OriginServer, status: int, error: type[ServiceError], reason: str
) -> None:
    found = refusal(source_of(vendor, server, SECRET, fail=f"status:{status}"))
    assert isinstance(found, error)
    assert found.reason == reason
    assert found.message.endswith(": as told with ***")
    if isinstance(found, Unavailable):
        assert found.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("how", "reason", "sentence"),
    [
        ("silent:3", "Unavailable", "ended with status 3"),
        ("killed", "Unavailable", "ended by signal 6"),
        ("text", "Unavailable", "no JSON object"),
        ("shape", "InvalidListing", "'size' of 'a' is '1'"),
        ("pages", "InvalidListing", "without 'next'"),
    ],
)
def test_a_program_that_fails_is_named(
    vendor: Path, server: OriginServer, how: str, reason: str, sentence: str
) -> None:
    found = refusal(source_of(vendor, server, SECRET, fail=how))
    assert found.reason == reason
    assert sentence in found.message


@pytest.mark.parametrize(
    ("how", "sentence"),
    [("address", "a 'url' that is no URL"), ("pages", "'url' must be an http or https URL")],
    ids=["no URL", "no address"],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(
    vendor: Path, server: OriginServer, how: str, sentence: str
) -> None:
    origin = ExecOrigin(source_of(vendor, server, SECRET, fail=how), "", StopFlag())
    with pytest.raises(InvalidValue, match=sentence) as raised:
        origin.locate(FILE, again=False)
    assert "s3cret" not in raised.value.message


def test_a_program_that_is_not_there_is_named(vendor: Path, server: OriginServer) -> None:
    source = exec_source(VendorUri("acme", "models", "llama"), {}, {}, ExecDriver(("/nowhere/driver",)))
    assert "cannot be started: No such file or directory" in refusal(source).message


def test_a_program_that_hangs_is_ended_with_all_that_it_started(vendor: Path, server: OriginServer) -> None:
    # Long enough for an interpreter to start on a busy machine; how long it really takes does not matter.
    error = refusal(source_of(vendor, server, timeout_seconds=15.0, fail="hang"))
    assert isinstance(error, Unavailable)
    assert "after 15 seconds" in error.message
    assert_no_process_is_left(vendor)


def test_what_a_program_leaves_behind_is_ended_and_not_waited_for(vendor: Path, server: OriginServer) -> None:
    assert [file.path for file in list_index(source_of(vendor, server, fail="child"), StopFlag()).files] == ["a"]
    assert_no_process_is_left(vendor)


def test_a_program_that_says_too_much_is_ended(
    vendor: Path, server: OriginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.fetcher.sources.vendor.exec_driver._INDEX_BYTES", 1 << 20)
    assert "says more than 1024 KiB" in refusal(source_of(vendor, server, fail="endless")).message
    assert_no_process_is_left(vendor)


def test_a_program_ends_with_the_process(vendor: Path, server: OriginServer) -> None:
    stop, errors, log = StopFlag(), [], Path(f"{vendor}.requests")

    def listing() -> None:
        try:
            list_index(source_of(vendor, server, timeout_seconds=600.0, fail="hang"), stop)
        except Stopped as stopped:
            errors.append(stopped)

    thread = threading.Thread(target=listing)
    thread.start()
    # Written whole: the program has begun to hang.
    while not (log.exists() and log.read_text().endswith("\n")):
        assert thread.is_alive()
        thread.join(0.01)
    stop.set()
    thread.join()
    assert errors
    assert_no_process_is_left(vendor)


def test_a_large_request_reaches_a_program_that_reads_it_late(vendor: Path, server: OriginServer) -> None:
    secret = {"token": b"x", "certificate": b"y" * (900 << 10)}
    list_index(source_of(vendor, server, secret), StopFlag())
    assert set(requests_of(vendor)[0]["credentials"]) == set(secret)


def test_a_program_need_not_read_its_request() -> None:
    driver = ExecDriver(("/bin/sh", "-c", """echo '{"files": [{"path": "a", "size": 1}]}'"""))
    secret = {"certificate": b"y" * (900 << 10)}
    manifest = list_index(exec_source(VendorUri("acme", "models", "m"), {}, secret, driver), StopFlag())
    assert [file.path for file in manifest.files] == ["a"]
