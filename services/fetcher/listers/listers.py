"""Has sources listed, each by a process of its own that takes a bounded part of memory and time. For the resolver.

Must not trust what such a process answers: it has read what a stranger wrote.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import structlog

from libs.artifact.reasons import Reason
from libs.artifact.uri import syntax_of
from libs.chassis.errors import Unavailable
from libs.chassis.settings import environment_of
from services.fetcher.listers.frames import (
    DECLARATIONS,
    HEADER,
    MANIFEST,
    MOST_BYTES,
    RESOLUTION,
    FrameError,
    Listed,
    Request,
    read_listed,
    read_resolution,
)
from services.fetcher.listers.lister import too_large
from services.fetcher.settings import ListingSettings

# Of the process that others are forked from, when everything that it has started must be killed.
_END_SECONDS = 10.0
_READ_BYTES = 256 << 10
_log = structlog.get_logger()


class Listers:
    """Lists sources by processes. Usable as a context manager; at its end nothing is left of them."""

    def __init__(self, settings: ListingSettings, parallel: int) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="lister")
        self._lock = threading.Lock()
        self._warm: _Warm | None = None

    def __enter__(self) -> "Listers":
        # Before the first listing needs it.
        self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        if self._warm:
            self._warm.end()

    async def list(
        self,
        uri: str,
        parameters: Mapping[str, str],
        credentials: Mapping[str, bytes],
        namespaced: bool,
        declared_seconds: float = 0.0,
        schema_path: str = "",
    ) -> Listed:
        """List a source: the files of the revision that it has now. A cancellation ends the process that lists.

        For so many seconds after it has begun, the process also reads what the parser is to be given, with the
        configuration at schema_path.
        Raises InvalidValue for a URI that cannot be used, else the ServiceError that listing it fails with.
        """
        request = Request(uri, parameters, credentials, namespaced, declared_seconds, schema_path)
        scheme = syntax_of(uri).scheme
        ours, theirs = socket.socketpair()
        with ours:
            listing = asyncio.get_running_loop().run_in_executor(
                self._executor, self._list, request, scheme, ours, theirs
            )
            try:
                return await asyncio.shield(listing)
            except asyncio.CancelledError:
                # Whoever reads it is told that there is no more, and kills.
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                await asyncio.wait([listing])
                # Its error is that of the broken connection, if there is one.
                listing.exception()
                raise

    def _list(self, request: Request, scheme: str, ours: socket.socket, theirs: socket.socket) -> Listed:
        until = time.monotonic() + self._settings.listing_seconds
        with theirs:
            frame = request.frame()
            self._started().ask(request.uri, scheme, theirs)
        try:
            return _converse(ours, frame, until, bool(request.declared_seconds))
        except TimeoutError:
            raise Unavailable(
                Reason.UNAVAILABLE,
                f"listing {request.uri} took longer than {self._settings.listing_seconds:g} seconds: the source "
                "answers too slowly, or holds too many files; the operator can permit more by resolver.listingSeconds "
                "in the values of the fetcher's chart",
            ) from None
        except (OSError, FrameError):
            raise too_large(request.uri, self._settings.listing_memory_bytes, sure=False) from None

    def _started(self) -> "_Warm":
        """The process to fork from; another one when it has ended, as no process should."""
        with self._lock:
            if self._warm is None or self._warm.has_ended():
                if self._warm:
                    self._warm.end()
                    _log.error("lister_started_again")
                self._warm = _Warm(self._settings)
            return self._warm


class _Warm:
    """The process that forks for us."""

    def __init__(self, settings: ListingSettings) -> None:
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                # -P: what lies in the working directory is not for Python.
                [sys.executable, "-P", "-m", "services.fetcher", "lister"],
                stdin=theirs.fileno(),
                env={
                    **os.environ,
                    # A program that was unpacked in some way of its own finds itself by this.
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # A listing waits for one answer at a time; a thread per core would count against its memory.
                    "TOKIO_WORKER_THREADS": "2",
                    **environment_of(ListingSettings, settings),
                },
            )

    def has_ended(self) -> bool:
        """Whether there is no process any more."""
        return self._process.poll() is not None

    def ask(self, uri: str, scheme: str, connection: socket.socket) -> None:
        """Have a process forked for the other end of a connection. Raises Unavailable."""
        try:
            socket.send_fds(self._control, [scheme.encode()], [connection.fileno()])
        except OSError as error:
            raise Unavailable(
                Reason.UNAVAILABLE, f"{uri} cannot be listed now: the process that lists has ended"
            ) from error

    def end(self) -> None:
        """End it and everything that it has forked."""
        self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _converse(connection: socket.socket, frame: bytes, until: float, declared: bool) -> Listed:
    """Ask the process at the other end, and read its answer. It has ended when this returns.

    Raises what listing has failed with; TimeoutError, FrameError or another OSError when there is no answer, or too
    much of it.
    """
    connection.settimeout(_left(until))
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not descriptors:
        raise FrameError
    [process] = descriptors
    try:
        connection.sendall(frame)
        resolution = read_resolution(_read_frame(connection, RESOLUTION, until))
        manifest = _read_frame(connection, MANIFEST, until)
        files = _read_frame(connection, DECLARATIONS, until) if declared else b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        ended = select.poll()
        ended.register(process, select.POLLIN)
        ended.poll()
        os.close(process)
    return read_listed(resolution, manifest, files)


def _read_frame(connection: socket.socket, kind: bytes, until: float) -> bytes:
    found, length = HEADER.unpack(_read(connection, HEADER.size, until))
    if found != kind or length > MOST_BYTES[kind]:
        raise FrameError
    return _read(connection, length, until)


def _read(connection: socket.socket, length: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < length:
        connection.settimeout(_left(until))
        part = connection.recv(min(length - len(data), _READ_BYTES))
        if not part:
            raise FrameError
        data += part
    return bytes(data)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
