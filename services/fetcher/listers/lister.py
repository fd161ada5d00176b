"""One process for one listing: it confines itself, lists, answers and ends. It is forked from the one in warm.py.

The bounds of memory are the kernel's, on all that the process may write to, native code and its threads included: an
SDK in Rust ends with the process when it gets no more, and Python raises MemoryError. Time is bounded by the resolver,
which kills.
"""

import os
import resource
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

import structlog

from libs.artifact.reasons import Reason
from libs.chassis.errors import Unavailable
from libs.model.problems import is_defect, problem_of
from ome.fetch.v1.fetch_pb2 import Resolution
from services.fetcher.listers.frames import HEADER, Request, declarations, failure, read_request, success
from services.fetcher.settings import ListingSettings
from services.fetcher.sources.admission import Admitted
from services.fetcher.sources.catalogue import Sources
from services.fetcher.store.linux import end_with_parent

# With less left, whatever has failed has most likely failed for want of memory.
_SPARE_BYTES = 4 << 20
_WATCH_SECONDS = 1.0
# Of each further thread. All of it counts as memory, though hardly any is used: four of the usual size are 32 MiB.
_STACK_BYTES = 2 << 20
_log = structlog.get_logger()


def work(connection: socket.socket, parent: int, sources: Sources, settings: ListingSettings) -> NoReturn:
    """List what is asked for on the connection and end this process, whose parent is given."""
    status = 1
    try:
        _confine(connection, settings.listing_memory_bytes)
        if end_with_parent(parent):
            connection.sendall(_answer(connection, sources, settings.listing_memory_bytes))
            status = 0
    except OSError:
        # Nobody waits for the answer.
        status = 0
    finally:
        # Without what else the process that this is a copy of wants done at its end.
        os._exit(status)


def too_large(uri: str, memory_bytes: int, sure: bool = True) -> Unavailable:
    """The error for a listing that takes more memory than it may; or most likely does, as it has ended silently."""
    most = f"more than {memory_bytes >> 20} MiB of memory"
    what = f"takes {most}" if sure else f"ended without an answer, perhaps because it takes {most}"
    return Unavailable(
        Reason.UNAVAILABLE,
        f"listing {uri} {what}: name one model in storageUri; the operator can permit more by "
        "resolver.listingMemoryBytes in the values of the fetcher's chart",
    )


def _confine(connection: socket.socket, memory_bytes: int) -> None:
    # What the parent ignores, a vendor's program should not.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The connections of other listings, and what the parent hears with.
    kept = connection.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    threading.stack_size(_STACK_BYTES)
    most = _data_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    # A thread that finds no memory leaves the others waiting for it, or for what it was to bring.
    threading.excepthook = lambda raised: _end_without_memory(raised.exc_type)
    sys.unraisablehook = lambda raised: _end_without_memory(raised.exc_type)
    _watch_memory(most)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjustment:
        # Should the container's own limit be met, this process goes first.
        adjustment.write("1000")


def _comes_of_memory(error: BaseException | None) -> bool:
    """Whether an error was raised because of, or while handling, a want of memory."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end_without_memory(kind: type[BaseException] | None) -> None:
    # A thread that cannot be started is a RuntimeError.
    if kind is not None and issubclass(kind, MemoryError | RuntimeError):
        os._exit(1)


def _watch_memory(most_bytes: int) -> None:
    """Have MemoryError raised where there is no memory to speak of at two looks in a row.

    The hooks end the process at once, but there may be none left for them, either; and then whoever waits for the
    thread that has failed waits in vain.
    """
    scarce = False

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal scarce
        before, scarce = scarce, _data_bytes() > most_bytes - _SPARE_BYTES
        if scarce and before:
            raise MemoryError

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _WATCH_SECONDS, _WATCH_SECONDS)


def _declarations(request: Request, sources: Sources, admitted: Admitted, started: float) -> bytes:
    """What a plan wants to be told besides. It waits for the whole answer, so what takes too long is left out."""
    left = request.declared_seconds - (time.monotonic() - started)
    if left <= 0:
        return declarations(())
    found = sources.declared(
        request.uri,
        request.parameters,
        request.credentials,
        admitted.manifest,
        request.schema_path,
        left,
        request.namespaced,
    )
    return declarations(found)


def _data_bytes() -> int:
    """What counts against RLIMIT_DATA already: the copy of the parent's memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) << 10


def _answer(connection: socket.socket, sources: Sources, memory_bytes: int) -> bytes:
    with connection.makefile("rb") as stream:
        _, length = HEADER.unpack(stream.read(HEADER.size))
        request = read_request(stream.read(length))
    started = time.monotonic()
    try:
        admitted = sources.list(request.uri, request.parameters, request.credentials, request.namespaced)
        answer = success(request.uri, admitted)
        return answer + _declarations(request, sources, admitted, started) if request.declared_seconds else answer
    except MemoryError:
        error: Exception = too_large(request.uri, memory_bytes)
    except Exception as raised:  # The work item's boundary: the answer says what went wrong.
        scarce = _data_bytes() > resource.getrlimit(resource.RLIMIT_DATA)[0] - _SPARE_BYTES
        error = too_large(request.uri, memory_bytes) if scarce or _comes_of_memory(raised) else raised
        if is_defect(error):
            _log.error("listing_failed", source=request.uri, exc_info=raised)
    resolution = Resolution(problem=problem_of(error, "fetcher"))
    now = time.time()
    resolution.resolved_at.FromMilliseconds(int(now * 1000))
    if isinstance(error, Unavailable) and error.retry_after_seconds:
        resolution.problem.retry_at.FromMilliseconds(int((now + error.retry_after_seconds) * 1000))
    return failure(resolution)
