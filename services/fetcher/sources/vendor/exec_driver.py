"""Runs a vendor's own program to list a model and to find its files. Must not transfer content, and must not retry.

The program is trusted with the credentials of the model and with the fetcher's rights, but not to end, nor to be brief.
docs/guides/vendor-drivers.md describes for vendors what it reads and writes.
"""

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import OrderedDict, defaultdict
from contextlib import suppress
from typing import Any

from libs.artifact.errors import InvalidValue
from libs.artifact.manifest import Manifest, ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Invalid, Missing, ServiceError, Unavailable
from services.fetcher.sources.documents import read_object
from services.fetcher.sources.vendor.index import (
    IndexBuilder,
    manifest_of,
    read_location,
    read_page,
    said_seconds,
)
from services.fetcher.sources.vendor.source import ExecSource
from services.fetcher.stop import StopFlag
from services.fetcher.transfer.addresses import AddressError, split_url
from services.fetcher.transfer.origin import Location

_INDEX_BYTES = 32 << 20
_LOCATION_BYTES = 256 << 10
_READ_BYTES = 256 << 10
_MESSAGE_CHARACTERS = 300
# How often a run looks at the stop flag.
_TICK_SECONDS = 0.25
# Few files are in flight at once; the others are asked for when their turn comes.
_REMEMBERED = 256
# What was refused to several threads at once is renewed once.
_RENEWED_SECONDS = 5.0


def list_index(source: ExecSource, stop: StopFlag) -> Manifest:
    """List the files to fetch. Blocks while the program runs; raises Stopped when the process ends.

    Raises Missing NotFound or Forbidden; Unavailable RateLimited or Unavailable; Invalid InvalidParameter or
    InvalidUri; InvalidValue InvalidListing.
    """
    page = read_page(_ask(source, "list", _INDEX_BYTES, stop), source.name)
    if page.next:
        raise InvalidValue(
            Reason.INVALID_LISTING, f"{source.name}: the vendor's program must answer an index without 'next'"
        )
    builder = IndexBuilder(source.name)
    builder.add(page)
    return manifest_of(builder.index(source.choice), source.name, source.choice)


class ExecOrigin:
    """Files where the program says that they are. An answer is used until half of its life is over or it is refused."""

    def __init__(self, source: ExecSource, revision: str, stop: StopFlag) -> None:
        self.name = source.name
        self._source = source
        self._revision = revision
        self._stop = stop
        self._lock = threading.Lock()
        # One run at a time for a file, whose other threads wait for its answer; files do not wait for each other.
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        # Location, when it was given, and until when it is used, by path.
        self._given: OrderedDict[str, tuple[Location, float, float]] = OrderedDict()

    def locate(self, file: ManifestFile, again: bool) -> Location:
        """The address that the program gives for a file."""
        with self._lock:
            asking = self._asking[file.path]
        with asking:
            location = self._remembered(file, again)
            return location or self._ask(file, again)

    def _remembered(self, file: ManifestFile, again: bool) -> Location | None:
        now = time.monotonic()
        with self._lock:
            if file.path not in self._given:
                return None
            location, given_at, until = self._given[file.path]
        usable = now < until and not (again and now - given_at > _RENEWED_SECONDS)
        return location if usable else None

    def _ask(self, file: ManifestFile, again: bool) -> Location:
        more = {"file": file.path, "revision": self._revision, "again": again}
        answer = _ask(self._source, "locate", _LOCATION_BYTES, self._stop, **more)
        location, seconds = read_location(answer, self._source.name)
        try:
            split_url(location.url)
        except AddressError:
            # Said without the address, which may be a signed one.
            raise InvalidValue(
                Reason.INVALID_LISTING, f"{self.name}: the vendor's program gives {file.path!r} a 'url' that is no URL"
            ) from None
        now = time.monotonic()
        with self._lock:
            self._given[file.path] = location, now, now + (float("inf") if seconds is None else seconds / 2)
            if len(self._given) > _REMEMBERED:
                path, _ = self._given.popitem(last=False)
                self._asking.pop(path, None)
        return location


def _ask(source: ExecSource, verb: str, most_bytes: int, stop: StopFlag, **more: Any) -> dict[str, Any]:
    """What the program answers to one request."""
    status, output = _Run(source, most_bytes, stop).answer(verb, json.dumps(source.request(**more)).encode())
    if status == 0:
        return read_object(output, source.name, "the vendor's program")
    raise _refused(source, status, output)


class _Run:
    """One run of the program, in a process group of its own, of which nothing is left when it is over."""

    def __init__(self, source: ExecSource, most_bytes: int, stop: StopFlag) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._stop = stop
        self._until = time.monotonic() + source.driver.timeout_seconds
        self._output = bytearray()

    def answer(self, verb: str, request: bytes) -> tuple[int, bytes]:
        """Exit status and standard output. What it says on standard error may hold secrets, and nobody reads it."""
        driver = self._source.driver
        environment = {name: os.environ[name] for name in driver.environment if name in os.environ}
        self._stop.check()
        try:
            process = subprocess.Popen(
                (*driver.command, verb),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise self._failed(f"cannot be started: {why}") from error
        try:
            self._converse(process, memoryview(request))
        except OSError as error:
            raise self._failed(f"cannot be spoken to: {error.strerror or error}") from error
        finally:
            _end(process)
        return process.returncode, bytes(self._output)

    def _converse(self, process: "subprocess.Popen[bytes]", request: memoryview) -> None:
        """Write the request and read the answer until the program has ended and its output is read."""
        if process.stdin is None or process.stdout is None:
            raise AssertionError("a program was started without its pipes")
        writing, reading, ended = process.stdin.fileno(), process.stdout.fileno(), os.pidfd_open(process.pid)
        os.set_blocking(writing, False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(writing, selectors.EVENT_WRITE)
                selector.register(reading, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                awaited = {reading, ended}
                while awaited:
                    for key, _ in selector.select(self._next_tick_seconds()):
                        if key.fd == writing:
                            request = self._write(writing, request)
                            done = not request
                        elif key.fd == reading:
                            done = not self._read(reading)
                        else:
                            done = True
                            # What it has left behind must not hold its output open.
                            os.killpg(process.pid, signal.SIGKILL)
                        if done:
                            selector.unregister(key.fd)
                            awaited.discard(key.fd)
                            if key.fd == writing:
                                process.stdin.close()
        finally:
            os.close(ended)

    def _next_tick_seconds(self) -> float:
        self._stop.check()
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._failed(f"was ended after {self._source.driver.timeout_seconds:g} seconds without an answer")
        return min(left, _TICK_SECONDS)

    def _write(self, pipe: int, request: memoryview) -> memoryview:
        try:
            return request[os.write(pipe, request) :]
        except BrokenPipeError:
            # It need not read what it does not need.
            return request[len(request) :]

    def _read(self, pipe: int) -> int:
        data = os.read(pipe, _READ_BYTES)
        self._output += data
        if len(self._output) > self._most_bytes:
            raise self._failed(f"says more than {self._most_bytes >> 10} KiB")
        return len(data)

    def _failed(self, why: str) -> Unavailable:
        return Unavailable(Reason.UNAVAILABLE, f"{self._source.name}: the vendor's program {why}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and whatever it has started, and wait for all of them."""
    # It has not been waited for yet, so its id is still its own and its group's.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with process:
        process.wait()
    # As the first process of a container, the fetcher inherits what a program leaves behind.
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


def _refused(source: ExecSource, status: int, output: bytes) -> ServiceError:
    """The error that a program's exit status stands for, by the words of sysexits.h: shells and option parsers use none
    of these numbers for errors of their own."""
    answer, said = _words(source, output)
    pause = said_seconds(answer)
    match status:
        case os.EX_NOINPUT:
            return Missing(Reason.NOT_FOUND, f"{source.name} does not exist{said}")
        case os.EX_NOPERM:
            return Missing(Reason.FORBIDDEN, f"{source.name} may not be read{said}")
        case os.EX_USAGE:
            return Invalid(
                Reason.INVALID_PARAMETER, f"{source.name}: storageUri or storage.parameters cannot be used{said}"
            )
        case os.EX_UNAVAILABLE:
            return Unavailable(Reason.UNAVAILABLE, f"{source.name}: the vendor cannot be reached{said}", pause)
        case os.EX_TEMPFAIL:
            return Unavailable(Reason.RATE_LIMITED, f"{source.name}: the vendor asks to slow down{said}", pause)
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return Unavailable(Reason.UNAVAILABLE, f"{source.name}: the vendor's program {how}{said}", pause)


def _words(source: ExecSource, output: bytes) -> tuple[dict[str, Any], str]:
    """What the program answers besides failing, and the part of it that is for people."""
    try:
        answer = read_object(output, source.name, "the vendor's program")
    except Unavailable:
        return {}, ""
    message = answer.get("error")
    if not isinstance(message, str):
        return answer, ""
    line = " ".join(source.without_secrets(message).split())
    return answer, f": {''.join(filter(str.isprintable, line))[:_MESSAGE_CHARACTERS]}" if line else ""
