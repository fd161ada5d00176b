"""Files of a Hugging Face repository from Xet storage, by a process that is killed when nobody wants them any more.

Owns that process: what it is told, its environment and its end. Must not verify or write files.
"""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from libs.artifact.manifest import ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.sources.hub import xet
from services.fetcher.sources.hub.source import HubSource, Transport
from services.fetcher.sources.hub.xet import DATA, END, FAILED, FAILURES, FRAME, Opening, Wanted
from services.fetcher.sources.trust import bundle_of_all
from services.fetcher.transfer.passage import Passage

# What the process needs of the environment. Nothing else passes: variables of the fetcher's own, or of somebody who
# tunes the SDK elsewhere, must not change what it does here.
_PASSED = frozenset(
    name
    for word in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "path", "lang")
    for name in (word, word.upper())
)
_TICK_SECONDS = 0.25
_PIPE_BYTES = 1 << 20


class XetStreams:
    """The large files of one commit, for the transfer engine."""

    def __init__(
        self, source: HubSource, commit: str, patience_seconds: float = 300.0, attempts: int = 3, backoff: float = 1.0
    ) -> None:
        """The last three bound how long a storage that does not answer is waited for: silence, requests, and pauses."""
        self.name = f"{source.name} over Xet"
        self.preferred = source.transport is Transport.XET
        self._source = source
        self._commit = commit
        self._patience_seconds = patience_seconds
        self._attempts = attempts
        self._backoff_seconds = backoff

    @contextmanager
    def open(self, directory: Path, check: Callable[[], None]) -> Iterator["XetStream"]:
        """Ask the hub what lies in Xet storage, and start the process. Raises what the listing raises."""
        # Imported when it is first needed: it takes tens of megabytes and a good part of a second.
        from services.fetcher.sources.hub.huggingface import xet_hashes

        hashes = xet_hashes(self._source, self._commit)
        check()
        source = self._source
        url = f"{source.endpoint}/api/models/{source.repository}/xet-read-token/{quote(self._commit, safe='')}"
        headers = {"Authorization": f"Bearer {source.token}"} if source.token else {}
        opening = Opening(url, os.getpid(), headers, self._attempts, self._backoff_seconds)
        process = _start(directory, source.passage) if hashes else None
        stream = XetStream(self.name, process, opening, hashes, check, self._patience_seconds, source.passage)
        try:
            yield stream
        finally:
            if process:
                process.kill()
                process.communicate()


class XetStream:
    """A conversation with the process."""

    def __init__(
        self,
        name: str,
        process: "subprocess.Popen[bytes] | None",
        opening: Opening,
        hashes: dict[tuple[str, str], str],
        check: Callable[[], None],
        patience_seconds: float,
        passage: Passage | None = None,
    ) -> None:
        self._name = name
        self._process = process
        self._unsent = opening.line()
        self._hashes = hashes
        self._check = check
        self._patience_seconds = patience_seconds
        self._passage = passage
        self._path = ""
        # Bytes of the current frame that are not read yet.
        self._left = 0

    def offers(self, file: ManifestFile) -> bool:
        """Whether the file lies in Xet storage with the content that the manifest asks for."""
        return (file.path, file.checksum) in self._hashes

    def begin(self, file: ManifestFile, offset: int) -> None:
        """Ask for a file from an offset on."""
        self._path = file.path
        wanted = Wanted(self._hashes[file.path, file.checksum], file.size_bytes, offset)
        line, self._unsent = self._unsent + wanted.line(), b""
        stdin = self._running().stdin
        try:
            if stdin:
                stdin.write(line)
                stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def receive(self, view: memoryview) -> int:
        """Fill view from the frames of the current file. Raises Unavailable or Missing, and what check raises."""
        done = 0
        while done < len(view):
            if not self._left and not self._next_frame():
                break
            count = self._read(view[done : done + min(self._left, len(view) - done)])
            self._left -= count
            done += count
        return done

    def _next_frame(self) -> bool:
        """Go on to the next frame; False at the end of the file."""
        head = bytearray(FRAME.size)
        self._read_all(memoryview(head))
        kind, length = FRAME.unpack(head)
        if kind == DATA:
            self._left = length
            return True
        if kind == END:
            return False
        word = bytearray(length if kind == FAILED else 0)
        self._read_all(memoryview(word))
        failure = FAILURES.get(word.decode(errors="replace"), FAILURES["broken"])
        problem = self._passage.problem(f"{self._name}: {self._path}") if self._passage else None
        if problem:
            raise problem
        message = f"{self._name}: {self._path}: the storage {failure}"
        if failure == FAILURES["missing"]:
            raise Missing(Reason.NOT_FOUND, message)
        raise Unavailable(Reason.UNAVAILABLE, message)

    def _read_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += self._read(view[done:])

    def _read(self, view: memoryview) -> int:
        stdout = self._running().stdout
        if stdout is None:
            raise self._died()
        deadline = time.monotonic() + self._patience_seconds
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        while not poll.poll(_TICK_SECONDS * 1000):
            self._check()
            if time.monotonic() > deadline:
                raise Unavailable(
                    Reason.UNAVAILABLE,
                    f"{self._name}: {self._path}: nothing came for {self._patience_seconds:g} seconds",
                )
        self._check()
        count = os.readv(stdout.fileno(), [view])
        if not count:
            raise self._died()
        return count

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise self._died()
        return self._process

    def _died(self) -> Unavailable:
        return Unavailable(Reason.UNAVAILABLE, f"{self._name}: {self._path}: the process that reads it has ended")


def _start(directory: Path, passage: Passage | None) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name in _PASSED}
    if passage:
        # The gate knows of the operator's proxies.
        environment = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), passage.url)
    # The way in which this process found its modules: a path, a virtual environment, an archive.
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": str(directory)}
    # Logs and the skeleton of a cache are written there; chunks are not kept, as the SDK's default for that is zero.
    environment |= {"HF_HOME": str(directory), "TMPDIR": str(directory)}
    if authorities := bundle_of_all():
        environment["SSL_CERT_FILE"] = authorities
    try:
        process = subprocess.Popen(
            # -P: what lies in the working directory is not for Python.
            [sys.executable, "-P", "-m", xet.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # It may quote signed addresses.
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env=environment,
            bufsize=0,
        )
    except OSError as error:
        raise Unavailable(
            Reason.UNAVAILABLE, f"the reader of Xet cannot be started: {error.strerror or error}"
        ) from error
    if process.stdout:
        # Only a matter of speed: the system's limit for pipes may be lower.
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process
